"""The contract of every text generation engine: prompts of tokens in, tokens and steps out.

Knows nothing of text, wires or energy, nor how an engine works; importing it imports no torch.

    engine.submit(Prompt("a", (1, 5, 9), Sampling(max_tokens=32, temperature=0)))
    # the listener hears, on the engine's thread: tokens("a", ...), stepped(...), ..., ended("a", "length", "")
    engine.limit(8)                 # at most 8 sequences at once from the next step
    engine.cancel("a")              # frees its slot at the next step: ended("a", "cancelled", "")
    engine.close()

`submit` raises InvalidInput for what cannot be run, TooLarge for a prompt that does not fit the context, Busy while the
queue is full, Unavailable once closed. A prompt that was accepted ends exactly once, whatever happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.generation import Ending, Prompt, Step, Token


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a pass of the model costs, as far as its shape says."""

    layers: int
    hidden: int
    """Width of the hidden state."""
    kv_bytes_per_token: int
    """Bytes that one token of context keeps in the cache, over all layers."""
    weight_bytes: int
    """Bytes of the weights that every pass reads."""
    flops_per_token: int
    """2 x the parameters that a token is multiplied with; attention over the context comes on top:
    4 x layers x hidden for every token of context (keys and values)."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How full an engine is, at one instant."""

    running: int
    """Sequences that take part in steps."""
    waiting: int
    """Prompts accepted but not started."""
    free_cache_share: float
    """Of the key-value cache, in [0, 1]; blocks that only the prefix cache holds count as free."""


class Listener(Protocol):
    """Hears an engine, on the engine's own thread: must be quick, and what it raises is logged and dropped.

    For one prompt: `tokens` any number of times, then `ended` once. `stepped` comes for every pass, before the tokens
    and endings that it brought about.
    """

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        """New tokens of a prompt, in order; the end token is not among them."""

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        """Nothing more will come. `reason` says what failed, else it is empty."""

    def stepped(self, step: Step) -> None:
        """A pass was made; prompts cancelled meanwhile are in it, for the work was done."""


class GenerationEngine(Protocol):
    """One loaded language model that continues many prompts at once. Every method may be called from any thread."""

    @property
    def load(self) -> EngineLoad:
        """As of now."""

    @property
    def context_tokens(self) -> int:
        """Tokens of a prompt and its continuation together, at most."""

    @property
    def vocabulary(self) -> int:
        """Token ids are in [0, vocabulary)."""

    @property
    def geometry(self) -> Geometry:
        """For whoever prices steps."""

    def submit(self, prompt: Prompt) -> None:
        """Queue `prompt`. Raises InvalidInput, TooLarge, Busy, Unavailable."""

    def cancel(self, prompt_id: str) -> None:
        """End it before the next step; a prompt that is unknown or has ended is none of anybody's business."""

    def limit(self, max_sequences: int) -> None:
        """Sequences at once from the next step, >= 1; those that run over it finish. Raises InvalidInput."""

    def embed(self, prompt_id: str, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """The mean of the last hidden states of each token sequence, scaled to length 1. Blocks until it is done.

        It runs between the steps of the generation, and the listener hears its steps as prefill of `prompt_id`; the
        texts go neither through the key-value cache nor through the queue. Raises InvalidInput, TooLarge, Unavailable.
        """

    def close(self) -> None:
        """End everything that runs as `cancelled` and stop; blocks until the thread is gone. May be called twice."""
