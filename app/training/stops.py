"""When the workers of a job look at each other, and what they agree on: to go on, to leave a checkpoint, or to end.

Knows nothing of models or files. Asking all workers costs a collective, so it is done a few times a second, at steps
that all of them know: the next is agreed on with each look, from the pace of the slowest. Close to the end of a budget
every step is looked at.

    stops = Stops(fabric, spending)
    asked = stops.look()                              # after every step; `NOTHING` but at the agreed ones
    asked.stop, asked.save                            # reasons, the same on every worker
"""

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from app.training.budget import Tally, part_of, seconds_left, used_up
from app.training.fabric import Fabric
from app.training.parts import Budget
from app.training.phases import Phases, Usage
from app.training.position import Spent

Told = tuple[Usage, Usage, Spent | None, Usage]
"""Of a worker: what the meter has charged to its slices, what they come to, what the ledger charges to the run, and
what its setting up came to."""
_LOOK_EVERY_S = 0.25
_LEFT_PER_LOOK_S, _MOST_LOOKS = 2.0, 8
"""Asking all slices of the last seconds takes milliseconds: with more than 16 s left every eighth look does it."""
_MOST_STEPS = 10_000
_CLOSINGS = 9


@dataclass(frozen=True, slots=True)
class Asked:
    """What all workers agreed on after a step; empty: nothing."""

    stop: str = ""
    """Why the run ends here, a checkpoint left."""
    save: str = ""
    """Why there is a checkpoint now; the run goes on."""


NOTHING = Asked()


class Spending:
    """What the run has used, as all its workers and the ledger know it; without a budget nobody is asked."""

    def __init__(
        self,
        budget: Budget | None,
        phases: Phases,
        before: Spent,
        booked: Callable[[], Spent | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`booked` gives what the ledger lately charged to the run, where it is known; it must not block."""
        self.budget = budget
        self._phases, self._booked, self._clock = phases, booked, clock
        self._tally, self._began = Tally(before), clock()
        self._closings: dict[bool, deque[float]] = {saved: deque(maxlen=_CLOSINGS) for saved in (True, False)}
        self._set_up = phases.so_far()[1] if budget else Usage()
        """Used before the first step: it says nothing of the pace."""
        self.total = before
        """As it was last measured."""

    def closed(self, seconds: float, *, saved: bool) -> None:
        """The end of an epoch took `seconds`: it was measured, with a checkpoint or without."""
        self._closings[saved].append(seconds)

    @property
    def closing_s(self) -> float:
        """What the end of the run will take: as it usually was, since a machine may stand still once. 0: not known."""
        seen = self._closings[True] or self._closings[False]
        return statistics.median_low(seen) if seen else 0.0

    def mine(self) -> Told:
        """What this worker knows."""
        return *self._phases.so_far(), self._booked(), self._set_up

    def verdict(self, budget: Budget, told: list[Told]) -> tuple[str, float]:
        """From what all workers told: why the run must end, or empty, and for how many seconds the rest will last."""
        charged = sum((each[0] for each in told), Usage())
        slices = sum((each[1] for each in told), Usage())
        booked = next((each[2] for each in told if each[2] is not None), None)
        if booked is not None:
            self._tally.told(booked, Spent(charged.energy_uj, charged.carbon_ugco2e))
        seconds, set_up = self._clock() - self._began, [each[3] for each in told]
        used_uj = slices.energy_uj - sum(each.energy_uj for each in set_up)
        used_ug = slices.carbon_ugco2e - sum(each.carbon_ugco2e for each in set_up)
        pace = Spent(max(0, used_uj), max(0.0, used_ug), seconds)
        self.total = self._tally.now(Spent(slices.energy_uj, slices.carbon_ugco2e, seconds))
        closing = part_of(pace, self.closing_s)
        return used_up(budget, self.total, closing), seconds_left(budget, self.total, closing, pace)


class Stops:
    """One worker's part in agreeing."""

    def __init__(self, fabric: Fabric, spending: Spending, clock: Callable[[], float] = time.monotonic) -> None:
        self._fabric, self._spending, self._clock = fabric, spending, clock
        self._steps, self._until, self._looked = 0, 1, clock()
        self._looks_to_measure, self._left_s = 1, float("inf")

    def look(self) -> Asked:
        """To be called by all workers after every step."""
        self._steps += 1
        if self._steps < self._until:
            return NOTHING
        self._looks_to_measure -= 1
        notices, elapsed = self._fabric.notices, self._clock() - self._looked
        mine = self._spending.mine() if self._spending.budget and self._looks_to_measure <= 0 else None
        told = self._fabric.gather((notices.stop_reason, notices.save_reason, elapsed, mine))
        reason = self._judge([each[3] for each in told]) if mine else ""
        self._until = max(1, min(_MOST_STEPS, self._steps_within(min(_LOOK_EVERY_S, self._left_s / 2), told)))
        self._steps, self._looked = 0, self._clock()
        stop = next((each[0] for each in told if each[0]), reason)
        return Asked(stop, next((each[1] for each in told if each[1]), ""))

    def _judge(self, told: list[Told]) -> str:
        """Why the budget ends the run, or empty; the first worker's clock decides, so that all come to the same end."""
        assert self._spending.budget is not None  # noqa: S101 -- nobody measured without one
        reason, self._left_s = self._fabric.gather(self._spending.verdict(self._spending.budget, told))[0]
        self._looks_to_measure = int(max(1, min(_MOST_LOOKS, self._left_s / _LEFT_PER_LOOK_S)))
        return reason

    def _steps_within(self, seconds: float, told: list[tuple[str, str, float, object]]) -> int:
        slowest = max(each[2] for each in told)
        return int(seconds * self._steps / slowest) if slowest > 0 else 1
