"""The live page: three files out of the package, served with a policy that lets a browser load nothing else.

Knows nothing of the books; the page asks /api and /v1/models itself.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response

_PAGES = Path(__file__).parent / "pages"
_TYPES = {"console.html": "text/html", "console.css": "text/css", "console.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_router() -> APIRouter:
    """`/` and `/console`. The files are read once, when this is called."""
    router = APIRouter(include_in_schema=False)
    contents = {name: (_PAGES / name).read_bytes() for name in _TYPES}

    def page(name: str) -> Response:
        return Response(contents[name], media_type=f"{_TYPES[name]}; charset=utf-8", headers=_HEADERS)

    @router.get("/")
    async def root() -> RedirectResponse:
        return RedirectResponse("/console")

    @router.get("/console")
    async def console() -> Response:
        return page("console.html")

    @router.get("/console/console.css")
    async def style() -> Response:
        return page("console.css")

    @router.get("/console/console.js")
    async def script() -> Response:
        return page("console.js")

    return router
