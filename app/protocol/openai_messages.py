"""The messages of a chat request: roles, and content as a string or as parts of text.

Knows nothing of chat templates or models. Raises WireFault.
"""

from dataclasses import dataclass
from typing import Any

from app.protocol.openai_errors import WireFault
from app.protocol.openai_fields import Fields, kind_of, shown

ROLES = ("system", "developer", "user", "assistant")

_OF_TOOLS = ("tool", "function")
_SAID_AS = {"developer": "system"}
"""Chat templates know the role by its older name."""
_TEXT_OF_PART = {"text": "text", "refusal": "refusal"}
"""Type of a content part to the key that holds its text."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`; `developer` has become `system`."""
    content: str
    """Parts of text follow each other without anything between them."""
    name: str | None = None
    """Which of several who have the same role."""

    def for_template(self) -> dict[str, str]:
        """As chat templates expect it."""
        said = {"role": self.role, "content": self.content}
        return said if self.name is None else {**said, "name": self.name}


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """All of `messages`, at least one."""
    if fields.array("messages") is None:
        raise fields.missing("messages")
    messages = tuple(_read(message) for message in fields.objects("messages"))
    if not messages:
        raise WireFault("messages must not be empty; send at least one", "messages", "empty_array")
    return messages


def _read(fields: Fields) -> Message:
    role = fields.required_text("role")
    if role in _OF_TOOLS:
        raise _unsupported(fields.param("role"), f"role {role!r} is not supported, since tools are not")
    if role not in ROLES:
        raise WireFault(
            f"{fields.param('role')} must be one of {', '.join(ROLES)}, got {shown(role)}",
            fields.param("role"),
            "invalid_value",
        )
    for name in ("tool_calls", "function_call", "audio"):
        if fields.get(name):
            raise _unsupported(fields.param(name), "neither tools nor audio are supported; leave it out")
    return Message(_SAID_AS.get(role, role), _content(fields, role), fields.text("name"))


def _content(fields: Fields, role: str) -> str:
    content: Any = fields.get("content")
    if content is None and role == "assistant":
        content = fields.text("refusal")
    if content is None:
        raise fields.missing("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        param = fields.param("content")
        raise WireFault(f"{param} must be a string or an array of parts, got {kind_of(content)}", param, "invalid_type")
    return "".join(_text(part, role) for part in fields.objects("content"))


def _text(part: Fields, role: str) -> str:
    kind = part.required_text("type")
    if kind not in _TEXT_OF_PART or (kind == "refusal" and role != "assistant"):
        raise _unsupported(part.param("type"), f"content of type {shown(kind)} is not supported; send text")
    text = part.text(_TEXT_OF_PART[kind])
    if text is None:
        raise part.missing(_TEXT_OF_PART[kind])
    return text


def _unsupported(param: str, why: str) -> WireFault:
    return WireFault(f"{param}: {why}", param, "unsupported_value")
