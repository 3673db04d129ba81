"""Parameters that OpenAI's clients may send and that would change the answer in a way that is not served: refused.

What only hints at how to compute or keep an answer is ignored instead, as are keys unknown here. A value that asks for
nothing (no tools, a penalty of 0) passes. Knows nothing of models. Raises WireFault.
"""

from app.protocol.openai_errors import WireFault
from app.protocol.openai_fields import Fields, shown

_ABSENT_OR_EMPTY = {
    "tools": "tools are not supported; describe them in a message",
    "functions": "functions are not supported; describe them in a message",
    "logit_bias": "tokens cannot be biased",
    "suffix": "text is only continued, not filled in between a prompt and a suffix",
}
"""Parameter to why it is refused unless it is absent or empty."""

_ABSENT = {"audio": "only text is generated", "web_search_options": "nothing is searched"}
"""The same for those that ask for something even when empty."""

_NEUTRAL: dict[str, tuple[float, float, float]] = {
    "frequency_penalty": (0, -2, 2),
    "presence_penalty": (0, -2, 2),
    "repetition_penalty": (1, 0, 100),
    "min_p": (0, 0, 1),
}
"""Parameter to the value that changes nothing, and the bounds of those that would."""

_WITHOUT_TOOLS = ("none", "auto")


def refuse_unsupported(fields: Fields) -> None:
    """Raise at the first parameter whose wish cannot be granted."""
    for name, why in _ABSENT_OR_EMPTY.items():
        if fields.get(name):
            raise _refused(name, why)
    for name, why in _ABSENT.items():
        if fields.get(name) is not None:
            raise _refused(name, why)
    for name, (neutral, low, high) in _NEUTRAL.items():
        value = fields.number(name, low, high)
        if value not in (None, neutral):
            raise _refused(name, f"{shown(value)} is not supported; leave it out or send {neutral}")
    for name in ("tool_choice", "function_call"):
        if fields.get(name) not in (None, *_WITHOUT_TOOLS):
            raise _refused(name, "tools are not supported; leave it out")
    response_format = fields.object("response_format")
    if response_format is not None and response_format.required_text("type") != "text":
        raise _refused("response_format", "only {'type': 'text'} is supported; ask for JSON in a message")
    modalities = fields.array("modalities")
    if modalities not in (None, [], ["text"]):
        raise _refused("modalities", "only ['text'] is supported")


def _refused(name: str, why: str) -> WireFault:
    return WireFault(f"{name}: {why}", name, "unsupported_parameter")
