"""The store: every batch exactly once, and what is derived from them.

SQLite or PostgreSQL by URL. Batches and what they add to the balances are one transaction, keyed by
(meter, epoch, sequence): delivering one twice changes nothing. Knows nothing of carbon, Ray or who asks.

    store = Store("sqlite:///books.sqlite")
    store.book(batches)                          # how many were new
    store.balances(since_s=..., until_s=...)
    store.totals()
    with store.moment() as books: ...            # several questions, one answer in time
    store.compact(now_s)
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from app.errors import Unavailable
from app.ledger import migration
from app.ledger.batch import Batch
from app.ledger.booking import BUCKET_S, Booker, require_same
from app.ledger.compaction import Compaction, Compactor, Retention
from app.ledger.database import Database
from app.ledger.reader import Balance, JobPart, Overlap, Position, Reader, StoredDevice

__all__ = ["BUCKET_S", "Balance", "Compaction", "JobPart", "Overlap", "Reader", "Retention", "Store", "StoredDevice"]


class Store:
    """The accountant's store. Thread-safe. Everything raises Unavailable when the database does not do its part."""

    def __init__(
        self, url: str, retention: Retention | None = None, at_once: bool = True, bucket_s: int = BUCKET_S
    ) -> None:
        """`at_once` False: a database that does not answer yet is opened when it is first needed. `bucket_s`: width of
        the finest balances, a divisor of an hour.

        Raises InvalidInput for a URL or a schema that this program cannot use.
        """
        self._database = Database(url)
        self._booker = Booker(self._database, bucket_s)
        self._compactor = Compactor(self._database, retention or Retention())
        self._compacting = threading.Lock()
        self._is_open = False
        try:
            self._open()
        except Unavailable:
            if at_once:
                raise

    def _open(self) -> None:
        """Bring the schema up to date, once."""
        if self._is_open:
            return
        with self._database.reading("be opened") as connection:
            current = migration.is_current(connection)
        if not current:
            with self._database.writing("be opened") as connection:
                migration.upgrade(connection)
        self._is_open = True

    def book(self, group: Sequence[Batch]) -> int:
        """Store batches, of any meters and in any order, and add the new ones to the balances; says how many were new.

        One transaction: when it raises, nothing of the group is booked. Raises Unavailable, and BooksDamaged naming the
        batch that has another in its place or cannot be understood.
        """
        found: dict[tuple[Any, ...], Batch] = {}
        for batch in group:
            require_same(batch, found.setdefault((batch.meter, *batch.position), batch).digest)
        self._open()
        with self._database.writing("take a batch") as connection:
            try:
                new = self._booker.insert(connection, found)
                self._booker.add(connection, new)
            except BaseException:
                self._booker.forget()
                raise
        return len(new)

    def compact(self, now_s: float, steps: int = 200) -> Compaction:
        """Join old balances and seal old batches in at most `steps` short transactions; call again if there is more."""
        self._open()
        with self._compacting:
            return self._compactor.compact(now_s, steps)

    @contextlib.contextmanager
    def moment(self) -> Iterator[Reader]:
        """Ask several things of one moment, however many batches are booked meanwhile."""
        self._open()
        with self._database.reading() as connection:
            yield Reader(connection)

    def balances(self, since_s: float | None = None, until_s: float | None = None) -> list[Balance]:
        """Balances by bucket, device, account and grade, of the buckets that touch [since_s, until_s).

        Buckets are minutes, or of `bucket_s`, where these are still kept, else hours, else days: see `Balance.width_s`.
        """
        with self.moment() as books:
            return list(books.balances(since_s, until_s))

    def totals(self) -> list[Balance]:
        """Balances by device, account and grade since the books began; `bucket_s` and `width_s` are 0.

        These are kept as batches are booked: asking costs the same however long the books are.
        """
        with self.moment() as books:
            return list(books.totals())

    def job_parts(self, job: str = "") -> list[JobPart]:
        """What the parts of a job used, of all jobs if none is named; by account, worker and part."""
        with self.moment() as books:
            return list(books.job_parts(job))

    def overlaps(self) -> list[Overlap]:
        """Where two meters have booked the same device over the same time; there should be none."""
        with self.moment() as books:
            return books.overlaps()

    def ends(self) -> dict[str, Position]:
        """Position of the last batch of every meter that ever delivered."""
        with self.moment() as books:
            return books.ends()

    def batches(self, meter: str) -> Iterator[Batch]:
        """The batches of a meter in order that were not dropped because of their age."""
        with self.moment() as books:
            yield from books.batches(meter)

    def devices(self) -> list[StoredDevice]:
        """Every device that was ever booked."""
        with self.moment() as books:
            return books.devices()

    def close(self) -> None:
        """Give back all connections."""
        self._database.close()
