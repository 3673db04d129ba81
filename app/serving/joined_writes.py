"""One write per answer: the head of an HTTP response waits for its body.

Knows nothing of models or of Serve. uvicorn writes the head and the body apart, and on uvloop each write is a system
call and a packet that wakes the HAProxy in front: a sixth of a small model's request. Here the head is kept for what is
written next, until the next turn of the event loop at most, so that a stream's head does not wait for its first piece.

    join_writes()          # in a replica, before its server starts

An answer given before its request has arrived whole, a refusal as a rule, waits for the rest, which nobody looks at: a
connection that is closed while its client still sends is reset, and one in five answers was lost on the way through two
HAProxies. What takes too long or is too much gets its answer all the same, with `connection: close`. Without that
HAProxy, which got a whole answer while it was still sending, kept the answer to itself until its client gave up. What
arrives then is dropped here: Serve takes all that comes into a queue without a bound, 130 MB of one refused body.

uvicorn has no place for this, so its class of one request is replaced by a subclass (docs/adr/0012); what it looks for
is there in the pinned version, and where it is not, nothing is changed.
"""

import asyncio
import contextlib
import logging
from collections.abc import MutableMapping
from typing import Any

_INTERIM = b"HTTP/1.1 1"
_MOST_REST_BYTES = 64 * 1024 * 1024
_MOST_REST_S, _MOST_SILENCE_S = 20.0, 1.0
"""For the rest of a request that is answered already, and without a word from its client."""
_log = logging.getLogger("ray.serve")


class HeadKeepingTransport:
    """A transport that keeps the first thing written to join it with the second. Used from one event loop."""

    __slots__ = ("_kept", "_turn", "_wrapped")

    def __init__(self, wrapped: asyncio.Transport) -> None:
        self._wrapped = wrapped
        self._kept: bytes | None = None
        self._turn: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """Send `data`, now or with what comes next."""
        if self._turn is None and data.startswith(_INTERIM):
            self._wrapped.write(data)  # HAProxy loses an answer that comes in one packet with "100 Continue"
        elif self._turn is None:
            self._kept = bytes(data)
            self._turn = asyncio.get_running_loop().call_soon(self._flush)
        elif self._kept is None:
            self._wrapped.write(data)
        else:
            kept, self._kept = self._kept, None
            self._turn.cancel()
            self._wrapped.write(kept + data)

    def close(self) -> None:
        """Close once everything is sent."""
        self._flush()
        self._wrapped.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def _flush(self) -> None:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self._wrapped.write(kept)


def join_writes() -> None:
    """Have uvicorn's HTTP server in this process write a head together with its body. A second call does nothing."""
    try:
        from uvicorn.protocols.http import httptools_impl
    except ImportError:
        return
    if not hasattr(httptools_impl, "RequestResponseCycle"):
        _log.info("this uvicorn writes heads and bodies apart; each answer takes a packet more")
        return
    if not hasattr(httptools_impl.RequestResponseCycle, "joins_writes"):
        httptools_impl.RequestResponseCycle = _joining(httptools_impl.RequestResponseCycle)  # type: ignore[misc]


def _joining(cycle: type[Any]) -> type[Any]:
    class JoiningCycle(cycle):
        """One request and its response, written at once. Its `more_body`: the request has not arrived whole."""

        joins_writes = True

        def __init__(self, *, transport: asyncio.Transport, **options: Any) -> None:
            super().__init__(transport=HeadKeepingTransport(transport), **options)
            self._rest_bytes: int | None = None

        async def receive(self) -> MutableMapping[str, Any]:
            message: MutableMapping[str, Any] = await super().receive()
            if self._rest_bytes is not None and message["type"] == "http.request":
                self._rest_bytes -= len(message["body"])
                message["body"] = b""
            return message

        async def send(self, message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and self.more_body:
                await self._let_arrive()
            if message["type"] == "http.response.start" and self.more_body:
                headers = [header for header in message.get("headers", ()) if header[0].lower() != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            await super().send(message)

        async def _let_arrive(self) -> None:
            """The rest of the request, unless the client waits to be told that it may send it."""
            self._rest_bytes = _MOST_REST_BYTES
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MOST_REST_S):
                    while self.more_body and self._rest_bytes > 0 and not self.waiting_for_100_continue:
                        message = await asyncio.wait_for(self.receive(), _MOST_SILENCE_S)
                        if message["type"] == "http.disconnect":
                            return

    return JoiningCycle
