"""Recorded spans. Imports OpenTelemetry: only `tracing` imports this, and only when spans are wanted."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.errors import JoulekeeperError
from app.telemetry.environment import Protocol
from app.telemetry.resource import process_resource

_W3C = TraceContextTextMapPropagator()


class RecordedSpan:
    """A server span that ends with its block."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._fail(error)
        self._span.end()

    @property
    def is_recording(self) -> bool:
        return self._span.is_recording()

    def set(self, name: str, value: str | bool | int | float | Sequence[str]) -> None:
        self._span.set_attribute(name, value)

    @property
    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, set_span_in_context(self._span))
        return carrier

    def _fail(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__name__)
        if not (isinstance(error, JoulekeeperError) and error.http_status < 500):
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR, str(error))


class Recorder:
    """Starts spans and hands them in batches to `exporter` (OTEL_BSP_*, OTEL_TRACES_SAMPLER apply)."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(resource=process_resource())
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("joulekeeper")

    def start(self, name: str, trace_context: dict[str, str]) -> RecordedSpan:
        """A server span, child of `trace_context` if that is valid."""
        # From an empty context: whatever span this thread is in, a request belongs to its caller's trace.
        parent = _W3C.extract(trace_context, Context())
        return RecordedSpan(self._tracer.start_span(name, context=parent, kind=SpanKind.SERVER))

    def flush(self) -> None:
        # The SDK's own time limit for a flush is not kept by its exporters.
        self._provider.force_flush()

    def close(self) -> None:
        self._provider.shutdown()


def otlp_recorder(protocol: Protocol) -> Recorder:
    """Endpoint, headers, certificates, compression and timeout come from OTEL_EXPORTER_OTLP_*."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return Recorder(OTLPSpanExporter())
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return Recorder(OverHttp())
