"""Drives a run by its plan: waits, starts the workers, asks them to pause, resizes them, plans anew as things change.

A shell around planner.py: it sleeps, asks the board and keeps records. Knows nothing of Ray beyond the board; starting
the workers is an argument. The grid is looked at between slots and at any news; a plan that changes is a decision, kept
with its reasons.

    conductor = Conductor(planner, run, board, clock, tell)
    fitted = conductor.conduct(fit)                   # returns when the run has ended, however often it paused
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from app.clock import Clock
from app.errors import Unavailable
from app.policy.shifting import Plan
from app.training.attempts import Seen
from app.training.decisions import Action, decision_of, keep_decision
from app.training.fitted import Fitted
from app.training.pace import AttemptEnergy
from app.training.planner import Look, Planner
from app.units import NS_PER_S, format_carbon

_UG_PER_G = 1_000_000
_LOOKS_PER_SLOT, _SHORTEST_LOOK_S, _LONGEST_LOOK_S = 25, 0.1, 1.0
_MATTERS = 0.25
"""Of a slot: a plan that moves by less is the same plan."""
_SHOWN_PIECES = 6
_log = logging.getLogger(__name__)


class Board(Protocol):
    """What is used of board.py."""

    def set_aside(self, run: str) -> None: ...
    def ask_to_stop(self, run: str, reason: str) -> None: ...
    def reason_to_stop(self, run: str) -> str: ...
    def bound_workers(self, run: str, most: int) -> None: ...
    def progress_of(self, run: str) -> str: ...


class Queue(Protocol):
    """What is used of live_queue.py."""

    @property
    def reason(self) -> str: ...
    def may_begin(self, look: Look) -> bool: ...
    def holds(self, look: Look) -> None: ...
    def leave(self) -> None: ...


class Conductor:
    """Of one run."""

    def __init__(
        self,
        planner: Planner,
        run: str,
        board: Board,
        clock: Clock,
        tell: Callable[[str], None],
        *,
        energy: Callable[[], AttemptEnergy] = AttemptEnergy,
        sleep: Callable[[float], None],
        in_background: bool = True,
        queue: Queue | None = None,
    ) -> None:
        """`energy` is what the ledger knows of the run's attempts. `in_background` False: `fit` calls `watch_once`.
        `queue`: whose turn it is where workers are few; None: nobody waits for others."""
        self._planner, self._run, self._board, self._clock = planner, run, board, clock
        self._tell, self._energy, self._sleep = tell, energy, sleep
        self._in_background, self._queue, self._queued = in_background, queue, ""
        self._look: Look | None = None
        self._asked, self._bound, self._slot_ends_s, self._ended_s = "", 0, 0.0, 0.0
        self.waited_s = 0.0
        """In which no workers were held."""

    def conduct(self, fit: Callable[[], Fitted]) -> Fitted:
        """`fit`, at the planned hours and as often as they ask for, until the run has ended or was stopped.

        Raises Unavailable where it was asked to stop before it began.
        """
        fitted: Fitted | None = None
        self._planner.keep_terms()
        while True:
            stopped = self._wait()
            if stopped and fitted is not None:
                return fitted
            if stopped:
                raise Unavailable(
                    f"{self._run} was asked to stop before it began: {stopped}; "
                    f"joulekeeper train JOB.yaml --run {self._run} waits again for its hours"
                )
            fitted = self._held(fit)
            if not self._asked or fitted.return_value["stopped"] != self._asked:
                return fitted
            self._board.set_aside(self._run)

    def ended(self, energy: AttemptEnergy, energy_uj: int, carbon_ugco2e: int) -> None:
        """The run has ended and its books are settled: the last record says what came of it."""
        self._planner.keeper.keep(energy)
        if self._look is not None:
            last = decision_of("ended", self._now_s(), self._look.plan, self._look.inputs)
            realised = self._planner.realised(self._ended_s, energy_uj, carbon_ugco2e)
            keep_decision(self._planner.keeper.files, last.model_copy(update={"realised": realised}))

    def _wait(self) -> str:
        """Until the plan has the run at work; why it must end instead, or empty."""
        began_s, is_first = self._now_s(), self._look is None
        look = self._plan()
        if not self._at_work(look):
            if is_first:
                self._keep("wait", look)
            self._tell(announced(self._run, look.plan, power_known=look.inputs.power_w is not None))
        while not self._may_begin(look):
            stopped = self._board.reason_to_stop(self._run)
            if stopped:
                return stopped
            self._sleep(self._pause_s(look))
            look = self._planned_anew() or look
        self.waited_s += self._now_s() - began_s
        self._keep("resume" if look.state.begun else "start", look)
        return ""

    def _may_begin(self, look: Look) -> bool:
        """Its plan has it at work, and so has the queue, which hears of its plan in any case."""
        wanted = self._at_work(look) > 0
        if self._queue is None:
            return wanted
        has_turn = self._queue.may_begin(look)
        if wanted and not has_turn and self._queue.reason != self._queued:
            self._queued = self._queue.reason
            self._tell(f"{self._run}: waits in the queue: {self._queued}")
        return wanted and has_turn

    def _held(self, fit: Callable[[], Fitted]) -> Fitted:
        """Workers are there, watched by a thread that asks them to pause."""
        self._asked, self._bound = "", 0
        if self._look is not None:
            self._bind(self._at_work(self._look))
        self._planner.keeper.begins(self._now_s())
        with self._watching(), self._holding():
            fitted = fit()
        self._ended_s = self._now_s()
        self._planner.keeper.has_ended(self._ended_s, self._energy())
        return fitted

    @contextmanager
    def _watching(self) -> Iterator[None]:
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ended,), name="joulekeeper-conductor", daemon=True)
        if self._in_background:
            watch.start()
        try:
            yield
        finally:
            ended.set()
            if self._in_background:
                watch.join(timeout=60)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """The queue knows that workers are held."""
        if self._queue is None or self._look is None:
            yield
            return
        self._queue.holds(self._look)
        try:
            yield
        finally:
            self._queue.leave()

    def _watch(self, ended: threading.Event) -> None:
        while self._look is not None and not ended.wait(self._pause_s(self._look)):
            try:
                if self.watch_once():
                    return
            except Exception as error:  # the run goes on as it is
                _log.warning("%s is not planned anew: %s", self._run, error)

    def watch_once(self) -> bool:
        """One look at the run, whose workers are there, and at the grid; True once it is asked to pause."""
        if self._queue is not None and self._look is not None:
            self._queue.holds(self._look)
        seen = self._seen()
        look = self._planned_anew(seen) if seen else None
        if look is None:
            return False  # its workers are setting up, or there is nothing new
        workers = self._at_work(look)
        if workers:
            self._bind(workers)
        elif self._is_worth_a_pause(look):
            self._asked = _pause_reason(look.plan, self._now_s())
            self._keep("pause", look)
            self._tell(f"{self._run}: {self._asked}")
            self._board.ask_to_stop(self._run, self._asked)
            return True
        return False

    def _bind(self, workers: int) -> None:
        """The group has `workers` at most."""
        if workers != self._bound:
            self._board.bound_workers(self._run, workers)
            self._bound = workers

    def _planned_anew(self, seen: Seen | None = None) -> Look | None:
        """The plan, made again where there is a reason to: a new slot, news of the grid, a change that is due."""
        before = self._look
        if before is None:
            return self._plan(seen)
        running = before.state.workers if seen is None else self._bound
        due = self._now_s() >= self._slot_ends_s or self._at_work(before, running > 0) != running
        if not (due or self._planner.has_news):
            return None
        look = self._plan(seen)
        if _differs(before.plan, look.plan, self._now_s(), _MATTERS * look.inputs.slot_s):
            self._keep("replan", look)
            self._tell(announced(self._run, look.plan, power_known=look.inputs.power_w is not None))
        return look

    def _plan(self, seen: Seen | None = None) -> Look:
        now_s = self._now_s()
        self._look = look = self._planner.look(now_s, seen)
        self._slot_ends_s = now_s + look.inputs.slot_s - (now_s - look.inputs.outlook_s) % look.inputs.slot_s
        return look

    def _seen(self) -> Seen | None:
        """How far the workers are; None while they set up."""
        told = self._board.progress_of(self._run)
        seen = Seen.model_validate_json(told) if told else None
        return seen if seen and self._planner.keeper.is_new(seen.attempt) else None

    def _at_work(self, look: Look, running: bool | None = None) -> int:
        """Workers that the plan wants about now: a pause is asked for as early as ending takes."""
        running = look.state.workers > 0 if running is None else running
        return look.plan.workers_at(self._now_s() + (look.known.closing_s if running else 0.0))

    def _is_worth_a_pause(self, look: Look) -> bool:
        """A plan that is over asks for no pause, and the last steps are not put off."""
        now_s = self._now_s()
        later = any(piece.start_s > now_s for piece in look.plan.pieces)
        return later and look.inputs.hours_left * 3600 > look.known.closing_s

    def _pause_s(self, look: Look) -> float:
        return min(_LONGEST_LOOK_S, max(_SHORTEST_LOOK_S, look.inputs.slot_s / _LOOKS_PER_SLOT))

    def _keep(self, action: Action, look: Look) -> None:
        keep_decision(self._planner.keeper.files, decision_of(action, self._now_s(), look.plan, look.inputs))

    def _now_s(self) -> float:
        return self._clock.wall_ns() / NS_PER_S


def _differs(before: Plan, after: Plan, now_s: float, matters_s: float) -> bool:
    """Whether two plans turn at another time next; when each is over does not count, paces vary."""
    one, other = _next_turn_s(before, now_s), _next_turn_s(after, now_s)
    if one is None or other is None:
        return one is not other
    return abs(one - other) > matters_s


def _next_turn_s(plan: Plan, now_s: float) -> float | None:
    turns = [turn for piece in plan.pieces for turn in (piece.start_s, piece.end_s)][:-1]
    return next((turn for turn in turns if turn > now_s), None)


def announced(run: str, plan: Plan, *, power_known: bool) -> str:
    """A plan in a line."""
    pieces = ", ".join(f"{at(each.start_s)} to {at(each.end_s)}" for each in plan.pieces[:_SHOWN_PIECES])
    left = len(plan.pieces) - _SHOWN_PIECES
    more = f" and {left} more times" if left > 0 else ""
    grams = f"{format_carbon(round(plan.expected_g * _UG_PER_G))}, " if power_known else ""
    late = "; the deadline cannot be met" if plan.late else ""
    return f"{run}: planned {pieces}{more}; {grams}{plan.saving_share:.1%} less carbon than at once{late}"


def _pause_reason(plan: Plan, now_s: float) -> str:
    following = next((piece.start_s for piece in plan.pieces if piece.start_s > now_s), None)
    return f"paused by plan until {at(following)}" if following is not None else "paused by plan"


def at(unix_s: float) -> str:
    """An instant for people, in UTC."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
