"""How an engine is set up: sizes and bounds of one replica's engine.

Knows nothing of models or devices; zeros are filled in by whoever knows them (network.py, paging.py).
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class EngineOptions(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Dtype = "auto"
    """Of the weights in memory and of the cache. `auto`: as published; float32 on a CPU without bfloat16 arithmetic."""
    context_tokens: int = Field(default=0, ge=0)
    """Prompt and continuation together, at most. 0: what the model was made for."""
    max_sequences: int = Field(default=32, ge=1, le=4096)
    """Sequences that take part in a step, to begin with; `limit` changes it."""
    max_queued: int = Field(default=128, ge=0, le=65_536)
    """Prompts that wait at most; beyond it `submit` raises Busy. 0: what does not start at once is refused."""
    cache_tokens: int = Field(default=0, ge=0)
    """Tokens of context that the key-value cache holds. 0: on an accelerator 0.8 of the free memory; on a CPU a full
    context for each sequence, and no more than 1 GiB."""
    prefix_cache_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the cache that may keep what no sequence uses any more, for prompts that begin alike. 0: none."""
    prefill_tokens: int = Field(default=0, ge=0)
    """Prompt tokens that one step computes at most, so that a long prompt does not hold up the others: it is cut.
    0: 256 on a CPU, 2048 on an accelerator."""
    page_tokens: int = Field(default=0, ge=0, le=4096)
    """Tokens of one page of the cache, which is also the grain of the prefix cache. 0: 16."""
