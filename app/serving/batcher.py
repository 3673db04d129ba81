"""Dynamic batching: requests wait for each other, run as one call, and each gets its own answer.

The thin shell around `BatchQueue`: it owns the timer and hands batches to the lane, one after the other. Knows nothing
of wires, accounts or energy but the sum that it tells the governor. A client that leaves takes its request along as
long as that waits.

    batcher = Batcher(lane, work, limits)                       # work(asks) -> [an answer or an exception for each]
    answer = await batcher.submit(ask, kind, rows)

With a governor its limits hold instead of the fixed ones, asked before each batch; each batch is told to it.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import Unavailable
from app.policy.batching import BatchLimits, BatchSeen, Governor
from app.policy.governed import Governed
from app.serving.batch_queue import BatchQueue, Entry
from app.serving.lane import Lane

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

_log = logging.getLogger("ray.serve")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Ask, Answer]):
    ask: Ask
    answer: "asyncio.Future[Answer]"


class Batcher(Generic[Ask, Answer]):
    """One model's. Used from one event loop; `work` runs on the lane's thread."""

    def __init__(
        self,
        lane: Lane,
        work: Callable[[Sequence[Ask]], Sequence[Answer | Exception]],
        limits: BatchLimits,
        max_queued: int,
        governor: Governor | None = None,
        energy_uj: Callable[[Sequence[Answer]], int] = lambda answers: 0,
    ) -> None:
        """`energy_uj` of answers of one batch, for the governor."""
        self._lane, self._work, self._fixed = lane, work, limits
        self._governor, self._energy_uj = governor, energy_uj
        self._queue: BatchQueue[_Waiting[Ask, Answer]] = BatchQueue(max_queued)
        self._serving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limits(self) -> BatchLimits:
        """Those of the next batch."""
        return self._governor.limits() if self._governor else self._fixed

    @property
    def governed(self) -> Governed | None:
        """What its governor found; None: the limits are fixed."""
        return self._governor.governed() if self._governor else None

    async def submit(self, ask: Ask, kind: Hashable | None, rows: int) -> Answer:
        """The answer to `ask`, which may be joined with others of its `kind`. Raises Unavailable when too many wait."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Ask, Answer] = _Waiting(ask, loop.create_future())
        entry = self._queue.add(waiting, kind, rows, loop.time())
        if self._serving is None:
            self._consider(loop)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            self._queue.drop(entry)
            raise

    def close(self) -> None:
        """Nobody is served any more: those who wait are told so."""
        if self._timer is not None:
            self._timer.cancel()
        for entry in self._queue.take_all():
            _settle(entry.item.answer, Unavailable("the model is being unloaded; try again in a moment"))

    def _consider(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is being served: begin with the next batch, now or when it falls due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = self._queue.due_s(self.limits)
        if due_s is None:
            return
        if due_s <= loop.time():
            # a task begins in the next round of the loop: what comes in this one is in the batch, too
            self._serving = loop.create_task(self._serve(loop))
        else:
            self._timer = loop.call_at(due_s, self._consider, loop)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Batches for as long as one is due."""
        try:
            while (due_s := self._queue.due_s(limits := self.limits)) is not None and due_s <= loop.time():
                await self._serve_batch(self._queue.take(limits), limits, loop)
        finally:
            self._serving = None
            self._consider(loop)

    async def _serve_batch(
        self, batch: list[Entry[_Waiting[Ask, Answer]]], limits: BatchLimits, loop: asyncio.AbstractEventLoop
    ) -> None:
        waiting = [entry.item for entry in batch]
        began_s = loop.time()
        try:
            answers = await self._lane.hop(self._work, [each.ask for each in waiting], requests=len(waiting))
        except Exception as error:
            answers = [error] * len(waiting)
        for each, answer in zip(waiting, answers, strict=True):
            _settle(each.answer, answer)
        self._queue.answered(len(batch), loop.time() - began_s, loop.time())
        if self._governor:
            self._tell(self._governor, batch, limits, answers, loop.time())

    def _tell(
        self,
        governor: Governor,
        batch: list[Entry[_Waiting[Ask, Answer]]],
        limits: BatchLimits,
        answers: Sequence[Answer | Exception],
        now_s: float,
    ) -> None:
        good = [answer for answer in answers if not isinstance(answer, Exception)]
        if len(good) < len(answers):  # what failed says nothing of how long and how dear an answer is
            return
        rows = sum(entry.rows for entry in batch)
        latencies_s = [now_s - entry.arrived_s for entry in batch]
        governor.observe(BatchSeen(now_s, limits, rows, self._energy_uj(good), latencies_s))
        if governor.limits() != limits:
            _log.debug("batches: %s; %s", governor.limits(), governor.reason)


def _settle(future: "asyncio.Future[Answer]", answer: Answer | Exception) -> None:
    if future.done():  # its client has left while it ran
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
