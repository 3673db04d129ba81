"""The courier: brings what waits in a node's journal to the accountant, oldest first, until it is acknowledged.

A plain class, driven by the meter's delivering thread; knows nothing of Ray, and of the accountant only that it takes
deliveries. What the store will never take (another batch stands under its name: a restored or cloned journal) is set
aside in files that stay, with a warning that stays as long as they do, and the journal goes on under another name.

    courier = Courier(journal, lock, connect, describe, troubles, rename)
    courier.deliver(now_s)               # raises Unavailable: try again later
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from app.engine.delivery import Delivery, MeterCondition
from app.engine.troubles import Troubles
from app.errors import BooksDamaged
from app.ledger.journal import Batch, Journal

_log = logging.getLogger(__name__)

_BATCHES_AT_ONCE = 64
_TELL_EVERY_S = 5.0


class Taker(Protocol):
    """Whoever takes deliveries."""

    def deliver(self, delivery: Delivery) -> None:
        """Returns when it is committed. Raises Unavailable (deliver again), BooksDamaged (it will never be taken)."""

    def close(self) -> None:
        """No more deliveries."""


class Courier:
    """`lock` guards the journal; `describe` says how the meter fares, given how many batches wait."""

    def __init__(
        self,
        journal: Journal,
        lock: AbstractContextManager[object],
        connect: Callable[[], Taker],
        describe: Callable[[int], MeterCondition],
        troubles: Troubles,
        rename: Callable[[], str],
    ) -> None:
        self._journal, self._lock, self._connect = journal, lock, connect
        self._describe, self._troubles, self._rename = describe, troubles, rename
        self._taker: Taker | None = None
        self._told_s, self._told = -_TELL_EVERY_S, False

    def deliver(self, now_s: float) -> None:
        """Everything that waits. Raises Unavailable, and OSError when the journal's disk fails."""
        try:
            while batches := self._next():
                self._journal.sync()  # nothing is delivered that a power failure could take from the journal
                self._bring(batches, now_s)
                self._told_s = now_s
            if self._has_to_tell(now_s):
                self._take([])
                self._told_s = now_s
        except Exception:
            self.hang_up()
            raise

    def hang_up(self) -> None:
        """Close the connection; the next delivery makes a new one."""
        taker, self._taker = self._taker, None
        if taker is not None:
            with contextlib.suppress(Exception):
                taker.close()

    def _next(self) -> list[Batch]:
        with self._lock:
            return self._journal.unacknowledged(_BATCHES_AT_ONCE)

    def _has_to_tell(self, now_s: float) -> bool:
        """Trouble is told even while there is nothing to deliver, and once more when it has ended."""
        troubled = bool(self._troubles.sentences(now_s))
        due = now_s - self._told_s >= _TELL_EVERY_S
        if not (due and (troubled or self._told)):
            return False
        self._told = troubled
        return True

    def _bring(self, batches: Sequence[Batch], now_s: float) -> None:
        try:
            self._take(batches)
        except BooksDamaged as error:
            if len(batches) > 1:
                self._bring(batches[:1], now_s)  # those before the damaged one are good
            else:
                self._set_aside(batches[0], error, now_s)
            return
        with self._lock:
            self._journal.acknowledge(batches[-1])

    def _take(self, batches: Sequence[Batch]) -> None:
        self._taker = self._taker or self._connect()
        with self._lock:
            waiting = self._journal.waiting
        self._taker.deliver(Delivery(self._describe(waiting), tuple(batches)))

    def _set_aside(self, batch: Batch, error: BooksDamaged, now_s: float) -> None:
        with self._lock:
            waiting = self._journal.waiting
            self._journal.begin_anew(self._rename())
        _log.error("%d batches from %s on were refused and set aside: %s", waiting, batch.position, error)
        warn_of_refused(self._journal, self._troubles, now_s, f": {error}")


def warn_of_refused(journal: Journal, troubles: Troubles, now_s: float, why: str = "") -> None:
    """As long as files of refused batches lie in the journal's directory, somebody should look at them."""
    refused = journal.refused()
    if refused:
        names = ", ".join(path.name for path in refused[:3])
        sentence = (
            f"the store refused batches of this node{why}; they are not on the books and were set aside in "
            f"{refused[0].parent} ({names}); move the files away once you have looked into it"
        )
        troubles.begin("refused", sentence, now_s)
    else:
        troubles.end("refused")
