"""When a job should run, and on how many workers: the plan with the least expected carbon before its deadline.

Pure: a forecast and a job come in as plain numbers, a plan with its reasons goes out. Knows nothing of grids, files or
Ray. Times are seconds on any one clock of the caller's.

    outlook = Outlook(start_s=0, slot_s=3600, mean=(400, 380, 90, 95, 400), low=..., high=...)
    plan = plan_run(fixed_run(2 * 3600, power_w=300, deadline_s=5 * 3600), outlook, now_s=0)
    plan.pieces, plan.expected_g, plan.now_g, plan.finish_s, plan.reasons

Ask again whenever the forecast, the work left or the number of workers changed: what is done is not planned again. A
restart (each start after a pause, each change of the number of workers) takes `restart.seconds` at that moment's power
without progress, and `restart.energy_j`; the first start is none. What would not save `least_saving` runs at once:
waiting for nothing is delay for nothing. Raises InvalidInput; a deadline that cannot be met is a plan that is `late`.

The search is in shifting_search.py, what a schedule costs in shifting_costs.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput
from app.policy.shifting_costs import Cost, Outlook, Piece, Rate, RestartCost, cost_of
from app.policy.shifting_search import Search, at_once, best_start, best_workers

__all__ = [
    "Alternative",
    "Outlook",
    "Piece",
    "Plan",
    "Rate",
    "RestartCost",
    "Run",
    "ShiftSettings",
    "fixed_run",
    "plan_run",
]


class ShiftSettings(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_saving: float = Field(default=0.001, ge=0, lt=1)
    """Share of the carbon of running now that a plan must be expected to save to be preferred to it."""


@dataclass(frozen=True, slots=True)
class Run:
    """The work that is left of a job."""

    rates: Mapping[int, Rate]
    """By number of workers > 0. One: that many or none; several: it may grow and shrink."""
    work: float
    """Left, > 0, in the units of `Rate.speed` times hours."""
    deadline_s: float
    interruptible: bool = False
    """Whether it may pause. If not, it runs through once it began."""
    restart: RestartCost = field(default_factory=RestartCost)
    workers: int = 0
    """Running now. 0: it is not."""
    begun: bool = False
    """It ran before, so that its next start is a restart."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to run the job, on the same forecast."""

    name: str
    expected_g: float
    kwh: float
    finish_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """When how many workers run, what it is expected to emit, and why."""

    pieces: tuple[Piece, ...]
    """In order; time between them is a pause."""
    expected_g: float
    low_g: float
    high_g: float
    """Were all hours at their 10th or 90th percentile together, which is wider than those of the sum. As `expected_g`
    where the outlook has none."""
    now_g: float
    """Of running at once without a pause, on the same forecast."""
    kwh: float
    now_kwh: float
    finish_s: float
    now_finish_s: float
    restarts: int
    late: bool
    """It cannot end in time: it runs at once, as fast as it can."""
    reasons: tuple[str, ...]
    alternatives: tuple[Alternative, ...]

    @property
    def saving_g(self) -> float:
        """Expected, against running at once."""
        return self.now_g - self.expected_g

    @property
    def saving_share(self) -> float:
        """Of `now_g`; 0 where that is 0."""
        return self.saving_g / self.now_g if self.now_g > 0 else 0.0

    def workers_at(self, at_s: float) -> int:
        """0 between pieces and after the last."""
        return next((piece.workers for piece in self.pieces if piece.start_s <= at_s < piece.end_s), 0)

    def next_change_s(self, at_s: float) -> float | None:
        """The next instant at which the number of workers changes. None: never again."""
        edges = sorted({edge for piece in self.pieces for edge in (piece.start_s, piece.end_s) if edge > at_s})
        return next((edge for edge in edges if self.workers_at(edge) != self.workers_at(at_s)), None)


def fixed_run(
    duration_s: float,
    power_w: float,
    deadline_s: float,
    workers: int = 1,
    interruptible: bool = False,
    restart: RestartCost | None = None,
) -> Run:
    """A job of known length on a fixed number of workers, not begun; its unit of work is an hour."""
    rates = {workers: Rate(speed=1.0, power_w=power_w)}
    return Run(rates, duration_s / 3600, deadline_s, interruptible, restart or RestartCost())


def plan_run(run: Run, outlook: Outlook, now_s: float, settings: ShiftSettings | None = None) -> Plan:
    """The plan with the least expected carbon that ends in time. Raises InvalidInput naming what cannot be."""
    settings = settings or ShiftSettings()
    _check(run, now_s)
    search = Search(
        rates=dict(sorted(run.rates.items())),
        work=run.work,
        deadline_s=run.deadline_s,
        may_pause=run.interruptible,
        restart=run.restart,
        workers=run.workers,
        begun=run.begun or run.workers > 0,
        now_s=now_s,
    )
    ways = _ways(search, outlook)
    costs = {
        name: cost_of(pieces, search.rates, outlook, run.restart, run.workers, search.begun, now_s)
        for name, pieces in ways.items()
    }
    late = ways[_NOW][-1].end_s > run.deadline_s + _A_MOMENT_S
    best = min(ways, key=lambda name: (costs[name].grams, ways[name][-1].end_s))
    wait_pays = costs[best].grams <= costs[_NOW].grams * (1 - settings.least_saving)
    chosen = best if wait_pays and not late else _NOW
    return _plan(chosen, ways, costs, late, _reasons(chosen, best, ways, costs, late, run, settings))


def _plan(
    chosen: str,
    ways: Mapping[str, tuple[Piece, ...]],
    costs: Mapping[str, Cost],
    late: bool,
    reasons: tuple[str, ...],
) -> Plan:
    cost, now = costs[chosen], costs[_NOW]
    return Plan(
        pieces=ways[chosen],
        expected_g=cost.grams,
        low_g=cost.low_grams,
        high_g=cost.high_grams,
        now_g=now.grams,
        kwh=cost.kwh,
        now_kwh=now.kwh,
        finish_s=ways[chosen][-1].end_s,
        now_finish_s=ways[_NOW][-1].end_s,
        restarts=cost.restarts,
        late=late,
        reasons=reasons,
        alternatives=tuple(
            Alternative(name, costs[name].grams, costs[name].kwh, ways[name][-1].end_s) for name in ways
        ),
    )


_NOW, _LATER, _PAUSES, _RESIZES = "start now", "start later", "pause and resume", "grow and shrink"
_A_MOMENT_S = 1e-3


def _ways(search: Search, outlook: Outlook) -> dict[str, tuple[Piece, ...]]:
    """By name, those that apply; only running at once where that is late already."""
    ways = {_NOW: at_once(search)}
    if ways[_NOW][-1].end_s > search.deadline_s:
        return ways
    if search.workers == 0:
        ways[_LATER] = best_start(search, outlook)
    if len(search.rates) > 1:
        ways[_RESIZES] = best_workers(search, outlook)
    elif search.may_pause:
        ways[_PAUSES] = best_workers(search, outlook)
    return {
        name: pieces for name, pieces in ways.items() if pieces and pieces[-1].end_s <= search.deadline_s + _A_MOMENT_S
    }


def _check(run: Run, now_s: float) -> None:
    faults = []
    if not run.rates:
        faults.append("rates must name at least one number of workers, got none")
    for workers, rate in run.rates.items():
        if workers < 1 or not rate.speed > 0 or not rate.power_w >= 0:
            faults.append(f"rates[{workers}] must have workers >= 1, speed > 0 and power_w >= 0, got {rate}")
    if not (math.isfinite(run.work) and run.work > 0):
        faults.append(f"work must be > 0, got {run.work}; a finished run needs no plan")
    if not (math.isfinite(run.deadline_s) and math.isfinite(now_s)):
        faults.append(f"deadline_s and now_s must be finite, got {run.deadline_s} and {now_s}")
    if run.workers and run.workers not in run.rates:
        faults.append(f"workers must be 0 or one of {sorted(run.rates)}, got {run.workers}")
    if run.restart.seconds < 0 or run.restart.energy_j < 0:
        faults.append(f"restart must cost >= 0, got {run.restart}")
    if faults:
        raise InvalidInput("; ".join(faults))


def _reasons(
    chosen: str,
    best: str,
    ways: Mapping[str, tuple[Piece, ...]],
    costs: Mapping[str, Cost],
    late: bool,
    run: Run,
    settings: ShiftSettings,
) -> tuple[str, ...]:
    now, cost = costs[_NOW], costs[chosen]
    if late:
        over_s = ways[_NOW][-1].end_s - run.deadline_s
        return (f"cannot end in time: at full speed from now it is {over_s:.0f} s late, so it runs at once",)
    saved = 1 - costs[best].grams / now.grams if now.grams > 0 else 0.0
    if chosen == _NOW:
        if best == _NOW:
            return ("no later time is expected to be cleaner before the deadline",)
        return (f"waiting is expected to save {saved:.1%}, less than {settings.least_saving:.1%}: it runs at once",)
    said = [f"{chosen}: {cost.grams:.4g} g expected instead of {now.grams:.4g} g, {saved:.1%} less"]
    later_s = ways[chosen][-1].end_s - ways[_NOW][-1].end_s
    said.append(f"ends {later_s / 3600:.1f} h later, {(run.deadline_s - ways[chosen][-1].end_s) / 3600:.1f} h early")
    if cost.restarts:
        said.append(f"{cost.restarts} restarts of {run.restart.seconds:.0f} s are paid for in that")
    if cost.high_grams > cost.low_grams:
        said.append(
            f"between {cost.low_grams:.4g} and {cost.high_grams:.4g} g by the forecast's 10th and 90th percentile"
        )
    return tuple(said)
