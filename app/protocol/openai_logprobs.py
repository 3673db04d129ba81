"""Probabilities of tokens in the two shapes that OpenAI has for them: of chats, and of completions.

Knows nothing of tokenizers: each token comes with its text and its bytes, since a token may be part of a character.
Pure; raises nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEAST = -9999.0
"""Stands for a probability of zero, whose logarithm JSON cannot carry; OpenAI's own value for it."""


@dataclass(frozen=True, slots=True)
class SpelledToken:
    """One token, as text and in bytes, and its probability."""

    text: str
    """With U+FFFD where the token alone is no valid UTF-8."""
    raw: bytes
    """Its bytes."""
    logprob: float
    """Natural logarithm."""
    top: "tuple[SpelledToken, ...]" = ()
    """The likeliest at this place, the likeliest first; theirs is empty."""


def of_chat(tokens: Sequence[SpelledToken]) -> dict[str, Any]:
    """`logprobs` of a chat's choice."""
    content = [_entry(token) | {"top_logprobs": [_entry(other) for other in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def of_completion(tokens: Sequence[SpelledToken], offset: int, alternatives: int) -> dict[str, Any]:
    """`logprobs` of a completion's choice whose first token begins at character `offset` of its text.

    The token itself is among the `alternatives` likeliest or beside them, as OpenAI has it.
    """
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [_spelled(token) for token in tokens],
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": [_likeliest(token) for token in tokens] if alternatives else None,
        "text_offset": offsets,
    }


def _entry(token: SpelledToken) -> dict[str, Any]:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.raw)}


def _likeliest(token: SpelledToken) -> dict[str, float]:
    return {_spelled(each): _finite(each.logprob) for each in (*token.top, token)}


def _spelled(token: SpelledToken) -> str:
    """The text, or the bytes as OpenAI writes them where they are no text: tokens must stay apart in an object."""
    if "\ufffd" not in token.text:
        return token.text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)


def _finite(logprob: float) -> float:
    return logprob if logprob >= LEAST else LEAST
