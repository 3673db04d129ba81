"""Metrics out: pushed by OTLP where the OTEL_* variables ask for it, and as text for a Prometheus endpoint.

Knows nothing of what the figures mean: the table in `instruments` does. Each collection, pushed or scraped, reads
one snapshot, so the figures of one export belong to one instant.

    exporter = MetricsExporter(snapshot)     # snapshot: () -> LedgerSnapshot
    exporter.exposition()                    # answer to GET /metrics, with EXPOSITION_CONTENT_TYPE
    exporter.close()
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import (
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from app.telemetry.dated import Dated
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

# The first difference of a process would be all that was ever booked: what continues a series must be cumulative.
_CUMULATIVE: dict[type, AggregationTemporality] = dict.fromkeys(
    (ObservableCounter, ObservableUpDownCounter, ObservableGauge), AggregationTemporality.CUMULATIVE
)

# gRPC receivers refuse messages above 4 MiB unless told otherwise; a full point takes about 400 bytes.
_POINTS_PER_MESSAGE = 5_000


class MetricsExporter:
    """Shows what `source` returns to Prometheus, and pushes the metrics `pushed`. Thread-safe; one per process."""

    def __init__(self, source: SnapshotSource, pushed: Sequence[Metric] = METRICS) -> None:
        self._snapshots = _SnapshotCache(source)
        self._registry = CollectorRegistry()
        self._scrape_lock = threading.Lock()
        # Scope labels would repeat one constant on every line.
        scraped = PrometheusMetricReader(
            registry=self._registry, scope_info_enabled=False, cardinality_limits=_CARDINALITY
        )
        self._provider = _provider(scraped, METRICS, self._snapshots, process_resource())
        self._push = MetricsPush(source, pushed)

    def exposition(self) -> str:
        """All metrics in Prometheus' text format. Raises whatever the source of snapshots raises."""
        with self._scrape_lock:
            self._snapshots.refresh()
            return generate_latest(self._registry).decode()

    def flush(self) -> None:
        """See MetricsPush.flush."""
        self._push.flush()

    def close(self, timeout_s: float = 10.0) -> None:
        """Push what is left and stop. The exporter cannot be used afterwards."""
        self._push.close(timeout_s)
        self._provider.shutdown(timeout_millis=timeout_s * 1000)


class MetricsPush:
    """Pushes metrics of `source` by OTLP where the OTEL_* variables ask for it, and does nothing where they do not.

    `resource` names the sender; `since_ns`, Unix nanoseconds, is what cumulative figures count from, where that lies
    before this process.
    """

    def __init__(
        self,
        source: SnapshotSource,
        metrics: Sequence[Metric],
        resource: Mapping[str, str] | None = None,
        since_ns: Callable[[], int] | None = None,
    ) -> None:
        self._reader: PeriodicExportingMetricReader | None = None
        self._provider: MeterProvider | None = None
        protocol = push_protocol("metrics")
        if protocol is not None:
            exporter = _otlp_exporter(protocol)
            self._reader = PeriodicExportingMetricReader(
                Dated(exporter, since_ns) if since_ns else exporter, cardinality_limits=_CARDINALITY
            )
            self._provider = _provider(self._reader, metrics, _SnapshotCache(source), process_resource(resource))

    def flush(self) -> None:
        """Push now, where pushing is configured; waits up to OTEL_EXPORTER_OTLP_TIMEOUT. Failures are logged."""
        if self._reader is not None:
            self._reader.force_flush()

    def close(self, timeout_s: float = 10.0) -> None:
        """Push what is left and stop."""
        if self._provider is not None:
            self._provider.shutdown(timeout_millis=timeout_s * 1000)


def _provider(
    reader: MetricReader, metrics: Sequence[Metric], snapshots: "_SnapshotCache", resource: Resource
) -> MeterProvider:
    provider = MeterProvider(metric_readers=[reader], resource=resource)
    meter = provider.get_meter("joulekeeper")
    for metric in metrics:
        _register(meter, metric, snapshots)
    return provider


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

        return OTLPMetricExporter(max_export_batch_size=_POINTS_PER_MESSAGE, preferred_temporality=_CUMULATIVE)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as OverHttp

    return OverHttp(max_export_batch_size=_POINTS_PER_MESSAGE, preferred_temporality=_CUMULATIVE)
