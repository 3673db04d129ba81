"""The HTTP door of one model: a bare ASGI application below `/v2/models/<name>`.

Knows nothing of Serve or of what a model is made of. A web framework here costs a fifth to a half of the requests
per second of a small model, so this is routes and headers by hand.

    GET  ""  or /versions/<v>          metadata          GET  .../ready      is it loaded
    POST .../infer                     inference         GET  .../config     Triton's model configuration
    HEAD wherever GET is                                 GET  .../stats      what this replica has counted

`infer?settle=true` answers with the settled receipt, or after `settle_timeout_s` seconds with the provisional one.
Every refusal is `{"error": "..."}` with the status of its class in app/errors.py.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.access.gate import Caller
from app.access.refusals import headers_of
from app.clock import Clock, SystemClock
from app.errors import InvalidInput, JoulekeeperError, NotFound
from app.protocol import descriptions
from app.protocol.coding import CODINGS, preferred
from app.protocol.model_statistics import ModelCounts
from app.protocol.oip_http import JSON, Framing, HttpAnswer, HttpInference
from app.serving.admission import Admission
from app.serving.answering import AnsweringModel
from app.serving.args import ServedArgs
from app.serving.http_body import ClientGone, Receive, Refused, read_body
from app.serving.receipts import as_headers
from app.serving.settling import settle_of_query

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Mapping[bytes, bytes]
RawHeaders = list[tuple[bytes, bytes]]

PLATFORM = "joulekeeper"
_ROUTES = 64  # that are kept found

_JSON_HEADER = (b"content-type", JSON.encode())


@dataclass(slots=True)
class _Response:
    body: bytes
    status: int = 200
    headers: RawHeaders = field(default_factory=list)
    """Without content-type, if that is JSON, and content-length."""
    media_type: str = JSON


class HttpDoor:
    """The ASGI application. Called by one event loop."""

    def __init__(
        self, model: AnsweringModel, counts: ModelCounts, admission: Admission, clock: Clock | None = None
    ) -> None:
        self._model = model
        self._admission = admission
        self._counts = counts
        self._clock = clock or SystemClock()
        self._routes = {
            "": ("GET", self._metadata),
            "ready": ("GET", self._readiness),
            "config": ("GET", self._config),
            "stats": ("GET", self._statistics),
            "infer": ("POST", self._infer),
        }
        self._route = lru_cache(_ROUTES)(self._find_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["joulekeeper.caller"] = self._admission.of_http(scope)
            handler = self._route(scope["method"], scope["path"], scope.get("root_path", ""))
            response = await handler(scope, receive)
        except JoulekeeperError as error:
            response = _refusal(error)
        except ClientGone:
            return
        await _send(send, response, with_body=scope["method"] != "HEAD")

    def _find_route(self, method: str, path: str, root_path: str) -> Callable[[Scope, Receive], Awaitable[_Response]]:
        """The handler of a request's method and path. Raises NotFound, or InvalidInput for the method."""
        rest = path[len(root_path) :]
        parts = rest.strip("/").split("/")
        if rest and not rest.startswith("/"):
            raise NotFound(f"no model {self._model.args.name + rest!r} here; this is {self._model.label}")
        if parts[0] == "versions" and len(parts) > 1:
            self._model.check_version(parts[1])
            parts = parts[2:] or [""]
        if len(parts) > 1 or parts[0] not in self._routes:
            raise NotFound(
                f"no path {path!r}; there are POST .../infer, GET .../ready, .../config, .../stats and GET ..."
            )
        taken, handler = self._routes[parts[0]]
        if method != taken and not (method == "HEAD" and taken == "GET"):
            raise Refused(f"{path} does not take {method}; use {taken}", 405, ("allow", taken))
        return handler

    async def _metadata(self, scope: Scope, receive: Receive) -> _Response:
        return _Response(descriptions.build_metadata(self._model.signature, PLATFORM))

    async def _config(self, scope: Scope, receive: Receive) -> _Response:
        return _Response(descriptions.build_config(self._model.signature, PLATFORM))

    async def _statistics(self, scope: Scope, receive: Receive) -> _Response:
        return _Response(descriptions.build_statistics(self._model.signature, self._counts))

    async def _readiness(self, scope: Scope, receive: Receive) -> _Response:
        args, ready = self._model.args, self._model.ready
        return _Response(descriptions.build_readiness(args.name, args.version, ready), 200 if ready else 503)

    async def _infer(self, scope: Scope, receive: Receive) -> _Response:
        began_ns = self._clock.monotonic_ns()
        try:
            response = await self._answer(scope, receive)
        except JoulekeeperError:
            self._counts.fail.add(self._clock.monotonic_ns() - began_ns)
            raise
        self._counts.success.add(self._clock.monotonic_ns() - began_ns)
        self._counts.last_inference_ms = self._clock.wall_ns() // 1_000_000
        return response

    async def _answer(self, scope: Scope, receive: Receive) -> _Response:
        """Who asks was decided before, from the headers alone: no byte of a stranger's body is looked at."""
        headers: Headers = dict(scope["headers"])
        caller: Caller = scope["joulekeeper.caller"]
        args, signature = self._model.args, self._model.signature
        settle_s = settle_of_query(scope.get("query_string", b""))
        framing = _framing(headers, args)
        declared = headers.get(b"content-length", b"")
        aligned_after = None if framing.coding else framing.json_bytes
        body, framing.padding = await read_body(
            receive, declared, args.max_body_bytes, args.body_timeout_s, aligned_after
        )
        inference = HttpInference(body, signature, framing)
        answer, receipt, trace = await self._model.answer(
            inference.decode,
            inference.encode,
            carrier=scope["headers"],
            settle_s=settle_s,
            tenant=caller.tenant,
            # What a compressed body will be is not known before it is read: as much as it may.
            size_bytes=args.max_body_bytes if framing.coding else len(body),
        )
        self._admission.charge(caller, receipt)
        return self._response(answer, [*as_headers(receipt), *_encoded(trace)])

    def _response(self, answer: HttpAnswer, told: RawHeaders) -> _Response:
        if answer.json_bytes is not None:
            told.append((b"inference-header-content-length", b"%d" % answer.json_bytes))
        if answer.coding:
            self._counts.plain_bytes += answer.plain_bytes
            self._counts.coded_bytes += len(answer.body)
            ratio = (answer.plain_bytes - len(answer.body)) / answer.plain_bytes
            told += [
                (b"content-encoding", answer.coding.encode()),
                (b"vary", b"accept-encoding"),
                (b"x-joulekeeper-compression_ratio", b"%.3f" % ratio),
            ]
        return _Response(answer.body, headers=told, media_type=answer.media_type)


def _framing(headers: Headers, args: ServedArgs) -> Framing:
    """What the headers say of the body and of the answer wanted. Raises Refused, InvalidInput."""
    framing = Framing(max_bytes=args.max_body_bytes, answer_coding_over_bytes=args.compress_over_bytes)
    length = headers.get(b"inference-header-content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 18:
            raise InvalidInput(
                f"Inference-Header-Content-Length must be a whole number of bytes, got {length.decode('latin-1')!r}"
            )
        framing.json_bytes = int(length)
    coding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if coding not in ("", "identity"):
        if coding not in CODINGS:
            raise Refused(
                f"content-encoding {coding!r} is not supported; use one of {', '.join(CODINGS)}, or none",
                415,
                ("accept-encoding", ", ".join(CODINGS)),
            )
        framing.coding = coding
    accepted = headers.get(b"accept-encoding")
    if accepted is not None:
        framing.answer_coding = preferred(accepted.decode("latin-1"))
    return framing


def _refusal(error: JoulekeeperError) -> _Response:
    headers = error.headers if isinstance(error, Refused) else headers_of(error)
    return _Response(descriptions.build_error(str(error)), error.http_status, _encoded(headers))


def _encoded(headers: Iterable[tuple[str, str]]) -> RawHeaders:
    return [(name.encode(), value.encode()) for name, value in headers]


async def send_refusal(send: Send, error: JoulekeeperError) -> None:
    """Answer a request that never reached a door."""
    await _send(send, _refusal(error), with_body=True)


async def _send(send: Send, response: _Response, with_body: bool) -> None:
    headers = [
        _JSON_HEADER if response.media_type is JSON else (b"content-type", response.media_type.encode()),
        (b"content-length", b"%d" % len(response.body)),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
