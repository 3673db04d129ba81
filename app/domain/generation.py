"""Text generation as values: what is asked of a language model, what it gives, and what one step of its engine did.

Knows nothing of engines, tensors, tokenizers or wires. A token is its id; several continuations of one prompt are
several prompts; a stop string is text, so whoever reads the text looks for it.
"""

from dataclasses import dataclass
from typing import Literal

Ending = Literal["stop", "length", "cancelled", "failed"]
"""Why a prompt ended: an end token or a stop string, its bound on tokens, its caller, or an error of ours."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen, and when to stop."""

    max_tokens: int
    """New tokens at most, >= 1; the context may end it sooner."""
    temperature: float = 1.0
    """0: greedy."""
    top_p: float = 1.0
    """Of the probability, in (0, 1]; 1: all."""
    top_k: int = 0
    """Most likely tokens that are drawn from; 0: all."""
    seed: int | None = None
    """The same seed gives the same tokens, whatever else runs; None: another one each time."""
    stop: tuple[str, ...] = ()
    """Texts that end the generation and are not part of it."""
    top_logprobs: int = -1
    """Alternatives per token with their logarithmic probability; 0: only the token's own, -1: none."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One sequence to continue."""

    id: str
    """Unique among the prompts of an engine."""
    tokens: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token."""

    id: int
    logprob: float | None
    """Natural logarithm of its probability, before temperature, top_p and top_k; None where not asked for."""
    top: tuple[tuple[int, float], ...] = ()
    """The most likely tokens with theirs, most likely first."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one step did for one prompt."""

    prompt_id: str
    prefill_tokens: int
    """Prompt tokens computed in this step."""
    decode_tokens: int
    """Generated tokens fed back in this step: 0 or 1."""
    context_tokens: int
    """Tokens that were in its cache already and that this step read."""
    cached_tokens: int
    """Prompt tokens taken from the prefix cache instead of being computed; told once, in the first step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One pass of the model over a batch, on the monotonic clock."""

    start_ns: int
    end_ns: int
    works: tuple[Work, ...]
