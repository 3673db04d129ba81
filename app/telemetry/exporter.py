"""Metrics out: pushed by OTLP where the OTEL_* variables ask for it, and as text for a Prometheus endpoint.

Knows nothing of what the figures mean: the table in `instruments` does. Each collection, pushed or scraped, reads
one snapshot, so the figures of one export belong to one instant.

    exporter = MetricsExporter(snapshot)     # snapshot: () -> LedgerSnapshot
    exporter.exposition()                    # answer to GET /metrics, with EXPOSITION_CONTENT_TYPE
    exporter.close()
"""

import logging
import threading
from collections.abc import Callable, Iterable

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import (
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
)
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from app.telemetry.environment import Protocol, push_protocol
from app.telemetry.instruments import METRICS, Metric
from app.telemetry.resource import process_resource
from app.telemetry.snapshot import LedgerSnapshot, SnapshotSource

EXPOSITION_CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Content type of `MetricsExporter.exposition()`."""

_log = logging.getLogger(__name__)

# The SDK folds what exceeds its limit (2000 by default) into one overflow point and so loses the labels. The
# number of accounts is bounded by what was served and trained, not by requests: let them all through.
_MAX_POINTS = 1_000_000
_CARDINALITY: dict[type, int] = {
    ObservableCounter: _MAX_POINTS,
    ObservableUpDownCounter: _MAX_POINTS,
    ObservableGauge: _MAX_POINTS,
}

# gRPC receivers refuse messages above 4 MiB unless told otherwise; a full point takes about 400 bytes.
_POINTS_PER_MESSAGE = 5_000


class MetricsExporter:
    """Exports what `source` returns. Thread-safe; one per process that keeps books."""

    def __init__(self, source: SnapshotSource) -> None:
        self._snapshots = _SnapshotCache(source)
        self._registry = CollectorRegistry()
        self._scrape_lock = threading.Lock()
        # Scope labels would repeat one constant on every line.
        scraped = PrometheusMetricReader(
            registry=self._registry, scope_info_enabled=False, cardinality_limits=_CARDINALITY
        )
        readers: list[MetricReader] = [scraped]
        self._push: PeriodicExportingMetricReader | None = None
        protocol = push_protocol("metrics")
        if protocol is not None:
            self._push = PeriodicExportingMetricReader(_otlp_exporter(protocol), cardinality_limits=_CARDINALITY)
            readers.append(self._push)
        self._provider = MeterProvider(metric_readers=readers, resource=process_resource())
        meter = self._provider.get_meter("joulekeeper")
        for metric in METRICS:
            _register(meter, metric, self._snapshots)

    def exposition(self) -> str:
        """All metrics in Prometheus' text format. Raises whatever the source of snapshots raises."""
        with self._scrape_lock:
            self._snapshots.refresh()
            return generate_latest(self._registry).decode()

    def flush(self) -> None:
        """Push now, where pushing is configured; waits up to OTEL_EXPORTER_OTLP_TIMEOUT. Failures are logged."""
        # Not the provider's flush: that collects for the scraped reader too, which then shows every point twice.
        if self._push is not None:
            self._push.force_flush()

    def close(self, timeout_s: float = 10.0) -> None:
        """Push what is left and stop. The exporter cannot be used afterwards."""
        self._provider.shutdown(timeout_millis=timeout_s * 1000)


class _SnapshotCache:
    """One snapshot per collection, though a collection calls every instrument on its own.

    An instrument that asks a second time shows that another collection has begun.
    """

    def __init__(self, source: SnapshotSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._current = LedgerSnapshot()
        self._served: set[str] = set()
        self._stale = True

    def refresh(self) -> None:
        """Take a new snapshot. Raises what the source raises."""
        with self._lock:
            self._take()

    def read(self, name: str) -> LedgerSnapshot:
        """The snapshot of this collection, for the instrument `name`; empty where the source fails."""
        with self._lock:
            if self._stale or name in self._served:
                self._take_or_empty()
            self._served.add(name)
            return self._current

    def _take(self) -> None:
        self._current, self._served, self._stale = self._source(), set(), False

    def _take_or_empty(self) -> None:
        try:
            self._take()
        except Exception:
            # A collection that cannot be filled is empty; the next one tries again.
            _log.exception("no snapshot of the books for this export of metrics")
            self._current, self._served, self._stale = LedgerSnapshot(), set(), False


def _register(meter: Meter, metric: Metric, snapshots: _SnapshotCache) -> None:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for value, attributes in metric.read(snapshots.read(metric.name)):
            yield Observation(value, attributes)

    create: dict[str, Callable[..., object]] = {
        "counter": meter.create_observable_counter,
        "updowncounter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }
    create[metric.kind](metric.name, callbacks=[observe], unit=metric.unit, description=metric.description)


def _otlp_exporter(protocol: Protocol) -> MetricExporter:
    """Endpoint, headers, certificates, compression and timeout come from OTEL_EXPORTER_OTLP_*."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter(max_export_batch_size=_POINTS_PER_MESSAGE)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as OverHttp

    return OverHttp(max_export_batch_size=_POINTS_PER_MESSAGE)
