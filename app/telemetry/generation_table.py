"""The table of metrics of text generation: histograms over requests, pushed by the replica that served them.

Knows nothing of OpenTelemetry's SDK. Names, units, attributes and boundaries of `gen_ai.*` are those of OpenTelemetry's
semantic conventions for generative AI (status: development; opentelemetry-semantic-conventions 0.66b2 and
github.com/open-telemetry/semantic-conventions-genai, read 2026-11-22). Energy has no convention and our own names.
"""

from dataclasses import dataclass

PROVIDER = "joulekeeper"
"""`gen_ai.provider.name`: none of the conventions' own values is a server of one's own models."""

_OF_REQUEST = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**power) for power in range(14))
_JOULES = tuple(10.0**power for power in range(-3, 6))
_JOULES_PER_TOKEN = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, slots=True)
class HistogramMetric:
    """One row of the table."""

    name: str
    unit: str
    """UCUM."""
    description: str
    attributes: tuple[str, ...]
    boundaries: tuple[float, ...]
    meaning: str = ""
    standard: bool = False


DURATION = HistogramMetric(
    name="gen_ai.server.request.duration",
    unit="s",
    description="Generative AI server request duration such as time-to-last byte or last output token.",
    attributes=(*_OF_REQUEST, "error.type"),
    boundaries=_SECONDS,
    meaning="`error.type` is the class of the refusal or failure, `cancelled` where the client left.",
    standard=True,
)
FIRST_TOKEN = HistogramMetric(
    name="gen_ai.server.time_to_first_token",
    unit="s",
    description="Time to generate first token for successful responses.",
    attributes=_OF_REQUEST,
    boundaries=_FIRST_TOKEN_SECONDS,
    meaning="Waiting for a place included.",
    standard=True,
)
TOKEN_TIME = HistogramMetric(
    name="gen_ai.server.time_per_output_token",
    unit="s",
    description="Time per output token generated after the first token for successful responses.",
    attributes=_OF_REQUEST,
    boundaries=_TOKEN_SECONDS,
    standard=True,
)
TOKENS = HistogramMetric(
    name="gen_ai.client.token.usage",
    unit="{token}",
    description="Number of input and output tokens used.",
    attributes=(*_OF_REQUEST, "gen_ai.token.type"),
    boundaries=_TOKENS,
    meaning="The conventions have no name of a server's own for it. Clients that are instrumented themselves send it, "
    "too: tell them apart by `service.name`.",
    standard=True,
)
ENERGY = HistogramMetric(
    name="joulekeeper.generation.energy",
    unit="J",
    description="Energy of a request by phase, as its answer told it.",
    attributes=(*_OF_REQUEST, "joulekeeper.phase"),
    boundaries=_JOULES,
    meaning="`joulekeeper.phase`: `prefill` or `decode`. Provisional; the settled sum is `joulekeeper.energy`.",
)
ENERGY_PER_TOKEN = HistogramMetric(
    name="joulekeeper.generation.energy_per_token",
    unit="J/{token}",
    description="Energy of a request over the tokens it generated.",
    attributes=_OF_REQUEST,
    boundaries=_JOULES_PER_TOKEN,
    meaning="Both phases; provisional.",
)

GENERATION_METRICS = (DURATION, FIRST_TOKEN, TOKEN_TIME, TOKENS, ENERGY, ENERGY_PER_TOKEN)
