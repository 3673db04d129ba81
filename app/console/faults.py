"""Every failure of the console as JSON: `{"error": "..."}` with the status that the error tree gives it.

Knows nothing of what the routes do.
"""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.access.refusals import headers_of
from app.errors import JoulekeeperError

logger = logging.getLogger(__name__)

_DOORS = "/console, /metrics, /healthz, /api/status, /api/report, /api/receipts/{id}, /v2, /v1/models"


def answer_in_json(api: FastAPI) -> None:
    """Install the handlers."""
    api.add_exception_handler(JoulekeeperError, _known)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(Exception, _unexpected)


async def _known(_: Request, error: Exception) -> JSONResponse:
    status = error.http_status if isinstance(error, JoulekeeperError) else 500
    headers = headers_of(error) if isinstance(error, JoulekeeperError) else ()
    return JSONResponse({"error": str(error)}, status, headers=dict(headers))


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else ()
    sentences = [f"{fault['loc'][-1]}: {fault['msg']}, got {fault.get('input')!r}" for fault in faults]
    return JSONResponse({"error": "; ".join(sentences)}, 400)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException) or error.status_code not in (404, 405):
        return JSONResponse({"error": getattr(error, "detail", str(error))}, getattr(error, "status_code", 500))
    if error.status_code == 405:
        sentence = f"{request.method} is not allowed on {request.url.path}"
    else:
        sentence = f"nothing at {request.url.path}; there is {_DOORS}"
    return JSONResponse({"error": sentence}, error.status_code, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": f"internal error ({type(error).__name__}); the console's log has the details"}, 500)
