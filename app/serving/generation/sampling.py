"""How a request of the Open Inference Protocol says how to generate: its parameters, by OpenAI's names.

Knows nothing of wires: parameters come as names and values. Raises InvalidInput naming every fault.

    request = SamplingParameters.read({"max_tokens": 64, "temperature": 0, "stop": "\\n\\n"})
    request.sampling(limits, prompt_tokens=12)
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.domain.generation import Sampling
from app.errors import InvalidInput
from app.protocol.sampling import MAX_STOPS, SEED, TEMPERATURE, TOP_K, TOP_P, USUAL_TOKENS, ModelLimits, Wish

_OF_THE_PROTOCOL = frozenset(
    {"binary_data_output", "priority", "timeout", "sequence_id", "sequence_start", "sequence_end"}
)
"""Parameters that clients of Triton send and that mean nothing to a sampler."""


class SamplingParameters(BaseModel):
    """Frozen; unknown names are errors, since a misspelt one would change every answer. None: not said."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=TEMPERATURE[0], le=TEMPERATURE[1], allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=TOP_P[0], le=TOP_P[1], allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=TOP_K[0], le=TOP_K[1])
    seed: int | None = Field(default=None, ge=SEED[0], le=SEED[1])
    stop: tuple[str, ...] = ()
    """A text, or over HTTP a list of up to four."""

    @field_validator("stop", mode="before")
    @classmethod
    def _as_texts(cls, value: object) -> object:
        texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
        if isinstance(texts, tuple) and (len(texts) > MAX_STOPS or "" in texts):
            raise ValueError(f"up to {MAX_STOPS} texts that are not empty")
        return texts

    @classmethod
    def read(cls, parameters: Mapping[str, Any]) -> Self:
        """What `parameters` say."""
        try:
            return cls.model_validate({key: value for key, value in parameters.items() if key not in _OF_THE_PROTOCOL})
        except ValidationError as error:
            faults = (
                f"{fault['loc'][0]}: {fault['msg'].removeprefix('Value error, ')}, got {fault['input']!r:.60}"
                for fault in error.errors()
            )
            raise InvalidInput(f"parameters: {'; '.join(faults)}") from error

    def sampling(self, limits: ModelLimits, prompt_tokens: int) -> Sampling:
        """How to continue a prompt of so many tokens."""
        usual = min(limits.max_tokens or USUAL_TOKENS, max(1, limits.context_tokens - prompt_tokens))
        wish = Wish(self.temperature, self.top_p, self.top_k, self.seed, self.stop)
        return limits.sampling(wish, self.max_tokens or usual)
