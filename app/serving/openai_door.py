"""OpenAI's routes of one model: an ASGI application for what lies below `/v2/models/<name>/v1/`.

Knows nothing of Serve, nor of what the calls mean: each is a handler that gets a body that is read and a caller who is
admitted, and gives a whole answer or events. Refusals are in OpenAI's shape.

    door = OpenAIDoor(args, admission, {"embeddings": handler}, counts)
    replica.http = TwoDoors(http_door, door)

Events are sent as they come, each when the client has taken those before. When the client leaves, Serve cancels the
call, and with it the handler or its events, whose `finally` is where they let go.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.access.gate import Caller
from app.access.refusals import headers_of
from app.clock import Clock, SystemClock
from app.errors import JoulekeeperError, NotFound
from app.protocol import sse
from app.protocol.model_statistics import ModelCounts
from app.protocol.openai_errors import UnknownModel, failure_event, refusal
from app.serving.admission import Admission
from app.serving.args import ServedArgs
from app.serving.http_body import ClientGone, Receive, Refused, read_body
from app.serving.http_door import RawHeaders, Scope, Send

ROUTED = b"x-joulekeeper-routed"
"""Header by which the edge and the console say that they chose this application for the body's model."""

STALLED_CLIENT_S = 60.0

_log = logging.getLogger("ray.serve")
_OPENAI = re.compile(r"(/versions/[^/]+)?/v1/")

_JSON = (b"content-type", b"application/json")
_EVENTS: RawHeaders = [
    (b"content-type", sse.MEDIA_TYPE.encode()),
    *((name.encode(), value.encode()) for name, value in sse.HEADERS),
]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read and admitted."""

    name: str
    """`chat/completions`, `completions`, `embeddings`."""
    body: bytes | bytearray
    caller: Caller
    scope: Scope
    is_routed: bool
    """Who routes has looked at the version that the body's model names."""

    def check_model(self, named: str, args: ServedArgs) -> None:
        """Raises UnknownModel unless `named`, of the body, is the model that is served here."""
        name, _, version = named.partition("@")
        if name != args.name or not (self.is_routed or args.is_meant(version)):
            raise UnknownModel(f"The model `{named}` does not exist here; this is {args.label}")


@dataclass(slots=True)
class Whole:
    """An answer that is complete."""

    body: bytes
    headers: RawHeaders = field(default_factory=list)


@dataclass(slots=True)
class Events:
    """An answer that comes bit by bit: whole server-sent events, closed when nobody wants more."""

    pieces: "Pieces"
    headers: RawHeaders = field(default_factory=list)


class Pieces(Protocol):
    """Events as they come. `aclose` is called in any case, also where none was taken."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


Handler = Callable[[Call], Awaitable[Whole | Events]]


class OpenAIDoor:
    """The ASGI application. Called by one event loop."""

    def __init__(
        self,
        args: ServedArgs,
        admission: Admission,
        handlers: Mapping[str, Handler],
        counts: ModelCounts,
        stalled_client_s: float = STALLED_CLIENT_S,
        clock: Clock | None = None,
    ) -> None:
        """A client that takes no event for `stalled_client_s` is given up."""
        self._args, self._admission, self._handlers = args, admission, handlers
        self._counts, self._stalled_client_s = counts, stalled_client_s
        self._clock = clock or SystemClock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_ns = self._clock.monotonic_ns()
        try:
            answer = await self._answer(scope, receive)
            if isinstance(answer, Events):
                # A response that is not complete when this returns is broken off, for all to see.
                async with aclosing(answer.pieces):
                    await self._send_events(send, answer)
            else:
                await _send_whole(send, 200, answer.body, answer.headers)
        except ClientGone:
            return
        except _BrokenOff:
            self._counts.fail.add(self._clock.monotonic_ns() - began_ns)
        except Exception as error:
            self._counts.fail.add(self._clock.monotonic_ns() - began_ns)
            _note(self._args, error)
            await send_openai_refusal(send, error)
        else:
            self._counts.success.add(self._clock.monotonic_ns() - began_ns)
            self._counts.last_inference_ms = self._clock.wall_ns() // 1_000_000

    async def _answer(self, scope: Scope, receive: Receive) -> Whole | Events:
        """Who asks is decided from the headers alone: no byte of a stranger's body is read."""
        caller = self._admission.of_http(scope)
        name, handler = self._found(scope)
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise Refused("the body of a /v1/ call must not be compressed", 415, ("accept-encoding", "identity"))
        declared = headers.get(b"content-length", b"")
        body, _ = await read_body(receive, declared, self._args.max_body_bytes, self._args.body_timeout_s)
        return await handler(Call(name, body, caller, scope, ROUTED in headers))

    def _found(self, scope: Scope) -> tuple[str, Handler]:
        """Name and handler of what the path calls. Raises NotFound, or Refused for the method."""
        parts = scope["path"][len(scope.get("root_path", "")) :].strip("/").split("/")
        if parts[0] == "versions" and len(parts) > 2:
            if not self._args.is_meant(parts[1]):
                raise UnknownModel(f"The model `{self._args.name}@{parts[1]}` does not exist here")
            parts = parts[2:]
        name = "/".join(parts[1:])
        if parts[0] != "v1" or name not in self._handlers:
            known = ", ".join(f"POST .../v1/{each}" for each in self._handlers)
            raise NotFound(f"no path {scope['path']!r} at {self._args.label}; there is {known}")
        if scope["method"] != "POST":
            raise Refused(f"{scope['path']} does not take {scope['method']}; use POST", 405, ("allow", "POST"))
        return name, self._handlers[name]

    async def _send_events(self, send: Send, answer: Events) -> None:
        await self._push(send, {"type": "http.response.start", "status": 200, "headers": _EVENTS + answer.headers})
        try:
            async for piece in answer.pieces:
                await self._push(send, {"type": "http.response.body", "body": piece, "more_body": True})
        except _BrokenOff:
            raise
        except Exception as error:
            _note(self._args, error)
            await self._push(send, {"type": "http.response.body", "body": failure_event(error)})
            raise _BrokenOff from error
        await self._push(send, {"type": "http.response.body", "body": b""})

    async def _push(self, send: Send, message: dict[str, Any]) -> None:
        """Send, once the client has taken what was sent before. Raises _BrokenOff."""
        try:
            async with asyncio.timeout(self._stalled_client_s):
                await send(message)
        except TimeoutError:
            _log.info("%s: a client took nothing for %g s and is given up", self._args.label, self._stalled_client_s)
            raise _BrokenOff from None


class TwoDoors:
    """The ASGI application of a model: OpenAI's routes and those of the Open Inference Protocol."""

    def __init__(self, inference: Callable[..., Awaitable[None]], openai: OpenAIDoor) -> None:
        self._inference, self._openai = inference, openai

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._openai if is_openai_call(scope) else self._inference)(scope, receive, send)


def is_openai_call(scope: Scope) -> bool:
    """Whether the request is for OpenAI's routes of a model, or of a version of it."""
    return scope["type"] == "http" and bool(_OPENAI.match(scope["path"], len(scope.get("root_path", ""))))


class _BrokenOff(Exception):
    """Events that are not all there: they failed, and their client was told, or it takes nothing any more."""


def _note(args: ServedArgs, error: Exception) -> None:
    """Log what nobody foresaw: the client is told its name alone."""
    if not isinstance(error, JoulekeeperError):
        _log.error("%s failed", args.label, exc_info=error)


async def send_openai_refusal(send: Send, error: Exception) -> None:
    """Answer with what went wrong, in OpenAI's shape."""
    own = headers_of(error) if isinstance(error, JoulekeeperError) else ()
    told = refusal(error, error.headers if isinstance(error, Refused) else own)
    headers = [(name.encode(), value.encode()) for name, value in told.headers]
    await _send_whole(send, told.status, told.body, headers)


async def _send_whole(send: Send, status: int, body: bytes, headers: RawHeaders) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
