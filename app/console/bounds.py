"""A bound on what the console reads of one request, whatever its routes are: an ASGI application around another.

Knows of the routes only that those below `/v1/` may bring long texts, for a model. Bodies are read whole before
anything else happens, and one that is too large or too slow is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from app.console.faults import refused
from app.errors import InvalidInput, TooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1024 * 1024
MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Of a call below `/v1/`, as models have it by default."""
BODY_TIMEOUT_S = 30.0

_CLOSING = (("connection", "close"),)


class BoundedBodies:
    """Passes on what is within `max_bytes` and `timeout_s`."""

    def __init__(self, app: Application, max_bytes: int = MAX_BODY_BYTES, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = MAX_TEXT_BYTES if scope["path"].startswith("/v1/") else self._max_bytes
        try:
            async with asyncio.timeout(self._timeout_s):
                pending = [await _read(receive, max_bytes)]
        except TimeoutError:
            slow = InvalidInput(f"the body did not end within {self._timeout_s:g} s; send it faster")
            await refused(slow, scope["path"], 408, _CLOSING)(scope, receive, send)
            return
        if len(pending[0].get("body", b"")) > max_bytes:
            large = TooLarge(f"the body has more than {max_bytes} bytes; the console takes questions, not data")
            await refused(large, scope["path"], headers=_CLOSING)(scope, receive, send)
            return

        async def replayed() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replayed, send)


async def _read(receive: Receive, max_bytes: int) -> Message:
    """The body as one message, cut off just beyond the bound; or the word that the client has left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if len(body) > max_bytes or not message.get("more_body", False):
            return {"type": "http.request", "body": bytes(body), "more_body": False}
