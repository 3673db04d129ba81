"""Plans a run from what lies in its storage, what earlier runs of its job took, and what the grid's series says now.

Knows nothing of Ray: how far a run is that runs now is an argument. The driver asks again and again (conductor.py),
`joulekeeper plan` once.

    planner = Planner.open(job, storage, run, grid, now_s)
    look = planner.look(now_s)
    look.plan.pieces, look.inputs.known_from

Raises InvalidInput where nothing says how long the job takes, and for a deadline that has passed.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from app.carbon.intensity import IntensityGrade, LocationAverageSeries
from app.carbon.slot_store import PastForecast
from app.engine.outlook import View, look_ahead
from app.errors import InvalidInput
from app.policy.shifting import Outlook, Plan
from app.training.attempts import Seen
from app.training.decisions import Inputs, Realised, known_of
from app.training.job import TrainJob
from app.training.pace import Pace, steps_done
from app.training.pace_keeper import PaceKeeper, earlier_pace
from app.training.run_files import RunFiles
from app.training.schedule import Estimate, State, estimate, make_plan, terms_of
from app.training.start import TERMS_FILE, Start, Terms
from app.units import NS_PER_S, kwh

_PAST_FORECASTS_S = 28 * 86_400.0
_S_PER_H, _J_PER_KWH, _UG_PER_G = 3_600.0, 3_600_000.0, 1_000_000


class GridView(Protocol):
    """What is used of `app.carbon.grid.Grid`."""

    def average(self) -> LocationAverageSeries: ...
    def past_forecasts(self, start_ns: int, end_ns: int) -> tuple[PastForecast, ...]: ...


@dataclass(frozen=True, slots=True)
class Look:
    """A plan and what it was made from."""

    plan: Plan
    inputs: Inputs
    state: State
    known: Estimate


class Planner:
    """Of one run."""

    def __init__(
        self, job: TrainJob, start: Start, keeper: PaceKeeper, grid: GridView, earlier: Pace | None, pue: float = 1.0
    ) -> None:
        self.job, self.start, self.keeper, self._grid, self._pue = job, start, keeper, grid, pue
        self._earlier = earlier
        self._series: LocationAverageSeries | None = None
        self.terms = Terms(submitted_s=0.0, deadline_s=0.0)

    @classmethod
    def open(cls, job: TrainJob, storage: str, run: str, grid: GridView, now_s: float, pue: float = 1.0) -> "Planner":
        """The planner of `run`, which is submitted now unless it was before."""
        if job.start is None:
            raise InvalidInput("start: the job has none and runs at once; add start: {slack_hours: 24} or a deadline")
        keeper = PaceKeeper(RunFiles.open(storage, run))
        planner = cls(job, job.start, keeper, grid, earlier_pace(storage, job.name), pue)
        kept, known = keeper.files.read(TERMS_FILE), planner._known()
        if kept:
            planner.terms = Terms.model_validate_json(kept)
            return planner
        planner.terms = terms_of(job.start, now_s, known.hours + known.setup_s / _S_PER_H)
        if planner.terms.deadline_s <= now_s:
            raise InvalidInput(f"start.deadline: {job.start.deadline} has passed; give a later one")
        return planner

    def keep_terms(self) -> None:
        """Going on with the run later does not move its deadline."""
        self.keeper.files.write(TERMS_FILE, self.terms.model_dump_json())

    def look(self, now_s: float, seen: Seen | None = None) -> Look:
        """The plan as of now; `seen` is how far the run is, None: no workers run."""
        known, state = self._known(seen), self._state(seen)
        view = self._view(now_s)
        inputs = Inputs(
            deadline_s=self.terms.deadline_s,
            hours_left=known.hours_left(state),
            workers=state.workers,
            power_w=known.power_w if known.power_known else None,
            restart_s=known.restart.seconds,
            restart_j=known.restart.energy_j,
            known_from=known.known_from,
            **known_of(view),
        )
        return Look(make_plan(known, self.terms, state, view.outlook, now_s, self.start), inputs, state, known)

    @property
    def has_news(self) -> bool:
        """Whether the grid's series is another one than at the last look."""
        return self._grid.average() != self._series

    def realised(self, ended_s: float, energy_uj: int, carbon_ugco2e: int) -> Realised | None:
        """What came of the run, which has ended, beside what it would have been at once; None where nobody metered."""
        known = self._known()
        if not energy_uj or not known.power_known:
            return None
        series, begin_s = self._grid.average(), self.terms.submitted_s
        at_once = series.slots_between(_ns(begin_s), _ns(begin_s + known.hours * _S_PER_H + known.setup_s))
        lived = series.slots_between(_ns(begin_s), _ns(ended_s))
        grams_s = sum(slot.g_per_kwh * (slot.end_ns - slot.start_ns) / NS_PER_S for slot in at_once)
        return Realised(
            carbon_g=carbon_ugco2e / _UG_PER_G,
            at_once_g=grams_s * known.power_w / _J_PER_KWH * self._pue,
            kwh=kwh(energy_uj),
            finish_s=ended_s,
            grade=str(IntensityGrade.worst(slot.grade for slot in lived)),
        )

    def _known(self, seen: Seen | None = None) -> Estimate:
        own = self.keeper.pace(seen)
        if own is None:
            return estimate(self.job, self.start, self._earlier)
        return estimate(self.job, self.start, _completed(own, self._earlier), of_this_run=True)

    def _state(self, seen: Seen | None) -> State:
        attempts = self.keeper.attempts(seen)
        stepped = [each for each in attempts.values() if each.epoch_steps]
        return State(
            done=min(1.0, steps_done(stepped[-1]) / (self.job.epochs * stepped[-1].epoch_steps)) if stepped else 0.0,
            workers=attempts[seen.attempt].world if seen and seen.attempt in attempts else 0,
            begun=any(each.first_step_s for each in stepped),
        )

    def _view(self, now_s: float) -> View:
        """What the grid is expected to do, with the building's share in each figure."""
        past = self._grid.past_forecasts(_ns(now_s - _PAST_FORECASTS_S), _ns(now_s))
        self._series = self._grid.average()
        view = look_ahead(self._series, now_s, self.terms.deadline_s, past)
        return replace(view, outlook=_scaled(view.outlook, self._pue)) if self._pue != 1 else view


def _completed(own: Pace, earlier: Pace | None) -> Pace:
    """Watts and joules are known once the books are settled; until then those of an earlier run stand for them."""
    if earlier is None:
        return own
    worlds = []
    for world in own.worlds:
        before = earlier.of(world.world)
        known = world.power_w or (before.power_w if before else None)
        worlds.append(world.model_copy(update={"power_w": known}))
    changes = {"worlds": tuple(worlds), "setup_j": earlier.setup_j if own.setup_j is None else own.setup_j}
    return own.model_copy(update=changes | ({} if own.closing_s else {"closing_s": earlier.closing_s}))


def _scaled(outlook: Outlook, factor: float) -> Outlook:
    """Every figure times `factor`."""
    many = (tuple(value * factor for value in each) if each else each for each in (outlook.low, outlook.high))
    return Outlook(outlook.start_s, outlook.slot_s, tuple(value * factor for value in outlook.mean), *many)


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
