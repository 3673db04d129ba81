"""The console as one ASGI application: page, books and server level put together.

Knows nothing of Ray: everything it asks comes in as a protocol, so that it is tested as a plain application.
"""

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, FastAPI

from app.access.gate import Gate
from app.console.books import Books
from app.console.bounds import BoundedBodies
from app.console.catalogue import Catalogue
from app.console.faults import answer_in_json
from app.console.forward import ServeDoor, forward_router
from app.console.guard import Guard
from app.console.ledger_api import ledger_router, receipts_router
from app.console.openapi import publish
from app.console.page import page_router
from app.console.repository import Repository
from app.console.server_api import models_router, repository_router, server_router
from app.product import version_of


def build_api(
    books: Books,
    catalogue: Catalogue,
    repository: Repository,
    now: Callable[[], datetime],
    gate: Gate,
    door: ServeDoor,
    *more: APIRouter,
) -> FastAPI:
    """The application; `more` are routes beside those of books, models and page.

    FastAPI's own documentation pages load scripts from elsewhere and are off.
    """
    api = FastAPI(
        title="Joulekeeper",
        version=version_of(),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    answer_in_json(api)
    api.add_middleware(BoundedBodies)
    api.add_middleware(Guard, gate=gate)  # added last, asked first: no byte of a stranger's body is read
    servers = (
        repository_router(repository),
        server_router(catalogue),
        models_router(catalogue),
        forward_router(catalogue, door),
    )
    for router in (page_router(), ledger_router(books, now), receipts_router(books), *servers, *more):
        api.include_router(router)
    publish(api)
    return api
