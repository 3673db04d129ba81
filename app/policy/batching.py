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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput
from app.policy.setting_table import SettingTable

TOLERANCE = 0.05
"""A neighbour that can at best be cheaper by less than this is not worth an epoch."""
SETTLED_EVERY = 20
"""Once nothing promises more than `TOLERANCE`, every so many epochs one goes to the neighbour measured longest ago."""
_MIN_EPOCH_S = 0.5  # several readings of a meter
_CUT_SHORT = 3  # times the late answers that an epoch may have
_ROOM_EPOCHS = 2  # late answers saved up before exploring, in epochs' allowances
_MOST_ROOM_EPOCHS = 8
_SURPRISE = 4.0  # standard errors, twice in a row
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
        self._neighbours = _neighbours(grid)
        self._table: SettingTable[BatchLimits] = SettingTable(objective.allowed_late)
        self._epoch_answers = math.ceil(5 / objective.allowed_late)
        self._epochs = 0
        self._since_exploring = 0
        self._room = 0.0
        self._surprises = 0
        self._rate_per_s: dict[BatchLimits, float] = {}
        self._limits = max(grid, key=lambda limits: (-limits.max_wait_s, limits.max_rows))
        self._reason = "nothing measured yet: the most rows without waiting"
        self._epoch: _Epoch | None = None

    @property
    def reason(self) -> str:
        """Why the limits are what they are."""
        return self._reason

    def limits(self) -> BatchLimits:
        """The limits for the next batch."""
        return self._limits

    def observe(self, seen: BatchSeen) -> None:
        """Learn from one batch; may change the limits."""
        late = sum(latency_s > self._objective.latency_s for latency_s in seen.latencies_s)
        answers = len(seen.latencies_s)
        allowance = self._objective.allowed_late * self._epoch_answers
        most = _MOST_ROOM_EPOCHS * allowance
        self._room = min(max(self._room + self._objective.allowed_late * answers - late, -most), most)
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
        if full or epoch.late >= _CUT_SHORT * allowance:
            self._close(epoch, seen.at_s)

    def _close(self, epoch: _Epoch, at_s: float) -> None:
        self._epochs += 1
        limits, cost_uj = self._limits, epoch.energy_uj / max(epoch.rows, 1)
        rate_per_s = epoch.answers / max(at_s - epoch.begun_s, 1e-9)
        self._doubt_if_changed(limits, cost_uj, rate_per_s)
        self._rate_per_s[limits] = rate_per_s
        self._table.learn(limits, self._epochs, cost_uj, epoch.late, epoch.answers)
        self._choose()
        self._epoch = _Epoch(at_s)

    def _doubt_if_changed(self, limits: BatchLimits, cost_uj: float, rate_per_s: float) -> None:
        """Forget when a setting measured before is no longer what it was; one such epoch may be chance."""
        if limits not in self._table:
            return
        rate_change = rate_per_s / self._rate_per_s[limits]
        changed = not 1 / _RATE_CHANGE < rate_change < _RATE_CHANGE
        changed |= self._table.surprise(limits, cost_uj) > _SURPRISE
        self._surprises = self._surprises + 1 if changed else 0
        if self._surprises >= 2:
            self._surprises = 0
            known_uj = self._table[limits].cost_uj
            self._table.doubt_all(cost_uj / known_uj if known_uj > 0 and cost_uj > 0 else 1.0)

    def _choose(self) -> None:
        best = self._table.best()
        if best is None:  # nothing measured; `_close` has just learnt one
            return
        candidate = self._candidate(best)
        explored = self._limits != best
        self._since_exploring = 0 if explored else self._since_exploring + 1
        known = self._table[best]
        if candidate is not None and not explored:
            self._limits = candidate
            self._reason = f"trying a neighbour of {_told(best)}, the best so far"
        else:
            self._limits = best
            meets = (
                "meets the objective" if self._table.meets(best) else "nothing meets the objective; least often late"
            )
            self._reason = f"{_told(best)} {meets}: {known.cost_uj:.0f} uJ a row, {known.late_share:.1%} late"

    def _candidate(self, best: BatchLimits) -> BatchLimits | None:
        """The neighbour of the incumbent that is worth the next epoch; None when there is none, or no room for it."""
        table, near = self._table, [limits for limits in self._neighbours[best] if not self._table.misses(limits)]
        if not table.meets(best):
            return next((limits for limits in self._frontier(best) if limits not in table), None)
        if self._room < _ROOM_EPOCHS * self._objective.allowed_late * self._epoch_answers:
            return None
        unknown = [limits for limits in near if limits not in table]
        if unknown:
            return max(unknown, key=lambda limits: (limits.max_rows, limits.max_wait_s))
        hoped_uj = table[best].cost_uj * (1 - TOLERANCE)
        hopeful = [limits for limits in near if table.lowest_cost_uj(limits) < hoped_uj]
        if hopeful:
            return min(hopeful, key=table.lowest_cost_uj)
        return self._stalest(best) if self._since_exploring >= SETTLED_EVERY else None

    def _frontier(self, best: BatchLimits) -> Iterator[BatchLimits]:
        """Settings to try while nothing meets the objective: those near `best` first, then near anything measured."""
        yield from self._neighbours[best]
        for limits, near in self._neighbours.items():
            if limits in self._table:
                yield from near

    def _stalest(self, best: BatchLimits) -> BatchLimits | None:
        near = self._neighbours[best]
        return min(near, key=lambda limits: self._table[limits].epoch if limits in self._table else 0, default=None)


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
