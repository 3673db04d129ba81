"""Reading the body of one request: bounded in bytes and in time, kept so that binary data need no copy.

Knows nothing of what a body holds. Many small pieces are joined as they come, so that what is held is what was sent. A
sender that stops gives its place back after a while: each one takes a request's place in its replica. What a refused
client still sends is not read here (joined_writes.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from app.errors import InvalidInput, TooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

ALIGNMENT = 16
"""Where a bytearray begins in memory, and where numbers of every datatype belong."""


class Refused(InvalidInput):
    """A refusal that only HTTP knows: its own status and headers."""

    def __init__(self, message: str, status: int, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.http_status = status
        self.headers = list(headers)


class ClientGone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


async def read_body(
    receive: Receive, declared: bytes, max_bytes: int, timeout_s: float, aligned_after: int | None = None
) -> tuple[bytes | bytearray, int]:
    """The whole body, and how many bytes of padding are before it.

    What is behind its first `aligned_after` bytes lies at a multiple of ALIGNMENT if the body came in several pieces.
    `declared` is its content-length. Raises Refused, ClientGone.
    """
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(declared.decode(), max_bytes)
    message = await _next(receive)
    if not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(str(len(body)), max_bytes)
        return body, 0
    padding = -aligned_after % ALIGNMENT if aligned_after else 0
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_pieces(receive, message, max_bytes, bytearray(padding)), padding
    except TimeoutError:
        raise Refused(
            f"the body did not end within {timeout_s:g} s; send it faster, or less of it", 408, ("connection", "close")
        ) from None


async def _read_pieces(receive: Receive, message: Message, max_bytes: int, body: bytearray) -> bytearray:
    """All pieces from `message` on, behind what `body` holds."""
    size = 0
    while True:
        piece = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            raise _too_large(f"more than {max_bytes}", max_bytes)
        body += piece
        if not message.get("more_body", False):
            return body
        message = await _next(receive)


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _too_large(size: str, max_bytes: int) -> Refused:
    message = f"the body has {size} bytes, at most {max_bytes} are read; send fewer rows per request"
    return Refused(message, TooLarge.http_status)
