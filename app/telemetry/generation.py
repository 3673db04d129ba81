"""What one request for generated text says of itself: attributes of its span, and points of the histograms.

Knows nothing of engines, wires or receipts: plain values come in. While the OTEL_* variables ask for nothing, no module
of OpenTelemetry is imported and `note` returns at once.

    meter = GenerationMeter()
    for name, value in span_attributes(asked).items(): span.set(name, value)
    meter.note(asked, Served(...))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.domain.generation import Sampling
from app.telemetry.environment import push_protocol
from app.telemetry.generation_table import (
    DURATION,
    ENERGY,
    ENERGY_PER_TOKEN,
    FIRST_TOKEN,
    GENERATION_METRICS,
    PROVIDER,
    TOKEN_TIME,
    TOKENS,
    HistogramMetric,
)
from app.telemetry.tracing import AttributeValue

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.sdk.metrics import MeterProvider

Operation = Literal["chat", "text_completion", "embeddings"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants, as far as telemetry tells it. None and empty: not said."""

    operation: Operation
    request_model: str
    response_model: str
    stream: bool = False
    choices: int = 1
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        operation: Operation,
        request_model: str,
        response_model: str,
        choices: int,
        sampling: Sampling,
        stream: bool,
    ) -> "Asked":
        """A request whose sequences are generated as `sampling` says."""
        return cls(
            operation, request_model, response_model, stream, choices, sampling.max_tokens, sampling.temperature,
            sampling.top_p, sampling.top_k, sampling.seed, sampling.stop,
        )  # fmt: skip


@dataclass(slots=True)
class Served:
    """What became of it."""

    duration_s: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    first_token_s: float | None = None
    finish_reasons: tuple[str, ...] = ()
    response_id: str = ""
    prefill_uj: int | None = None
    """None: nobody told."""
    decode_uj: int | None = None
    error_type: str = ""


def span_name(asked: Asked) -> str:
    """As the conventions have it: `chat pycoder`."""
    return f"{asked.operation} {asked.request_model}"


def request_attributes(asked: Asked) -> dict[str, AttributeValue]:
    """Of a span, known when the request is."""
    said: dict[str, AttributeValue | None] = {
        "gen_ai.request.max_tokens": asked.max_tokens,
        "gen_ai.request.temperature": asked.temperature,
        "gen_ai.request.top_p": asked.top_p,
        "gen_ai.request.top_k": asked.top_k or None,
        "gen_ai.request.seed": asked.seed,
        "gen_ai.request.stop_sequences": asked.stop or None,
        "gen_ai.request.choice.count": asked.choices if asked.choices != 1 else None,
        "gen_ai.request.stream": True if asked.stream else None,
    }
    return _shared(asked) | {name: value for name, value in said.items() if value is not None}


def response_attributes(served: Served) -> dict[str, AttributeValue]:
    """Of a span, known at the end."""
    said: dict[str, AttributeValue | None] = {
        "gen_ai.response.id": served.response_id or None,
        "gen_ai.response.finish_reasons": served.finish_reasons or None,
        "gen_ai.response.time_to_first_chunk": served.first_token_s,
        "gen_ai.usage.input_tokens": served.input_tokens,
        "gen_ai.usage.output_tokens": served.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": served.cached_tokens or None,
        "error.type": served.error_type or None,
        "joulekeeper.prefill_uj": served.prefill_uj,
        "joulekeeper.decode_uj": served.decode_uj,
    }
    return {name: value for name, value in said.items() if value is not None}


class GenerationMeter:
    """The histograms of one process. Safe from several threads."""

    def __init__(self, provider: "MeterProvider | None" = None) -> None:
        """`provider` None: what the OTEL_* variables ask for, which may be nothing."""
        self._provider = provider or _asked_provider()
        self._histograms: dict[str, Histogram] = {}
        if self._provider is not None:
            meter = self._provider.get_meter("joulekeeper")
            self._histograms = {
                metric.name: meter.create_histogram(
                    metric.name,
                    metric.unit,
                    metric.description,
                    explicit_bucket_boundaries_advisory=list(metric.boundaries),
                )
                for metric in GENERATION_METRICS
            }

    def note(self, asked: Asked, served: Served) -> None:
        """Count one request."""
        if not self._histograms:
            return
        shared = {name: str(value) for name, value in _shared(asked).items()}
        error = {"error.type": served.error_type} if served.error_type else {}
        self._record(DURATION, served.duration_s, shared | error)
        self._record(TOKENS, served.input_tokens, shared | {"gen_ai.token.type": "input"})
        self._record(TOKENS, served.output_tokens, shared | {"gen_ai.token.type": "output"})
        for phase, energy_uj in (("prefill", served.prefill_uj), ("decode", served.decode_uj)):
            if energy_uj is not None:
                self._record(ENERGY, energy_uj / 1e6, shared | {"joulekeeper.phase": phase})
        if not served.error_type:
            self._note_success(served, shared)

    def close(self) -> None:
        """Push what is left."""
        if self._provider is not None:
            self._provider.shutdown()

    def _note_success(self, served: Served, shared: Mapping[str, str]) -> None:
        if served.first_token_s is not None:
            self._record(FIRST_TOKEN, served.first_token_s, shared)
            if served.output_tokens > 1:
                rest_s = served.duration_s - served.first_token_s
                self._record(TOKEN_TIME, rest_s / (served.output_tokens - 1), shared)
        if served.output_tokens and served.prefill_uj is not None and served.decode_uj is not None:
            energy_j = (served.prefill_uj + served.decode_uj) / 1e6
            self._record(ENERGY_PER_TOKEN, energy_j / served.output_tokens, shared)

    def _record(self, metric: HistogramMetric, value: float, attributes: Mapping[str, str]) -> None:
        self._histograms[metric.name].record(value, attributes)


def _shared(asked: Asked) -> dict[str, AttributeValue]:
    return {
        "gen_ai.operation.name": asked.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": asked.request_model,
        "gen_ai.response.model": asked.response_model,
    }


def _asked_provider() -> "MeterProvider | None":
    protocol = push_protocol("metrics")
    if protocol is None:
        return None
    from app.telemetry.histograms import pushing_provider

    return pushing_provider(protocol)
