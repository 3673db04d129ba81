"""The `prompt` of completions and the `input` of embeddings: a text, texts, token ids, or several lists of token ids.

Knows nothing of tokenizers; whether ids are in a vocabulary is asked with its size. Raises WireFault.
"""

from collections.abc import Sequence
from typing import Any

from app.protocol.openai_errors import WireFault
from app.protocol.openai_fields import Fields, shown

PromptInput = str | tuple[int, ...]
"""A text to be tokenized, or tokens as they are."""

_FORMS = "a string, an array of strings, of token ids, or of arrays of token ids"


def read_prompts(fields: Fields, name: str, at_most: int) -> tuple[PromptInput, ...]:
    """The prompts at `name`: at least one, at most `at_most`, all texts or all tokens."""
    value = fields.get(name)
    if value is None:
        raise fields.missing(name)
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise _malformed(name, value)
    if not value:
        raise WireFault(f"{name} must not be an empty array", name, "empty_array")
    if type(value[0]) is int:
        return (_tokens(name, value),)
    if len(value) > at_most:
        raise WireFault(
            f"{name} must have at most {at_most} entries here, got {len(value)}; send several requests",
            name,
            "array_above_max_length",
        )
    if isinstance(value[0], str):
        return tuple(_text(f"{name}[{position}]", each) for position, each in enumerate(value))
    return tuple(_tokens(f"{name}[{position}]", each) for position, each in enumerate(value))


def check_vocabulary(prompts: Sequence[PromptInput], name: str, vocabulary: int) -> None:
    """Refuse token ids outside [0, vocabulary)."""
    for prompt in prompts:
        worst = max(prompt, default=0) if isinstance(prompt, tuple) else 0
        if worst >= vocabulary:
            raise WireFault(
                f"{name} has token id {worst}, but the model's vocabulary ends at {vocabulary - 1}",
                name,
                "integer_above_max_value",
            )


def _text(param: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _malformed(param, value, "a string, as the first entry is")
    return value


def _tokens(param: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise _malformed(param, value)
    if not value:
        raise WireFault(f"{param} must not be an empty array", param, "empty_array")
    for position, token in enumerate(value):
        if type(token) is not int or token < 0:
            raise _malformed(f"{param}[{position}]", token, "a token id, an integer >= 0")
    return tuple(value)


def _malformed(param: str, value: Any, wanted: str = _FORMS) -> WireFault:
    return WireFault(f"{param} must be {wanted}, got {shown(value)}", param, "invalid_type")
