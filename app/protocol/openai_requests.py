"""Requests for generated text: /v1/chat/completions and /v1/completions, and the sampling that they ask for.

Knows nothing of servers, tokenizers or engines: what a model allows comes in as `ModelLimits` (sampling.py).

    request = ChatRequest.parse(body)                                  # or CompletionRequest
    tokens = template([message.for_template() for message in request.messages])
    for choice in range(request.choices):
        Prompt(f"{id}-{choice}", tokens, request.sampling(limits, len(tokens), choice))

Raises WireFault. What is honoured, refused and ignored is in docs/generation/openai.md.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from app.domain.generation import Sampling
from app.protocol.openai_errors import WireFault
from app.protocol.openai_fields import Fields, read_fields
from app.protocol.openai_messages import Message, read_messages
from app.protocol.openai_prompts import PromptInput, read_prompts
from app.protocol.openai_unsupported import refuse_unsupported
from app.protocol.sampling import (
    MAX_SEQUENCES,
    MAX_STOPS,
    SEED,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    USUAL_TOKENS,
    ModelLimits,
    Wish,
)

_RUNNING = ("joulekeeper_energy", "continuous_usage_stats")
"""Names, ours and vLLM's, of the wish to be told the usage so far with every chunk."""
CHAT_ALTERNATIVES = 20
COMPLETION_ALTERNATIVES = 5
_SEEDS = SEED[1] + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generation:
    """What both kinds of requests have in common; None: not said."""

    model: str
    """As the client wrote it: `pycoder` or `pycoder@int8`."""
    n: int
    """Continuations of each prompt."""
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    stop: tuple[str, ...]
    top_logprobs: int
    """Alternatives per token; 0: only the token's own, -1: none."""
    stream: bool
    include_usage: bool
    """Whether a stream tells the usage at its end."""
    running_usage: bool
    """Whether each of a stream's chunks tells the usage so far, and its end the whole."""
    user: str | None

    input_param: ClassVar[str]
    """Which parameter is the prompt."""
    usual_tokens: ClassVar[int | None]
    """New tokens where a request does not say; None: as many as there is room for."""

    @property
    def choices(self) -> int:
        """Continuations in all. Choice i continues prompt i // n."""
        return self.n

    def sampling(self, limits: ModelLimits, prompt_tokens: int, choice: int = 0) -> Sampling:
        """How to continue a prompt of `prompt_tokens`. Raises WireFault where the context has no room for it."""
        # Continuations of one prompt must differ, and be the same next time.
        seed = None if self.seed is None else (self.seed + choice % self.n) % _SEEDS
        wish = Wish(self.temperature, self.top_p, self.top_k, seed, self.stop)
        return limits.sampling(wish, self._bound(limits, prompt_tokens), self.top_logprobs)

    def _bound(self, limits: ModelLimits, prompt_tokens: int) -> int:
        """New tokens at most: those asked for, or as many of the usual as there is room for."""
        room = limits.context_tokens - prompt_tokens
        usual = limits.max_tokens or self.usual_tokens or room
        bound = min(usual, room) if self.max_tokens is None else self.max_tokens
        if not 1 <= bound <= room:
            asked = (
                ", which leaves none to generate" if self.max_tokens is None else f", and {bound} are to be generated"
            )
            # LiteLLM knows the fault by the first words, LangChain by "prompt is too long".
            raise WireFault(
                f"This model's maximum context length is {limits.context_tokens} tokens, for which the prompt is too "
                f"long: it has {prompt_tokens}{asked}; shorten it, or ask for fewer tokens",
                self.input_param,
                "context_length_exceeded",
            )
        return bound


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(_Generation):
    """A conversation to continue."""

    messages: tuple[Message, ...]

    input_param: ClassVar[str] = "messages"
    usual_tokens: ClassVar[int | None] = None

    @classmethod
    def parse(cls, body: bytes | bytearray | memoryview) -> "ChatRequest":
        """The request in a body of /v1/chat/completions."""
        fields = read_fields(body)
        shared = _shared(fields)
        messages = read_messages(fields)
        wanted = fields.flag("logprobs")
        alternatives = fields.whole("top_logprobs", 0, CHAT_ALTERNATIVES)
        if alternatives and not wanted:
            raise WireFault("top_logprobs needs logprobs to be true", "top_logprobs", "invalid_value")
        newer = fields.whole("max_completion_tokens", 1)
        if newer is not None and shared["max_tokens"] is not None:
            raise WireFault(
                "max_tokens and max_completion_tokens mean the same; send one of them", "max_tokens", "invalid_value"
            )
        shared["max_tokens"] = newer if newer is not None else shared["max_tokens"]
        return cls(messages=messages, top_logprobs=(alternatives or 0) if wanted else -1, **shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(_Generation):
    """Texts, or tokens, to continue."""

    prompts: tuple[PromptInput, ...]
    echo: bool
    """Whether each continuation begins with its prompt."""

    input_param: ClassVar[str] = "prompt"
    usual_tokens: ClassVar[int | None] = USUAL_TOKENS

    @property
    def choices(self) -> int:
        return self.n * len(self.prompts)

    @classmethod
    def parse(cls, body: bytes | bytearray | memoryview) -> "CompletionRequest":
        """The request in a body of /v1/completions."""
        fields = read_fields(body)
        shared = _shared(fields)
        prompts = read_prompts(fields, "prompt", MAX_SEQUENCES // shared["n"])
        alternatives = fields.whole("logprobs", 0, COMPLETION_ALTERNATIVES)
        best_of = fields.whole("best_of", 1)
        if best_of not in (None, shared["n"]):
            raise WireFault(f"best_of is not supported; leave it out, got {best_of}", "best_of", "unsupported_value")
        echo = fields.flag("echo")
        if echo and alternatives is not None:
            raise WireFault(
                "echo with logprobs is not supported: a prompt's probabilities are not computed; send one of them",
                "echo",
                "unsupported_value",
            )
        return cls(prompts=prompts, echo=echo, top_logprobs=-1 if alternatives is None else alternatives, **shared)


def _shared(fields: Fields) -> dict[str, Any]:
    """The parameters of both kinds, by the names of `_Generation`."""
    model = fields.required_text("model")
    refuse_unsupported(fields)
    stream = fields.flag("stream")
    options = fields.object("stream_options")
    running = options is not None and any(options.flag(name) for name in _RUNNING)
    if options is not None and not stream:
        raise WireFault("stream_options needs stream to be true", "stream_options", "invalid_value")
    return {
        "model": model,
        "n": fields.whole("n", 1, MAX_SEQUENCES) or 1,
        "max_tokens": fields.whole("max_tokens", 1),
        "temperature": fields.number("temperature", *TEMPERATURE),
        "top_p": fields.number("top_p", *TOP_P),
        "top_k": fields.whole("top_k", *TOP_K),
        "seed": fields.whole("seed", *SEED),
        "stop": _stops(fields),
        "stream": stream,
        "include_usage": running or (options is not None and options.flag("include_usage")),
        "running_usage": running,
        "user": fields.text("user"),
    }


def _stops(fields: Fields) -> tuple[str, ...]:
    """Up to MAX_STOPS texts."""
    value = fields.get("stop")
    texts = [fields.text("stop")] if isinstance(value, str) else fields.array("stop") or []
    if len(texts) > MAX_STOPS:
        raise WireFault(
            f"stop must have at most {MAX_STOPS} sequences, got {len(texts)}", "stop", "array_above_max_length"
        )
    for position, text in enumerate(texts):
        param = "stop" if isinstance(value, str) else f"stop[{position}]"
        if not isinstance(text, str) or not text:
            raise WireFault(f"{param} must be a string that is not empty, got {text!r:.60}", param, "invalid_value")
    return tuple(texts)
