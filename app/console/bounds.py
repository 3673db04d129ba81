"""A bound on what the console reads of one request, whatever its routes are: an ASGI application around another.

Knows nothing of the routes. Questions are small: their bodies are read whole before anything else happens, and one that
is too large or too slow is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 30.0


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
        try:
            async with asyncio.timeout(self._timeout_s):
                pending = [await self._read(receive)]
        except TimeoutError:
            fault = f"the body did not end within {self._timeout_s:g} s; send it faster"
            await _refuse(408, fault, scope, receive, send)
            return
        if len(pending[0].get("body", b"")) > self._max_bytes:
            fault = f"the body has more than {self._max_bytes} bytes; the console takes questions, not data"
            await _refuse(413, fault, scope, receive, send)
            return

        async def replayed() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replayed, send)

    async def _read(self, receive: Receive) -> Message:
        """The body as one message, cut off just beyond the bound; or the word that the client has left."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            if len(body) > self._max_bytes or not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(body), "more_body": False}


async def _refuse(status: int, fault: str, scope: Message, receive: Receive, send: Send) -> None:
    await JSONResponse({"error": fault}, status, headers={"connection": "close"})(scope, receive, send)
