"""The console as one ASGI application: page, books and server level put together.

Knows nothing of Ray: everything it asks comes in as a protocol, so that it is tested as a plain application.
"""

from collections.abc import Callable
from datetime import datetime

from fastapi import FastAPI

from app.console.books import Books
from app.console.catalogue import Catalogue
from app.console.faults import answer_in_json
from app.console.ledger_api import ledger_router, receipts_router
from app.console.page import page_router
from app.console.server_api import server_router
from app.product import version_of


def build_api(books: Books, catalogue: Catalogue, now: Callable[[], datetime]) -> FastAPI:
    """The application. FastAPI's own documentation pages load scripts from elsewhere and are off."""
    api = FastAPI(
        title="Joulekeeper console",
        version=version_of(),
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    answer_in_json(api)
    for router in (page_router(), ledger_router(books, now), receipts_router(books), server_router(catalogue)):
        api.include_router(router)
    return api
