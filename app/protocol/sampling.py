"""What a request of any wire may ask of a sampler, and what the served model says where it asks nothing.

Knows nothing of wires: each names faults in its own way, by these bounds.

    limits = ModelLimits(context_tokens=1024, temperature=0.6)
    limits.sampling(Wish(top_p=0.9), max_tokens=64)
"""

from dataclasses import dataclass

from app.domain.generation import Sampling

TEMPERATURE: tuple[float, float] = (0, 2)
TOP_P: tuple[float, float] = (0, 1)
"""0 is the nucleus without any probability: the likeliest token alone."""
SEED = (-(2**63), 2**63 - 1)
TOP_K = (-1, 2**63 - 1)
"""-1 and 0: all tokens are drawn from."""
MAX_STOPS = 4
MAX_SEQUENCES = 128
"""Of one request; OpenAI's own bound on n."""
USUAL_TOKENS = 16
"""New tokens of a text to be continued, where neither request nor model says how many: OpenAI's default."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says, within the bounds; None: nothing."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What the served model allows, and its own settings where a request has none."""

    context_tokens: int
    """Of a prompt and its continuation together."""
    max_tokens: int | None = None
    """New tokens, less where the context has no room; None: as OpenAI has it."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens are drawn from."""

    def sampling(self, wish: Wish, max_tokens: int, top_logprobs: int = -1) -> Sampling:
        """How to choose `max_tokens` at most."""
        temperature = self.temperature if wish.temperature is None else wish.temperature
        top_p = self.top_p if wish.top_p is None else wish.top_p
        if top_p == 0:
            temperature, top_p = 0.0, 1.0
        return Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=self.top_k if wish.top_k is None else max(wish.top_k, 0),
            seed=wish.seed,
            stop=wish.stop,
            top_logprobs=top_logprobs,
        )
