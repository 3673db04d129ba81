"""An exporter of metrics that says since when cumulative figures count, where that is before this process began.

OpenTelemetry's SDK dates every sum from the creation of its instrument. A meter that goes on counting where its
predecessor stopped must keep the first one's start time: with another, receivers take all that was counted for new.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)


class Dated(MetricExporter):
    """`exporter` with every sum dated from `since_ns()`, Unix nanoseconds."""

    def __init__(self, exporter: MetricExporter, since_ns: Callable[[], int]) -> None:
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,
            preferred_aggregation=exporter._preferred_aggregation,
        )
        self._exporter, self._since_ns = exporter, since_ns

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        since_ns = self._since_ns()
        resources = [_resource(each, since_ns) for each in metrics_data.resource_metrics]
        return self._exporter.export(MetricsData(resource_metrics=resources), timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._exporter.shutdown(timeout_millis, **kwargs)


def _resource(metrics: ResourceMetrics, since_ns: int) -> ResourceMetrics:
    return replace(metrics, scope_metrics=[_scope(scope, since_ns) for scope in metrics.scope_metrics])


def _scope(scope: ScopeMetrics, since_ns: int) -> ScopeMetrics:
    return replace(scope, metrics=[_metric(metric, since_ns) for metric in scope.metrics])


def _metric(metric: Metric, since_ns: int) -> Metric:
    if not isinstance(metric.data, Sum):
        return metric
    points = [replace(point, start_time_unix_nano=since_ns) for point in metric.data.data_points]
    return replace(metric, data=replace(metric.data, data_points=points))
