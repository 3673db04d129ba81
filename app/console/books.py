"""What the console asks of the books, and the line to them that mends itself.

Knows nothing of HTTP. The accountant may not be there yet, or have been restarted: a failed call forgets the
connection, the next one makes a new one.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from app.engine.views import Receipt, Receipts, Report, ReportKey, Status
from app.errors import Unavailable

Answer = TypeVar("Answer")


class Books(Protocol):
    """The asynchronous questions of `app.metering.accountant.BooksClient` that the console uses."""

    async def areport(
        self, by: ReportKey, since_s: float | None = None, until_s: float | None = None, tenant: str | None = None
    ) -> Report:
        """Energy and carbon of a period by group, of one tenant if one is named. Raises Unavailable."""

    async def areceipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        """One receipt. Raises NotFound, Unavailable."""

    async def areceipts(self, receipt_ids: Sequence[str]) -> Receipts:
        """Many receipts as they are now. Raises InvalidInput, Unavailable."""

    async def astatus(self) -> Status:
        """The live picture. Raises Unavailable."""

    async def aprometheus(self) -> str:
        """All instruments in Prometheus' text format. Raises Unavailable."""


class MendingBooks:
    """`Books` over a connection made when first needed and made anew after a failure."""

    def __init__(self, connect: Callable[[], Awaitable[Books]]) -> None:
        self._connect = connect
        self._books: Books | None = None

    async def areport(
        self, by: ReportKey, since_s: float | None = None, until_s: float | None = None, tenant: str | None = None
    ) -> Report:
        return await self._ask(lambda books: books.areport(by, since_s, until_s, tenant))

    async def areceipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        return await self._ask(lambda books: books.areceipt(receipt_id, settle_timeout_s))

    async def areceipts(self, receipt_ids: Sequence[str]) -> Receipts:
        return await self._ask(lambda books: books.areceipts(receipt_ids))

    async def astatus(self) -> Status:
        return await self._ask(lambda books: books.astatus())

    async def aprometheus(self) -> str:
        return await self._ask(lambda books: books.aprometheus())

    async def _ask(self, question: Callable[[Books], Awaitable[Answer]]) -> Answer:
        if self._books is None:
            self._books = await self._connect()
        try:
            return await question(self._books)
        except Unavailable:
            self._books = None
            raise
