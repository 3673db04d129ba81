"""The policies of the shifting bench: ours, and those of the literature beside it.

Each is asked at every full hour how a job shall go on, and answers with pieces of time and numbers of workers; only
what lies in that hour is done before it is asked again. Knows nothing of the future but what a forecast says.

- Ours: app/policy/shifting.py as the service runs it, asked again every hour.
- Wait-Awhile (Wiesner et al., Middleware 2021): the cheapest window, or with pauses the cheapest hours, of the forecast
  at arrival; kept. On our forecast, and on the bare one that anybody has: the provider's, else the day before.
- Suspend-resume (the threshold baseline of Wait-Awhile and CarbonScaler): no forecast; runs while the last known
  intensity is below that share of the last week's that the job needs of its window, and when time runs out.
- CarbonScaler (Hanafy et al., SIGMETRICS 2024): workers one by one where the marginal work per carbon is greatest, on
  our forecast, planned again every hour; restarts are paid but not planned.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.carbon.forecast import Forecast
from app.policy.shifting import Outlook, Piece, Rate, RestartCost, Run, plan_run
from scripts.bench.shifting_data import DAY_H, HORIZON_H, Trace

Floats = NDArray[np.float64]
HOUR_S = 3600.0


@dataclass(frozen=True)
class Job:
    """Arrives at an hour of the trace and must end before another."""

    at: int
    until: int
    work: float
    rates: Mapping[int, Rate]
    may_pause: bool
    restart: RestartCost

    @property
    def least_hours(self) -> float:
        """On the fewest workers, without a restart."""
        return self.work / self.rates[min(self.rates)].speed


@dataclass
class State:
    """How far a job is."""

    left: float
    workers: int = 0
    begun: bool = False


@dataclass(frozen=True)
class World:
    """What a policy may look at: the past, the forecasts made by then, and the bare ones."""

    trace: Trace
    forecasts: Mapping[int, Forecast]

    def outlook(self, at: int) -> Outlook:
        forecast = self.forecasts[at]
        return Outlook(at * HOUR_S, HOUR_S, forecast.mean, forecast.low, forecast.high)

    def bare(self, at: int) -> Floats:
        """The provider's column as it stands, else the day before again and again."""
        if self.trace.said is not None:
            return self.trace.said[at : at + HORIZON_H]
        return np.resize(self.trace.actual[at - DAY_H : at], HORIZON_H)


Rule = Callable[[World, Job, State, int], Sequence[Piece]]


def ours(world: World, job: Job, state: State, now: int) -> Sequence[Piece]:
    run = Run(job.rates, state.left, job.until * HOUR_S, job.may_pause, job.restart, state.workers, begun=state.begun)
    return plan_run(run, world.outlook(now), now * HOUR_S).pieces


def at_once(world: World, job: Job, state: State, now: int) -> Sequence[Piece]:
    return _hour(now, min(job.rates))


class WaitAwhile:
    """Plans at arrival and keeps to it."""

    def __init__(self, bare: bool) -> None:
        self._bare = bare
        self._plans: dict[tuple[int, int], frozenset[int]] = {}

    def __call__(self, world: World, job: Job, state: State, now: int) -> Sequence[Piece]:
        key = job.at, job.until
        if key not in self._plans:
            expected = world.bare(job.at) if self._bare else np.array(world.forecasts[job.at].mean)
            self._plans = {key: self._hours(job, expected[: job.until - job.at])}
        return _hour(now, min(job.rates)) if now in self._plans[key] or _runs_out(job, state, now) else ()

    @staticmethod
    def _hours(job: Job, expected: Floats) -> frozenset[int]:
        needed = int(np.ceil(job.least_hours))
        if job.may_pause:
            chosen = np.argsort(expected, kind="stable")[:needed]
        else:
            first = int(np.convolve(expected, np.ones(needed), "valid").argmin())
            chosen = np.arange(first, first + needed)
        return frozenset(job.at + int(hour) for hour in chosen)


def suspend_resume(world: World, job: Job, state: State, now: int) -> Sequence[Piece]:
    week = world.trace.actual[now - 7 * DAY_H : now]
    bound = np.quantile(week, min(1.0, job.least_hours / (job.until - job.at)))
    runs = week[-1] <= bound or (state.workers and not job.may_pause)
    return _hour(now, min(job.rates)) if runs or _runs_out(job, state, now) else ()


def carbon_scaler(world: World, job: Job, state: State, now: int) -> Sequence[Piece]:
    counts, left = sorted(job.rates), state.left
    expected = world.forecasts[now].mean[: job.until - now]
    reached = [0] * len(expected)
    queue = [(-_marginal(job, counts, 0) / grams, hour) for hour, grams in enumerate(expected)]
    heapq.heapify(queue)
    while left > 0 and queue:
        _, hour = heapq.heappop(queue)
        step = reached[hour]
        left -= job.rates[counts[step]].speed - (job.rates[counts[step - 1]].speed if step else 0.0)
        reached[hour] = step + 1
        if step + 1 < len(counts):
            heapq.heappush(queue, (-_marginal(job, counts, step + 1) / expected[hour], hour))
    if _runs_out(job, state, now):
        reached[0] = max(reached[0], 1)
    return _hour(now, counts[reached[0] - 1]) if reached[0] else ()


def _marginal(job: Job, counts: Sequence[int], step: int) -> float:
    """Work per energy of one more worker."""
    rate = job.rates[counts[step]]
    before = job.rates[counts[step - 1]] if step else Rate(0.0, 0.0)
    return (rate.speed - before.speed) / max(rate.power_w - before.power_w, 1e-9)


def _runs_out(job: Job, state: State, now: int) -> bool:
    """Whether the rest needs every hour from now on, on the fewest workers, with a restart to spare."""
    speed = job.rates[min(job.rates)].speed
    return state.left / speed + job.restart.seconds / HOUR_S > job.until - now - 1


def _hour(now: int, workers: int) -> Sequence[Piece]:
    return (Piece(now * HOUR_S, (now + 1) * HOUR_S, workers),)


@dataclass(frozen=True)
class Outcome:
    """What a job came to in the end, at what the grid really emitted."""

    grams: float
    kwh: float
    finish_h: float
    restarts: int


def outcome_of(world: World, job: Job, rule: Rule) -> Outcome:
    """The job done under `rule`, hour by hour."""
    state, grams, joules, restarts = State(job.work), 0.0, 0.0, 0
    hour, ended_h = job.at, float(job.at)
    while state.left > 1e-9:
        clock_s = hour * HOUR_S
        for piece in rule(world, job, state, hour):
            start_s, end_s = max(piece.start_s, clock_s), min(piece.end_s, (hour + 1) * HOUR_S)
            if start_s >= end_s or state.left <= 1e-9:
                continue
            lost_s = extra_j = 0.0
            if state.begun and (piece.workers != state.workers or start_s > clock_s):
                lost_s, extra_j, restarts = job.restart.seconds, job.restart.energy_j, restarts + 1
            rate = job.rates[piece.workers]
            end_s = min(end_s, start_s + lost_s + state.left / rate.speed * HOUR_S)
            state.left -= max(end_s - start_s - lost_s, 0.0) / HOUR_S * rate.speed
            drawn_j = (end_s - start_s) * rate.power_w + extra_j
            joules, grams = joules + drawn_j, grams + drawn_j * world.trace.actual[hour] / 3.6e6
            state.workers, state.begun, clock_s, ended_h = piece.workers, True, end_s, end_s / HOUR_S
        if clock_s < (hour + 1) * HOUR_S - 1e-6:
            state.workers = 0
        hour += 1
    return Outcome(grams, joules / 3.6e6, ended_h, restarts)
