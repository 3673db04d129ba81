"""The HTTP door of one model: a bare ASGI application below `/v2/models/<name>`.

Knows nothing of Serve or of what a model is made of. A web framework here costs a fifth to a half of the requests
per second of a small model, so this is routes, a bounded body and headers by hand.

    GET  ""  or /versions/<v>          metadata          GET  .../ready      is it loaded
    POST .../infer                     inference         HEAD wherever GET is

`infer?settle=true` answers with the settled receipt, or after `settle_timeout_s` seconds with the provisional one.
Every refusal is `{"error": "..."}` with the status of its class in app/errors.py.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app.errors import InvalidInput, JoulekeeperError, NotFound, TooLarge
from app.protocol import oip_http
from app.serving.metered import MeteredModel
from app.serving.settling import settle_of_query

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PLATFORM = "joulekeeper"

_LINGER = 4


@dataclass(slots=True)
class _Response:
    body: bytes
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)


class _Refused(InvalidInput):
    """A refusal that only HTTP knows: its own status and headers."""

    def __init__(self, message: str, status: int, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.http_status = status
        self.headers = list(headers)


class _Gone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


class HttpDoor:
    """The ASGI application. Called by one event loop."""

    def __init__(self, model: MeteredModel) -> None:
        self._model = model
        self._routes = {
            "": ("GET", self._metadata),
            "ready": ("GET", self._readiness),
            "infer": ("POST", self._infer),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._route(scope)(scope, receive)
        except JoulekeeperError as error:
            response = _refusal(error)
        except _Gone:
            return
        await _send(send, response, with_body=scope["method"] != "HEAD")

    def _route(self, scope: Scope) -> Callable[[Scope, Receive], Awaitable[_Response]]:
        """The handler of the request's path and method. Raises NotFound, or InvalidInput for the method."""
        rest = scope["path"][len(scope.get("root_path", "")) :]
        parts = rest.strip("/").split("/")
        if rest and not rest.startswith("/"):
            raise NotFound(f"no model {self._model.args.name + rest!r} here; this is {self._model.label}")
        if parts[0] == "versions" and len(parts) > 1:
            self._model.check_version(parts[1])
            parts = parts[2:] or [""]
        if len(parts) > 1 or parts[0] not in self._routes:
            raise NotFound(f"no path {scope['path']!r}; there are POST .../infer, GET .../ready and GET ...")
        method, handler = self._routes[parts[0]]
        if scope["method"] != method and not (scope["method"] == "HEAD" and method == "GET"):
            raise _Refused(f"{scope['path']} does not take {scope['method']}; use {method}", 405, ("allow", method))
        return handler

    async def _metadata(self, scope: Scope, receive: Receive) -> _Response:
        return _Response(oip_http.build_metadata(self._model.signature, PLATFORM))

    async def _readiness(self, scope: Scope, receive: Receive) -> _Response:
        args, ready = self._model.args, self._model.ready
        return _Response(oip_http.build_readiness(args.name, args.version, ready), 200 if ready else 503)

    async def _infer(self, scope: Scope, receive: Receive) -> _Response:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        _check_encoding(headers)
        settle_s = settle_of_query(scope.get("query_string", b""))
        body = await _read_body(headers, receive, self._model.args.max_body_bytes)
        signature = self._model.signature
        encoded, told = await self._model.answer(
            partial(oip_http.parse_request, body, signature),
            partial(oip_http.build_response, signature=signature),
            carrier=scope["headers"],
            settle_s=settle_s,
        )
        return _Response(encoded, headers=told)


def _check_encoding(headers: Mapping[str, str]) -> None:
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise _Refused(f"content-encoding {encoding!r} is not supported; send the body as it is", 415)
    if "inference-header-content-length" in headers:
        raise InvalidInput("binary tensor data is not supported over HTTP; send `data` as JSON, or use gRPC")


async def _read_body(headers: Mapping[str, str], receive: Receive, max_bytes: int) -> bytes:
    """The whole body. One that is too large is read to its end too, unkept: a client that still sends when its
    connection closes would never see the refusal. Past `_LINGER` times the bound that courtesy ends."""
    declared = headers.get("content-length", "")
    expected = int(declared) if declared.isdecimal() else 0
    chunks: list[bytes] = []
    size = 0
    while True:
        if max(size, expected) > _LINGER * max_bytes:
            raise _too_large(f"more than {_LINGER * max_bytes}", max_bytes, ("connection", "close"))
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        size += len(chunk := message.get("body", b""))
        if size <= max_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
        if not message.get("more_body", False):
            break
    if size > max_bytes:
        raise _too_large(str(size), max_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(size: str, max_bytes: int, *headers: tuple[str, str]) -> _Refused:
    message = f"the body has {size} bytes, at most {max_bytes} are read; send fewer rows per request"
    return _Refused(message, TooLarge.http_status, *headers)


def _refusal(error: JoulekeeperError) -> _Response:
    headers = error.headers if isinstance(error, _Refused) else []
    return _Response(oip_http.build_error(str(error)), error.http_status, headers)


async def _send(send: Send, response: _Response, with_body: bool) -> None:
    headers = [
        (b"content-type", oip_http.JSON.encode()),
        (b"content-length", str(len(response.body)).encode()),
        *((name.encode(), value.encode()) for name, value in response.headers),
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
