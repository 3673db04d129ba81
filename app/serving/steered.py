"""Requests that leave the choice of the variant open, and how their answers say who answered and why.

The body says it too, as `model_version`. Knows nothing of how it is chosen (app/engine/purse.py).
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any

from app.serving.receipts import PREFIX

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

is_steered: ContextVar[bool] = ContextVar("is_steered", default=False)
"""Whether the request that is answered here left the choice open."""

VARIANT, WHY = PREFIX + "variant", PREFIX + "variant-why"


def is_open_choice(scope: Scope) -> bool:
    """Whether an HTTP request is work, and names no variant in its path."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path = str(scope["path"])[len(scope.get("root_path", "")) :]
    return not path.strip("/").startswith("versions/")


def saying(send: Send, variant: str, why: str) -> Send:
    """`send`, with the variant in the headers of the response."""
    told = [(VARIANT.encode(), variant.encode()), (WHY.encode(), why.encode("latin-1", "replace"))]

    async def send_with(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *told]}
        await send(message)

    return send_with


class Saying:
    """A gRPC context whose trailing metadata say the variant, too."""

    def __init__(self, grpc_context: Any, variant: str, why: str) -> None:
        self._context, self._told = grpc_context, ((VARIANT, variant), (WHY, why))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str]]) -> None:
        """As the context's."""
        self._context.set_trailing_metadata((*metadata, *self._told))
