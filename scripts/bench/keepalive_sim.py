"""What a keep-alive policy costs on a trace, and what the best without mistakes would have. Pure.

Rules. Requests take no time: what they use is busy energy, the same for all, and left out. A request that finds its
model asleep starts a load and waits for it; so do all that come before it is over; each is cold, by whatever the load
was started. A model that is loaded and not asked draws warm power, one that loads draws load power, one that sleeps
none, and going to sleep is free. At the end of the trace what is warm goes to sleep at once.

The policy is told of visits when they are over and of the load just made, never of anything to come.

The clairvoyant optimum knows all gaps and loads ahead, so that nobody waits: the first request costs a load, each gap
the smaller of warm power x gap and the load that ends it. The patient optimum lets requests wait for loads as the
policies do, as many as it likes: the least energy of all, at whatever share of cold requests.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.policy.keepalive import Plan, Visit
from scripts.bench.keepalive_trace import ModelTrace

WARM_W, LOAD_W = 70.0, 150.0
SAME_VISIT_S = 1.0
"""Requests that follow one another this closely are one visit to the policy, as in the service's samples."""


class Keeper(Protocol):
    def measured_load(self, energy_j: float | None, seconds: float) -> None: ...
    def measured_warm(self, power_w: float) -> None: ...
    def visited(self, visit: Visit) -> None: ...
    def plan(self) -> Plan: ...


class FixedTimer:
    """Sleep `delay_s` after the last request, whatever happens."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._plan: Plan | None = None

    def measured_load(self, energy_j: float | None, seconds: float) -> None: ...

    def measured_warm(self, power_w: float) -> None: ...

    def visited(self, visit: Visit) -> None:
        self._plan = Plan(visit.ended_s, self._delay_s, visit.ended_s + self._delay_s, None, None, 0.0)

    def plan(self) -> Plan:
        assert self._plan is not None
        return self._plan


@dataclass(frozen=True)
class Cost:
    """Of one model or of several added up."""

    warm_s: float = 0.0
    load_j: float = 0.0
    loads: int = 0
    cold: int = 0
    cold_starts: int = 0
    requests: int = 0

    @property
    def energy_j(self) -> float:
        return self.warm_s * WARM_W + self.load_j

    @property
    def cold_share(self) -> float:
        return self.cold / max(self.requests, 1)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(_figures(self), _figures(other), strict=True)))


def _figures(cost: Cost) -> tuple:
    return cost.warm_s, cost.load_j, cost.loads, cost.cold, cost.cold_starts, cost.requests


def simulate(
    trace: ModelTrace, keeper: Keeper, warm_w: float = WARM_W, load_w: float = LOAD_W, stop_s: float = 0.0
) -> Cost:
    """One model. A replica that goes to sleep stays warm for `stop_s` more, and answers nobody."""
    times_s, loads_s = trace.times_s.tolist(), trace.load_s.tolist()
    count = len(times_s)
    ends = _visit_ends(trace).tolist()
    warm_s, load_j, loads, cold, cold_starts = 0.0, 0.0, 0, 0, 0
    plan: Plan | None = None
    index = 0
    while index < count:
        begun_s = times_s[index]
        if plan is None:
            ready_s = begun_s + loads_s[index]
        else:
            slept_s, ready_s, extra_loads_s = _spent(plan, begun_s, loads_s[index])
            warm_s += slept_s
            load_j += load_w * sum(extra_loads_s)
            loads += len(extra_loads_s)
            warm_s += stop_s * (begun_s > plan.sleep_at_s)
        if plan is None or ready_s == begun_s + loads_s[index]:
            load_j += load_w * loads_s[index]
            loads += 1
            cold_starts += 1
        if ready_s > begun_s:
            after = index
            while after < count and times_s[after] <= ready_s:
                after += 1
            visit = Visit(begun_s, ready_s, after - index, after - index)
            cold += after - index
            keeper.measured_load(load_w * loads_s[index], loads_s[index])
            keeper.measured_warm(warm_w)
        else:
            after = ends[index]
            visit = Visit(begun_s, times_s[after - 1], after - index, 0)
            warm_s += visit.ended_s - begun_s
        keeper.visited(visit)
        plan = keeper.plan()
        index = after
    return Cost(warm_s, load_j, loads, cold, cold_starts, count)


def _spent(plan: Plan, asked_s: float, load_s: float) -> tuple[float, float, list[float]]:
    """Of a gap that ends at `asked_s`: warm seconds, when the model is ready, and seconds of loads ahead of need."""
    if asked_s <= plan.sleep_at_s:
        return asked_s - plan.idle_from_s, asked_s, []
    warm_s = plan.sleep_at_s - plan.idle_from_s
    if plan.wake_at_s is None or plan.sleep_again_s is None or asked_s < plan.wake_at_s:
        return warm_s, asked_s + load_s, []
    ready_s = plan.wake_at_s + load_s
    if asked_s <= ready_s:
        return warm_s, ready_s, [load_s]
    warm_s += max(0.0, min(asked_s, plan.sleep_again_s) - ready_s)
    if asked_s <= plan.sleep_again_s:
        return warm_s, asked_s, [load_s]
    return warm_s, asked_s + load_s, [load_s]


def _visit_ends(trace: ModelTrace) -> np.ndarray:
    """For each request, the index after the last of its visit."""
    splits = np.flatnonzero(np.diff(trace.times_s) > SAME_VISIT_S) + 1
    ends = np.append(splits, len(trace.times_s))
    return ends[np.searchsorted(splits, np.arange(len(trace.times_s)), side="right")]


def clairvoyant_j(trace: ModelTrace) -> float:
    """The least energy with which nobody waits."""
    if not len(trace.times_s):
        return 0.0
    gaps_j = np.minimum(WARM_W * np.diff(trace.times_s), LOAD_W * trace.load_s[1:])
    return float(LOAD_W * trace.load_s[0] + gaps_j.sum())


def patient(trace: ModelTrace) -> Cost:
    """The least energy of all, by going backwards over the requests: warm at one, or loading for it."""
    times_s, loads_s = trace.times_s.tolist(), trace.load_s.tolist()
    count = len(times_s)
    ready_s = (trace.times_s + trace.load_s).tolist()
    following = np.searchsorted(trace.times_s, trace.times_s + trace.load_s, side="right").tolist()
    warm: list[tuple[float, int]] = [(0.0, 0)] * (count + 1)
    loading: list[tuple[float, int]] = [(0.0, 0)] * (count + 1)
    for index in range(count - 1, -1, -1):
        after = following[index]
        load_j, waiting = LOAD_W * loads_s[index], after - index
        rest = (0.0, 0)
        if after < count:
            stay = WARM_W * (times_s[after] - ready_s[index]) + warm[after][0], warm[after][1]
            rest = min(stay, loading[after])
        loading[index] = load_j + rest[0], waiting + rest[1]
        if index + 1 < count:
            stay = WARM_W * (times_s[index + 1] - times_s[index]) + warm[index + 1][0], warm[index + 1][1]
            warm[index] = min(stay, loading[index + 1])
    energy_j, cold = loading[0] if count else (0.0, 0)
    return Cost(load_j=energy_j, cold=cold, requests=count)
