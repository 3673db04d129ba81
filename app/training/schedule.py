"""From what is known of a job and of the grid to a plan of when it runs, on how many workers.

Pure: what is known comes in, a plan goes out (app/policy/shifting.py searches it). Knows nothing of Ray, files or
clocks. A run's work is counted in hours with its largest number of workers, so that a speed of 1 is theirs.

    known = estimate(job, pace)
    plan = make_plan(known, terms, State(done=0.25, workers=0, begun=True), outlook, now_s)
    plan.workers_at(now_s)                            # 0: it shall not run now
"""

from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import InvalidInput
from app.policy.shifting import Outlook, Plan, Rate, RestartCost, Run, ShiftSettings, plan_run
from app.training.job import TrainJob
from app.training.pace import Pace
from app.training.start import Start, Terms

_S_PER_H = 3600.0
_ASSUMED_RESTART_S = 60.0
"""Of a job that was never seen to start: processes, imports and the checkpoint of a small model take less."""
_UNKNOWN_POWER_W = 1000.0
_RESERVE = 0.03
"""Of the work left, kept free before the deadline: paces vary."""
_CLOSING_S = 10.0
"""Kept free, too: the last evaluation and the last checkpoint."""


@dataclass(frozen=True, slots=True)
class State:
    """How far the run is."""

    done: float = 0.0
    """Share of its steps, 0..1."""
    workers: int = 0
    """That run now; 0: none."""
    begun: bool = False
    """Whether it ran before, so that its next start is a restart."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a whole run is expected to take."""

    hours: float
    """Of steps, with the largest number of workers."""
    rates: Mapping[int, Rate]
    """By number of workers; a speed of 1 is that of the largest."""
    setup_s: float
    """Of the first start."""
    closing_s: float
    """From a request to stop to the end of the workers, about."""
    restart: RestartCost
    power_known: bool
    """False: powers are those of a job of 1 kW, and only shares of carbon mean anything."""
    known_from: tuple[str, ...]

    @property
    def power_w(self) -> float:
        """With the largest number of workers."""
        return self.rates[max(self.rates)].power_w

    def hours_left(self, state: State) -> float:
        """Of work, the first setup included."""
        return self.hours * (1 - state.done) + (0.0 if state.begun else self.setup_s / _S_PER_H)


def terms_of(start: Start, submitted_s: float, hours: float) -> Terms:
    """The terms of a run that is expected to take `hours`."""
    if start.deadline is not None:
        return Terms(submitted_s=submitted_s, deadline_s=start.deadline.timestamp())
    return Terms(submitted_s=submitted_s, deadline_s=submitted_s + (hours + (start.slack_hours or 0.0)) * _S_PER_H)


def make_plan(known: Estimate, terms: Terms, state: State, outlook: Outlook, now_s: float, start: Start) -> Plan:
    """The plan for what is left of a run."""
    left = max(known.hours_left(state), 1e-6)
    run = Run(
        rates=known.rates,
        work=left,
        deadline_s=terms.deadline_s - _closing_s(known) - _RESERVE * left * _S_PER_H,
        interruptible=start.interruptible,
        restart=known.restart,
        workers=_nearest(known.rates, state.workers),
        begun=state.begun,
    )
    return plan_run(run, outlook, now_s, ShiftSettings(least_saving=start.least_saving))


def estimate(job: TrainJob, start: Start, pace: Pace | None, *, of_this_run: bool = False) -> Estimate:
    """What `job` is expected to take, as its file says or as `pace`, of this run or of an earlier one, was seen.

    Raises InvalidInput where neither says how long.
    """
    most = job.workers.max
    measured = f"measured in {'this run' if of_this_run else pace.run}" if pace else ""
    if pace and (of_this_run or not start.hours):
        hours = job.epochs * pace.epoch_steps * _step_s(pace, most) / _S_PER_H
        said = [f"{hours * _S_PER_H:.0f} s of steps with {most}: {measured}"]
    elif start.hours:
        hours, said = start.hours, [f"{start.hours:g} h with {most}: start.hours"]
    else:
        raise InvalidInput(
            f"start.hours: no earlier run of {job.name!r} shows how long it takes; give the hours with "
            f"{most} worker{'s' if most > 1 else ''}"
        )
    speeds = _speeds(start, pace, most)
    powers, power_known = _powers(start, pace, speeds, most)
    said.append(_power_said(start, measured, powers[most], power_known))
    rates = {world: Rate(speed=speed, power_w=powers[world]) for world, speed in speeds.items()}
    if pace is None:
        restart = RestartCost(seconds=_ASSUMED_RESTART_S)
        said.append(f"a restart takes {_ASSUMED_RESTART_S:.0f} s: assumed, this job was never seen to start")
        return Estimate(hours, rates, _ASSUMED_RESTART_S, 0.0, restart, power_known, tuple(said))
    seconds = pace.setup_s + pace.closing_s
    beyond_j = max(0.0, (pace.setup_j or 0.0) - powers[most] * seconds) if power_known else 0.0
    said.append(f"a restart takes {seconds:.1f} s and {beyond_j:.1f} J beyond what steps take meanwhile: {measured}")
    return Estimate(
        hours, rates, pace.setup_s, pace.closing_s, RestartCost(seconds, beyond_j), power_known, tuple(said)
    )


def _step_s(pace: Pace, most: int) -> float:
    """With `most` workers; of a number that was never seen, as if speed went with it."""
    seen = pace.of(most)
    if seen:
        return seen.step_s
    largest = pace.worlds[-1]
    return largest.step_s * largest.world / most


def _speeds(start: Start, pace: Pace | None, most: int) -> dict[int, float]:
    """By number of workers, that of `most` being 1. A job that must not be interrupted has one number."""
    if not start.interruptible:
        return {most: 1.0}
    if start.speeds:
        return {world: speed / start.speeds[most] for world, speed in start.speeds.items()}
    if pace is None or pace.of(most) is None:
        return {most: 1.0}
    whole = _step_s(pace, most)
    return {each.world: whole / each.step_s for each in pace.worlds if each.world <= most}


def _powers(start: Start, pace: Pace | None, speeds: Mapping[int, float], most: int) -> tuple[dict[int, float], bool]:
    """By number of workers, and whether it is known at all; of a number that was never seen, in proportion."""
    seen = {each.world: each.power_w for each in pace.worlds if each.power_w} if pace else {}
    if start.power_w:
        return {world: start.power_w * world / most for world in speeds}, True
    if not seen:
        return {world: _UNKNOWN_POWER_W * world / most for world in speeds}, False
    largest = max(seen)
    return {world: seen.get(world) or seen[largest] * world / largest for world in speeds}, True


def _power_said(start: Start, measured: str, power_w: float, known: bool) -> str:
    if not known:
        return "its power is not known: all grams and kWh are those of a job of 1 kW; give start.power_w"
    return f"{power_w:.1f} W: {'start.power_w' if start.power_w else measured}"


def _nearest(rates: Mapping[int, Rate], workers: int) -> int:
    """The number of workers with a rate that is next to those that run: there may be room for no more."""
    return min(rates, key=lambda each: (abs(each - workers), each)) if workers else 0


def _closing_s(known: Estimate) -> float:
    return max(_CLOSING_S * min(1.0, known.hours), known.closing_s)
