"""What an engine refuses before it does any work.

Knows nothing of models beyond the two numbers it is given. Raises InvalidInput and TooLarge.
"""

import math
from collections.abc import Sequence

from app.domain.generation import Prompt, Sampling
from app.errors import InvalidInput, TooLarge

MAX_TOP_LOGPROBS = 64


def check_prompt(prompt: Prompt, context_tokens: int, vocabulary: int) -> None:
    """Whether `prompt` can be run by a model of that context and vocabulary."""
    if len(prompt.tokens) >= context_tokens:
        raise TooLarge(
            f"the prompt has {len(prompt.tokens)} tokens; the context holds {context_tokens}, of which one at least is "
            "for the answer: shorten it"
        )
    check_tokens(prompt.tokens, vocabulary)
    _check_sampling(prompt.sampling)


def check_text(tokens: Sequence[int], context_tokens: int, vocabulary: int) -> None:
    """Whether a text can be embedded by a model of that context and vocabulary."""
    if len(tokens) > context_tokens:
        raise TooLarge(f"a text has {len(tokens)} tokens; the context holds {context_tokens}: shorten it, or split it")
    check_tokens(tokens, vocabulary)


def check_tokens(tokens: Sequence[int], vocabulary: int) -> None:
    """Whether there are tokens at all, and all of them of the vocabulary."""
    if not tokens:
        raise InvalidInput("a text without tokens cannot be read; send at least one")
    if min(tokens) < 0 or max(tokens) >= vocabulary:
        wrong = next(token for token in tokens if not 0 <= token < vocabulary)
        raise InvalidInput(f"token {wrong} is outside the vocabulary, [0, {vocabulary}); use the model's tokenizer")


def _check_sampling(sampling: Sampling) -> None:
    if sampling.max_tokens < 1:
        raise InvalidInput(f"max_tokens must be >= 1, got {sampling.max_tokens}")
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise InvalidInput(f"temperature must be >= 0 and finite, got {sampling.temperature}; 0 is greedy")
    if not 0 < sampling.top_p <= 1:
        raise InvalidInput(f"top_p must be in (0, 1], got {sampling.top_p}; 1 keeps all")
    if sampling.top_k < 0:
        raise InvalidInput(f"top_k must be >= 0, got {sampling.top_k}; 0 keeps all")
    if sampling.top_logprobs > MAX_TOP_LOGPROBS:
        raise InvalidInput(f"top_logprobs must be <= {MAX_TOP_LOGPROBS}, got {sampling.top_logprobs}")
