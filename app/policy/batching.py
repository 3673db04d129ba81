"""The governor of batching: limits with the least energy per row whose answers meet a latency objective.

Pure: time comes in with what was seen, and there is no chance in it. Knows nothing of queues and batchers.

    governor = Governor(BatchObjective(latency_s=0.05), batch_grid(max_rows=64, latency_s=0.05))
    limits = governor.limits()                                    # before each batch is formed
    governor.observe(BatchSeen(at_s, limits, rows, energy_uj, latencies_s))   # after it was answered
    governor.reason                                               # why these limits, for people

It works in epochs of about a hundred answers under one setting. The incumbent is the cheapest setting known to
meet the objective; epochs with a neighbour of it are put between, many while neighbours may be better by more than
`TOLERANCE`, few later on. It explores only while the answers so far leave room for an epoch that is too slow, and
such an epoch is cut short: the objective holds for all answers together, explored ones included. When the incumbent's
energy or the rate of answers is no longer what it was, everything known becomes a hint and exploring begins again.

Raises InvalidInput for an empty grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput
from app.policy.governed import Governed, Tried
from app.policy.setting_search import Doubts, Room, SettingSearch
from app.policy.setting_table import SettingTable

_MIN_EPOCH_S = 0.5  # several readings of a meter
_CUT_SHORT = 3  # times the late answers that an epoch may have
_RATE_CHANGE = 1.4
_ROW_STEPS = 6
_WAIT_SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


class BatchObjective(BaseModel):
    """`quantile` of all answers come within `latency_s` of their requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_s: float = Field(gt=0)
    quantile: float = Field(default=0.95, gt=0, lt=1)

    @property
    def allowed_late(self) -> float:
        """Share of answers that may be later."""
        return 1 - self.quantile


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch leaves when it has `max_rows`, or its oldest request has waited `max_wait_s`; 0: with what is there."""

    max_rows: int
    max_wait_s: float


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch that was answered at `at_s` (monotonic), formed under `limits`."""

    at_s: float
    limits: BatchLimits
    rows: int
    energy_uj: int
    """Of the batch, provisional or settled, but always of one kind."""
    latencies_s: Sequence[float]
    """Of each of its requests, from arrival to answer."""


def batch_grid(max_rows: int, latency_s: float) -> tuple[BatchLimits, ...]:
    """The settings worth trying: rows by halves from `max_rows`, waits up to half of the objective."""
    rows = sorted({max(1, max_rows >> step) for step in range(_ROW_STEPS)})
    waits = [latency_s * share for share in _WAIT_SHARES]
    # One row never waits for another.
    return tuple(BatchLimits(count, wait) for count in rows for wait in (waits if count > 1 else [0.0]))


@dataclass(slots=True)
class _Epoch:
    """Counts since `begun_s` under one setting."""

    begun_s: float
    rows: int = 0
    energy_uj: int = 0
    answers: int = 0
    late: int = 0
    passed_over: int = 0
    """Answers to requests older than the epoch: they tell of the setting before."""


class Governor:
    """Chooses among `grid`, beginning with the most rows without waiting: the least latency under any load."""

    def __init__(self, objective: BatchObjective, grid: Sequence[BatchLimits]) -> None:
        if not grid:
            raise InvalidInput("the governor needs at least one setting to choose from, got none")
        self._objective = objective
        self._epoch_answers = math.ceil(5 / objective.allowed_late)
        self._table: SettingTable[BatchLimits] = SettingTable(objective.allowed_late)
        self._search = SettingSearch(
            self._table, _neighbours(grid), eagerness=lambda limits: (limits.max_rows, limits.max_wait_s)
        )
        self._doubts = Doubts(self._table, _RATE_CHANGE)
        self._room = Room(objective.allowed_late, self._epoch_answers)
        self._epochs = 0
        self._begun = self._limits = max(grid, key=lambda limits: (-limits.max_wait_s, limits.max_rows))
        self._reason = "nothing measured yet: the most rows without waiting"
        self._epoch: _Epoch | None = None

    @property
    def reason(self) -> str:
        """Why the limits are what they are."""
        return self._reason

    def limits(self) -> BatchLimits:
        """The limits for the next batch."""
        return self._limits

    def governed(self) -> Governed:
        """What it has found."""
        objective, table = self._objective, self._table
        return Governed(
            unit="row",
            objective=f"{objective.latency_s * 1e3:g} ms for {objective.quantile:.0%}",
            first=_told(self._begun),
            best=_told(self._search.best(table) or self._begun),
            tried=tuple(Tried(name=_told(one), uj=table[one].cost_uj, meets=table.meets(one)) for one in table),
        )

    def observe(self, seen: BatchSeen) -> None:
        """Learn from one batch; may change the limits."""
        late = sum(latency_s > self._objective.latency_s for latency_s in seen.latencies_s)
        answers = len(seen.latencies_s)
        self._room.add(late, answers)
        if seen.limits != self._limits or not answers:
            return
        if self._epoch is None:
            self._epoch = _Epoch(seen.at_s - max(seen.latencies_s))
        epoch = self._epoch
        # Under overload the queue never clears: what was asked before the epoch then tells enough of it.
        if seen.at_s - max(seen.latencies_s) < epoch.begun_s and epoch.passed_over < 2 * self._epoch_answers:
            epoch.passed_over += answers
            return
        epoch.rows += seen.rows
        epoch.energy_uj += seen.energy_uj
        epoch.answers += answers
        epoch.late += late
        full = epoch.answers >= self._epoch_answers and seen.at_s - epoch.begun_s >= _MIN_EPOCH_S
        if full or epoch.late >= _CUT_SHORT * self._objective.allowed_late * self._epoch_answers:
            self._close(epoch, seen.at_s)

    def _close(self, epoch: _Epoch, at_s: float) -> None:
        self._epochs += 1
        limits, cost_uj = self._limits, epoch.energy_uj / max(epoch.rows, 1)
        self._doubts.weigh(limits, cost_uj, epoch.answers / max(at_s - epoch.begun_s, 1e-9))
        self._table.learn(limits, self._epochs, cost_uj, epoch.late, epoch.answers)
        self._choose()
        self._epoch = _Epoch(at_s)

    def _choose(self) -> None:
        choice = self._search.choose(self._limits, self._table, has_room=self._room.enough, closed=lambda limits: False)
        if choice is None:  # nothing measured; `_close` has just learnt one
            return
        self._limits = choice.setting
        known = self._table[choice.best]
        if choice.setting != choice.best:
            self._reason = f"trying a neighbour of {_told(choice.best)}, the best so far"
            return
        meets = self._table.meets(choice.best)
        verdict = "meets the objective" if meets else "nothing meets the objective; least often late"
        self._reason = f"{_told(choice.best)} {verdict}: {known.cost_uj:.0f} uJ a row, {known.tally.share:.1%} late"


def _neighbours(grid: Sequence[BatchLimits]) -> dict[BatchLimits, tuple[BatchLimits, ...]]:
    """One step away in rows, in wait, or in both."""
    rows = sorted({limits.max_rows for limits in grid})
    waits = sorted({limits.max_wait_s for limits in grid})
    places = {limits: (rows.index(limits.max_rows), waits.index(limits.max_wait_s)) for limits in grid}

    def near(one: BatchLimits, other: BatchLimits) -> bool:
        return one != other and all(abs(a - b) <= 1 for a, b in zip(places[one], places[other], strict=True))

    return {one: tuple(other for other in grid if near(one, other)) for one in grid}


def _told(limits: BatchLimits) -> str:
    return f"{limits.max_rows} rows, {limits.max_wait_s * 1e3:g} ms"
