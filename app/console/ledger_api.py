"""The books over HTTP: live status, reports, receipts, Prometheus' endpoint. Read only.

Knows nothing of Ray: the books come in as a protocol, now as an argument.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response

from app.console.books import Books
from app.console.exports import report_csv
from app.console.guard import check_tenant, tenant_of
from app.console.own_figures import own_figures
from app.console.period import parse_period
from app.engine.views import Receipt, Receipts, Report, ReportKey, Status

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/ (read 2026-11-22)."""
_MAX_WAIT_S = 60.0
_MAX_RECEIPTS = 1000


def ledger_router(books: Books, now: Callable[[], datetime]) -> APIRouter:
    """`/api/*`, `/metrics` and `/healthz`."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, bool]:
        """The console answers; says nothing about the books."""
        return {"ok": True}

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """All instruments in Prometheus' text format; to a tenant without other tenants' figures."""
        exposition, tenant = await books.aprometheus(), tenant_of(request)
        return Response(exposition if tenant is None else own_figures(exposition, tenant), media_type=EXPOSITION)

    @router.get("/api/status")
    async def status() -> Status:
        """Nodes, devices and accounts now."""
        return await books.astatus()

    @router.get("/api/report", response_model=Report)
    async def report(
        request: Request,
        by: ReportKey = "account",
        since: str | None = None,
        until: str | None = None,
        format: Literal["json", "csv"] = "json",
    ) -> Report | Response:
        """Energy and carbon of a period, a tenant's own; `since` and `until` as in `joulekeeper report`."""
        since_s, until_s = parse_period(since, until, now())
        answer = await books.areport(by, since_s, until_s, tenant_of(request))
        if format == "csv":
            return Response(report_csv(answer), media_type="text/csv; charset=utf-8")
        return answer

    return router


def receipts_router(books: Books) -> APIRouter:
    """`/api/receipts`: one by its id, or many at once."""
    router = APIRouter()

    @router.get("/api/receipts/{receipt_id}")
    async def receipt(
        request: Request, receipt_id: str, wait: Annotated[float, Query(ge=0, le=_MAX_WAIT_S)] = 0.0
    ) -> Receipt:
        """One receipt, a tenant's own; `wait` seconds at most for it to settle."""
        found = await books.areceipt(receipt_id, wait)
        check_tenant(tenant_of(request), found.tenant, receipt_id)
        return found

    @router.post("/api/receipts")
    async def receipts(
        request: Request,
        ids: Annotated[list[str], Body(embed=True, min_length=1, max_length=_MAX_RECEIPTS)],
    ) -> Receipts:
        """Many receipts as they are now, asked for by `{"ids": [...]}`: nothing is changed."""
        return _own(await books.areceipts(ids), tenant_of(request))

    return router


def _own(found: Receipts, tenant: str | None) -> Receipts:
    """Without those of other tenants, which are missing then."""
    if tenant is None:
        return found
    others = [receipt.receipt_id for receipt in found.receipts if receipt.tenant != tenant]
    return Receipts(
        receipts=tuple(receipt for receipt in found.receipts if receipt.tenant == tenant),
        missing=found.missing | {each: f"receipt {each}: tenant {tenant} has none of this id" for each in others},
    )
