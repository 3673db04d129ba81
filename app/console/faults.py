"""Every failure of the console as JSON: `{"error": "..."}` with the status that the error tree gives it, and below
`/v1/` in OpenAI's shape.

Knows nothing of what the routes do.
"""

import logging
from collections.abc import Iterable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from app.access.refusals import headers_of
from app.errors import InvalidInput, JoulekeeperError, NotFound
from app.protocol.openai_errors import refusal

logger = logging.getLogger(__name__)

_DOORS = (
    "/console, /metrics, /healthz, /api/status, /api/report, /api/receipts/{id}, /v2, /v1/models, "
    "POST /v1/chat/completions, /v1/files, /v1/batches"
)


def answer_in_json(api: FastAPI) -> None:
    """Install the handlers."""
    api.add_exception_handler(JoulekeeperError, _known)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(Exception, _unexpected)


def refused(error: Exception, path: str, status: int = 0, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """The answer to `error` of a call of `path`. `status` stands in place of the error's own."""
    own = error.http_status if isinstance(error, JoulekeeperError) else 500
    if path.startswith("/v1/"):
        told = refusal(error, headers)
        return Response(told.body, status or told.status, dict(told.headers), "application/json")
    return JSONResponse({"error": str(error)}, status or own, headers=dict(headers))


async def _known(request: Request, error: Exception) -> Response:
    headers = headers_of(error) if isinstance(error, JoulekeeperError) else ()
    return refused(error, request.url.path, headers=headers)


async def _invalid(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else ()
    sentences = [f"{fault['loc'][-1]}: {fault['msg']}, got {fault.get('input')!r}" for fault in faults]
    return refused(InvalidInput("; ".join(sentences)), request.url.path)


async def _refused(request: Request, error: Exception) -> Response:
    path = request.url.path
    if not isinstance(error, HTTPException) or error.status_code not in (404, 405):
        status = getattr(error, "status_code", 500)
        return refused(InvalidInput(getattr(error, "detail", str(error))), path, status)
    if error.status_code == 405:
        fault: JoulekeeperError = InvalidInput(f"{request.method} is not allowed on {path}")
    else:
        fault = NotFound(f"nothing at {path}; there is {_DOORS}")
    return refused(fault, path, error.status_code, (error.headers or {}).items())


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    told = JoulekeeperError(f"internal error ({type(error).__name__}); the console's log has the details")
    return refused(told, request.url.path)
