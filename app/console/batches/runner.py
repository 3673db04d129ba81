"""Runs the open batches in their hours: asks the lane what runs now, sends requests, keeps answers, ends what is over.

A shell around planning.py. Knows nothing of HTTP or Ray: sender, grid and books are arguments. Whatever it was doing
when its process ended it does again: a request without an answer on disk is asked again, and what it used before is on
the books all the same.

    runner = BatchRunner(store, sender, lane, grid, receipts, credential, keep, clock)
    while True: await runner.step()
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.carbon.intensity import LocationAverageSeries
from app.carbon.slot_store import PastForecast
from app.clock import Clock
from app.console.batches.figures import bucket_of, outcome
from app.console.batches.planning import BatchLook, Lane, Load
from app.console.batches.records import Answered, BatchRecord, Pace, Pending
from app.console.batches.sending import Later, Sender
from app.console.batches.store import BatchStore
from app.domain.decision import Choice, Saving
from app.engine.outlook import look_ahead
from app.engine.views import Receipts
from app.errors import Forbidden, JoulekeeperError, Unavailable
from app.units import NS_PER_S

_log = logging.getLogger("ray.serve")

_TICK_S = 1.0
_REPLAN_S = 30.0
"""At the latest, while anything runs: paces are learnt."""
_LONGEST_BACKOFF_S = 300.0
_SETTLE_TRIES, _SETTLE_EVERY_S, _RECEIPTS_AT_ONCE = 20, 3.0, 1000
_PAST_S = 28 * 86_400.0
_ENDINGS = {
    "cancelled": ("batch_cancelled", "the batch was cancelled before this request was asked"),
    "expired": ("batch_expired", "the completion window ended before this request was answered"),
    "failed": ("batch_failed", "the batch ended before this request was asked"),
}

AskReceipts = Callable[[Sequence[str]], Awaitable[Receipts]]
Credential = Callable[[BatchRecord, Sequence[str]], str | None]
"""What a batch's requests are known by, its models given; None: access is open. Raises Forbidden where who sent it may
no longer, Unavailable where that is not known now."""


class GridView(Protocol):
    """What is used of `app.carbon.grid.Grid`."""

    def average(self) -> LocationAverageSeries: ...
    def past_forecasts(self, start_ns: int, end_ns: int) -> tuple[PastForecast, ...]: ...


@dataclass(slots=True)
class _Ongoing:
    """What is known of an open batch beyond the disk."""

    numbers: set[int]
    """Of requests that are being asked."""
    models: list[str] = field(default_factory=list)
    not_before_s: float = 0.0
    was_running: bool = False
    shown_turn_s: float | None = None
    settle_tries: int = 0
    settle_at_s: float = 0.0


class BatchRunner:
    """For one event loop, one in the cluster."""

    def __init__(
        self,
        store: BatchStore,
        sender: Sender,
        lane: Lane,
        grid: GridView,
        receipts: AskReceipts,
        credential: Credential,
        keep: Callable[[Choice], int],
        clock: Clock,
        *,
        pue: float = 1.0,
        settle_lag_s: float = 3.0,
    ) -> None:
        """`settle_lag_s`: after the last answer, until receipts are final at the earliest."""
        self._store, self._sender, self._lane, self._grid = store, sender, lane, grid
        self._receipts, self._credential, self._keep, self._clock = receipts, credential, keep, clock
        self._pue, self._settle_lag_s = pue, settle_lag_s
        self._tasks: dict[asyncio.Task[Answered | Later], Pending] = {}
        self._ongoing: dict[str, _Ongoing] = {}
        self._attempts: dict[tuple[str, int], int] = {}
        self._held_back: dict[tuple[str, int], float] = {}
        """Requests that were told to come later."""
        self._looks: dict[str, BatchLook] = {}
        self._planned: tuple[object, ...] = ()
        self._plan_due_s = 0.0

    async def step(self, patience_s: float = _TICK_S) -> None:
        """One round; returns when something was answered, or after `patience_s`."""
        now_s = self._now_s()
        batches = self._store.open_batches()
        self._forget(batches)
        for batch in batches:
            await self._close_if_over(batch, now_s)
        active = [each for each in batches if each.state != "settling" and not each.cancelled_s]
        self._plan(active, now_s)
        for batch in active:
            self._launch(batch, now_s)
        if not self._tasks:
            await asyncio.sleep(patience_s)
            return
        done, _ = await asyncio.wait(self._tasks, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        self._take([task.result() for task in done], [self._tasks.pop(task) for task in done])

    @property
    def is_idle(self) -> bool:
        """Nothing is open."""
        return not self._ongoing and not self._tasks

    async def close(self) -> None:
        """Give up what is being asked: it is asked again by whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    # When

    def _plan(self, batches: list[BatchRecord], now_s: float) -> None:
        series = self._grid.average()
        known = (tuple(each.id for each in batches), series)
        if known == self._planned and now_s < self._plan_due_s:
            return
        self._planned = known
        if not batches:
            self._looks = {}
            return
        past = self._grid.past_forecasts(round((now_s - _PAST_S) * NS_PER_S), round(now_s * NS_PER_S))
        view = look_ahead(series, now_s, max(each.deadline_s for each in batches), past)
        self._looks = self._lane.plan([self._load(each) for each in batches], view, now_s)
        slot_ends_s = now_s + view.outlook.slot_s - (now_s - view.outlook.start_s) % view.outlook.slot_s
        turns = [look.plan.next_change_s(now_s) for look in self._looks.values()]
        learnt_s = now_s + _REPLAN_S if any(look.runs_now for look in self._looks.values()) else slot_ends_s
        self._plan_due_s = min(learnt_s, slot_ends_s, *(turn for turn in turns if turn is not None))
        for look in self._looks.values():
            self._record(look, now_s)

    def _load(self, batch: BatchRecord) -> Load:
        left = self._store.left_by_kind(batch.id)
        paces = {kind: pace for kind in left if (pace := self._store.pace(*kind)) is not None}
        return Load(batch, left, paces, self._ongoing[batch.id].was_running)

    def _record(self, look: BatchLook, now_s: float) -> None:
        """A batch begins, pauses, goes on, or turns at another time than was told: a decision."""
        ongoing, began = self._ongoing[look.batch.id], look.batch.began_s is not None
        turn_s = look.plan.next_change_s(now_s)
        if look.runs_now != ongoing.was_running:
            action = ("resume" if began else "start") if look.runs_now else "pause"
        elif not look.runs_now and (ongoing.shown_turn_s is None or _moved(ongoing.shown_turn_s, turn_s, look)):
            action = "wait" if ongoing.shown_turn_s is None else "replan"
        else:
            return
        ongoing.was_running, ongoing.shown_turn_s = look.runs_now, turn_s
        self._kept(self._lane.choice_of(action, look, now_s))
        if not look.runs_now and look.batch.state == "running":
            self._store.change(look.batch.id, state="waiting")

    def _kept(self, choice: Choice) -> None:
        try:
            self._keep(choice)
        except JoulekeeperError as error:
            _log.warning("a decision about %s could not be kept: %s", choice.subject, error)

    # What

    def _launch(self, batch: BatchRecord, now_s: float) -> None:
        ongoing, look = self._ongoing[batch.id], self._looks.get(batch.id)
        room = self._lane.lanes - len(self._tasks)
        if look is None or not look.runs_now or room <= 0 or now_s < ongoing.not_before_s or now_s >= batch.deadline_s:
            return
        held = [number for (of, number), until_s in self._held_back.items() if of == batch.id and until_s > now_s]
        pending = self._store.pending(batch.id, room, [*ongoing.numbers, *held])
        if not pending:
            return
        try:
            ongoing.models = ongoing.models or self._store.models(batch.id)
            authorization = self._credential(batch, ongoing.models)
        except Forbidden as error:
            self._store.change(batch.id, ending="failed", why_ended=str(error), cancelled_s=now_s)
            return
        except Unavailable as error:
            _log.debug("%s waits: %s", batch.id, error)
            ongoing.not_before_s = now_s + 2.0
            return
        if batch.state != "running":
            began_s = now_s if batch.began_s is None else batch.began_s
            self._store.change(batch.id, state="running", began_s=began_s)
        for each in pending:
            attempt = self._attempts.get((each.batch, each.number), 0) + 1
            ongoing.numbers.add(each.number)
            self._tasks[asyncio.ensure_future(self._sender.ask(each, authorization, attempt))] = each

    def _take(self, told: list[Answered | Later], asked: list[Pending]) -> None:
        now_s = self._now_s()
        answered = [(each, pending) for each, pending in zip(told, asked, strict=True) if isinstance(each, Answered)]
        if answered:
            learnt = [_learnt(each, pending) for each, pending in answered if 200 <= each.status < 300]
            self._store.keep_answers([each for each, _ in answered], learnt)
        for answer, pending in zip(told, asked, strict=True):
            key = (pending.batch, pending.number)
            ongoing = self._ongoing.get(pending.batch)
            if ongoing is not None:
                ongoing.numbers.discard(pending.number)
            if isinstance(answer, Later):
                _log.debug("%s line %d comes again in %.1f s: %s", *key, answer.after_s, answer.why)
                self._held_back[key] = now_s + answer.after_s
                if answer.failed:
                    self._attempts[key] = self._attempts.get(key, 0) + 1
                elif ongoing is not None:
                    # A full queue or a spent quota: whatever else it would ask now would be told the same.
                    ongoing.not_before_s = now_s + min(answer.after_s, _LONGEST_BACKOFF_S)
                continue
            self._held_back.pop(key, None)
            self._attempts.pop(key, None)

    # How it ends

    async def _close_if_over(self, batch: BatchRecord, now_s: float) -> None:
        ongoing = self._ongoing[batch.id]
        if batch.state == "settling":
            await self._settle(batch, ongoing, now_s)
            return
        if ongoing.numbers:
            return
        left = bool(self._store.pending(batch.id, 1))
        ending = batch.ending or ("cancelled" if batch.cancelled_s else "")
        if not left:
            ending = ending if ending == "failed" else "completed"
        elif not ending and now_s >= batch.deadline_s:
            ending = "expired"
        if not ending:
            return
        if left:
            self._store.give_up(batch.id, _ENDINGS[ending][0], now_s)
        self._store.change(batch.id, state="settling", ending=ending, settling_s=now_s)
        ongoing.settle_at_s = now_s + self._settle_lag_s

    async def _settle(self, batch: BatchRecord, ongoing: _Ongoing, now_s: float) -> None:
        """Receipts are final some seconds after the last answer; where nobody tells them, what is known stays."""
        if now_s < ongoing.settle_at_s:
            return
        ids = self._store.unsettled(batch.id, _RECEIPTS_AT_ONCE)
        if ids and ongoing.settle_tries < _SETTLE_TRIES:
            ongoing.settle_tries += 1
            ongoing.settle_at_s = now_s + _SETTLE_EVERY_S
            try:
                told = await self._receipts(ids)
            except JoulekeeperError as error:
                _log.info("the receipts of %s cannot be had now: %s", batch.id, error)
                return
            final = [each for each in told.receipts if not each.provisional]
            self._store.settle(
                batch.id, [(each.receipt_id, each.energy_uj, each.carbon_ugco2e, each.grade) for each in final]
            )
            if final:
                ongoing.settle_tries, ongoing.settle_at_s = 0, now_s
            return
        over = self._store.change(batch.id, state=batch.ending, ended_s=now_s)
        self._kept(self._outcome_of(over, now_s))

    def _outcome_of(self, batch: BatchRecord, now_s: float) -> Choice:
        bucket_s = bucket_of(now_s - batch.created_s)
        used = self._store.used(batch.id, bucket_s)
        series = self._grid.average()
        came = outcome(used, series, batch.created_s, lanes=self._lane.lanes, pue=self._pue, bucket_s=bucket_s)
        saved_ug, counts = came.at_once_ug - came.carbon_ug, self._store.counts(batch.id)
        return Choice(
            at_s=now_s,
            action="ended",
            reasons=(f"{batch.state}: {counts.completed} of {counts.total} answered, {counts.failed} not or badly",),
            subject=batch.id,
            topic="batch",
            about=1,
            realised=Saving(
                carbon_g=saved_ug / 1e6 if came.energy_uj else None,
                share=saved_ug / came.at_once_ug if came.at_once_ug else None,
                basis="measured" if came.energy_uj else "not known",
                against="the same energy at once, on the grid as it turned out",
                note=f"{came.energy_uj / 1e6:.6g} J in {came.busy_s:.1f} s; weakest figure of the grid {came.grade}",
            ),
        )

    def _forget(self, batches: Sequence[BatchRecord]) -> None:
        known = {each.id for each in batches}
        for batch_id in [each for each in self._ongoing if each not in known]:
            del self._ongoing[batch_id]
            self._held_back = {key: until_s for key, until_s in self._held_back.items() if key[0] != batch_id}
            self._attempts = {key: count for key, count in self._attempts.items() if key[0] != batch_id}
        for batch_id in known - self._ongoing.keys():
            self._ongoing[batch_id] = _Ongoing(set())

    def _now_s(self) -> float:
        return self._clock.wall_ns() / NS_PER_S


def why_unanswered(code: str) -> str:
    """The sentence for a request that nobody answered."""
    return next((sentence for known, sentence in _ENDINGS.values() if known == code), code)


def _learnt(answer: Answered, pending: Pending) -> tuple[str, str, Pace]:
    joules = answer.energy_uj / 1e6
    return pending.model, pending.url, Pace(1, answer.took_s, joules, int(joules > 0))


def _moved(shown_s: float | None, turn_s: float | None, look: BatchLook) -> bool:
    """Whether a batch turns at another time than was told last, by more than a quarter of a slot."""
    if shown_s is None or turn_s is None:
        return shown_s is not turn_s
    return abs(shown_s - turn_s) > look.view.outlook.slot_s / 4
