"""A provider that pushes what a serving process measures itself. Imports OpenTelemetry: only where a push is wanted."""

import uuid

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader

from app.telemetry.environment import Protocol
from app.telemetry.resource import process_resource


def pushing_provider(protocol: Protocol) -> MeterProvider:
    """Endpoint, interval, temporality and the rest come from OTEL_*; each process is an instance of its own."""
    instance = {"service.instance.id": str(uuid.uuid4())}
    reader = PeriodicExportingMetricReader(_exporter(protocol))
    return MeterProvider(metric_readers=[reader], resource=process_resource(instance))


def _exporter(protocol: Protocol) -> MetricExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as OverHttp

    return OverHttp()
