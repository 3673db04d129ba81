"""The arguments of a served language model: the `args` of an application whose builder is `generator`.

Knows nothing of engines or replicas. Bounds are per replica: a second replica has a queue and a cache of its own.

    applications:
      - name: pycoder
        route_prefix: /v2/models/pycoder
        import_path: app.serving.build:generator
        args: {name: pycoder, source: "repository:pycoder", max_sequences: 32, inter_token_p90_ms: 100}
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.serving.args import ServedArgs


class SamplingDefaults(BaseModel):
    """What a request that does not say gets. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int | None = Field(default=None, ge=1)
    """New tokens at most. Unset: as OpenAI has it, 16 for a completion and what the context leaves for a chat."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Unset: what the model's publisher says, else 1. 0: greedy."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Unset: what the model's publisher says, else 1."""
    top_k: int | None = Field(default=None, ge=0)
    """Unset: what the model's publisher says, else 0, all tokens."""


class GeneratorArgs(ServedArgs):
    """One language model version to serve. Frozen; unknown keys are errors."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights in memory. `auto`: as they were published; float32 on a CPU that has no bfloat16 arithmetic."""
    context_tokens: int = Field(default=0, ge=0)
    """Prompt and answer together, at most. 0: what the model was made for. Less needs less memory for the cache."""
    max_sequences: int = Field(default=32, ge=1, le=4096)
    """Sequences that are continued together, at most. With `inter_token_p90_ms` a governor finds how many up to this
    need the least energy per token."""
    max_queued: int = Field(default=128, ge=0, le=65_536)
    """Sequences that wait for a place; beyond it the answer is 429 with `retry-after`, RESOURCE_EXHAUSTED."""
    cache_tokens: int = Field(default=0, ge=0)
    """Tokens of context that the key-value cache holds, all sequences together. 0: as many as fit the memory."""
    prefix_cache_share: float = Field(default=0.5, ge=0, le=1)
    """Share of that cache that may keep the beginnings of prompts that are over, for prompts that begin alike. 0: none
    is kept."""
    inter_token_p90_ms: float | None = Field(default=None, gt=0)
    """Set, a governor decides how many sequences run at once. Its objective: from token to token of one sequence, for
    90 % of them."""
    ttft_p95_ms: float | None = Field(default=None, gt=0)
    """The governor's second objective: from arrival to the first token, for 95 % of prompts. Unset: does not matter."""
    max_choices: int = Field(default=16, ge=1, le=128)
    """Largest `n` of a request."""
    stalled_client_s: float = Field(default=60.0, gt=0)
    """A client of a stream that takes nothing for so long is given up, and its sequences with it."""
    sampling: SamplingDefaults = SamplingDefaults()
    """For requests that do not say."""

    @model_validator(mode="after")
    def _governor_has_its_objective(self) -> Self:
        if self.ttft_p95_ms is not None and self.inter_token_p90_ms is None:
            raise ValueError("ttft_p95_ms is an objective of the governor, which needs inter_token_p90_ms: set it, too")
        return self

    @model_validator(mode="after")
    def _has_no_shadow(self) -> Self:
        if self.shadow:
            raise ValueError("shadow copies requests of tensors; a language model has none: remove it, or use traffic")
        return self

    @model_validator(mode="after")
    def _comes_from_the_repository(self) -> Self:
        if not self.source.startswith("repository:"):
            raise ValueError(f"source of a language model must be repository:NAME[@VERSION], got {self.source!r}")
        return self
