"""Who may ask the console what: an ASGI application around another, and the same table for its gRPC methods.

Deny by default: a path that is not in the table takes a known caller, and only health asks nobody. A browser cannot be
told to send a key as a header, so it may bring it by HTTP's basic scheme, any user and the key as password; for GET
alone, since a browser sends that for other sites' pages too. Knows nothing of what the routes do.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from app.access.gate import Caller, Gate, credential
from app.access.refusals import headers_of
from app.access.scopes import ADMIN, ANYBODY_KNOWN, READ_REPORT, infer_scope
from app.console.faults import refused
from app.errors import Forbidden, JoulekeeperError, NotFound, Unauthenticated

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]

OPEN_PATHS = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})
OPEN_METHODS = frozenset({"ServerLive", "ServerReady", "Check", "Watch"})
_ADMIN_METHODS = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
_KNOWN_METHODS = frozenset({"ServerMetadata", "RepositoryIndex"})
_CALLER = "joulekeeper.caller"
_BASIC = 'Basic realm="joulekeeper", charset="UTF-8"'
_MAX_ROUTE_CHARS = 100


class Guard:
    """Passes on what `gate` admits; the caller is in the scope then."""

    def __init__(self, app: Application, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                scope[_CALLER] = self._admitted(scope)
            except JoulekeeperError as error:
                await _refusal(error, scope["method"], scope["path"])(scope, receive, send)
                return
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Message) -> Caller:
        client = scope.get("client")
        peer = client[0] if client else ""
        known_by = None if self._gate.is_open else _known_by(scope)
        route = f"{scope['method']} {scope['path']}"[:_MAX_ROUTE_CHARS]
        # What is passed on to a model is counted there.
        requests = 0 if scope["method"] == "POST" and scope["path"].startswith("/v1/") else 1
        return self._gate.admit(known_by, scope_of_path(scope["path"]), peer=peer, route=route, requests=requests)


def scope_of_path(path: str) -> str:
    """What asking for `path` takes."""
    parts = path.strip("/").split("/")
    match parts:
        case ["metrics"] | ["api", *_]:
            return READ_REPORT
        case ["v2", "repository", "models", *_]:
            return ADMIN
        case ["v2", "models", name, *_]:
            return infer_scope(name)
        case _:
            return ANYBODY_KNOWN


def admit_call(gate: Gate, grpc_context: Any, method: str, model: str = "") -> None:
    """Let a gRPC call of `method`, about `model`, pass. Raises what Gate.admit raises."""
    if method in _ADMIN_METHODS:
        wanted = ADMIN
    elif method in _KNOWN_METHODS:
        wanted = ANYBODY_KNOWN
    else:
        wanted = infer_scope(model)
    known_by = None if gate.is_open else credential(grpc_context.invocation_metadata())
    gate.admit(known_by, wanted, peer=grpc_context.peer(), route=method)


def caller_of(request: Request) -> Caller:
    """Who sent a request that came through the guard. Raises Forbidden for one that did not: nobody has checked it."""
    caller = request.scope.get(_CALLER)
    if not isinstance(caller, Caller):
        raise Forbidden("this request did not come through the guard")
    return caller


def tenant_of(request: Request) -> str | None:
    """The tenant whose books a caller may read; None: all of them."""
    caller = caller_of(request)
    return None if caller.is_admin else caller.tenant


def check_tenant(tenant: str | None, owner: str, receipt_id: str) -> None:
    """Raises NotFound for a receipt of others, in words that do not say that there is one."""
    if tenant is not None and owner != tenant:
        raise NotFound(f"receipt {receipt_id}: tenant {tenant} has none of this id")


def _known_by(scope: Message) -> str | None:
    found = credential(scope["headers"])
    if found is None or not found.lower().startswith("basic "):
        return found
    if scope["method"] not in ("GET", "HEAD"):
        raise Unauthenticated("the basic scheme is taken for GET alone; send `authorization: Bearer <key or token>`")
    try:
        return base64.b64decode(found[6:].strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("the basic credential cannot be read; send any user, and the key as password") from None


def _refusal(error: JoulekeeperError, method: str, path: str) -> Response:
    challenge = f'{_BASIC}, Bearer realm="joulekeeper"' if method in ("GET", "HEAD") else 'Bearer realm="joulekeeper"'
    return refused(error, path, headers=headers_of(error, challenge))
