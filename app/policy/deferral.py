"""Which pieces of deferred work run now, when several share one bounded lane and each has a deadline of its own.

Pure: what is left of each comes in as plain numbers, a turn for each goes out. Knows nothing of requests, models or
clocks. What is due no later than a piece of work must be done before it, so the plan of the k-th by deadline is that
of all k together (shifting.py searches it); a piece runs when the plan of itself or of any that is due later has the
lane at work now. Deadlines hold so, as if each plan were followed; earliest deadline first within the lane.

    turns = take_turns([Deferred("a", hours=0.5, deadline_s=now_s + 6 * 3600, power_w=300)], outlook, now_s)
    turns["a"].runs_now, turns["a"].plan.pieces, turns["a"].plan.reasons

Ask again when work came, went or was done, or the forecast changed. Raises InvalidInput for work that is not finite.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import InvalidInput
from app.policy.shifting import Outlook, Plan, Rate, RestartCost, Run, ShiftSettings, plan_run

_S_PER_H = 3600.0
_SHORTEST_H = 1e-4
"""What is all but done is still something to plan."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """What is left of one piece of work."""

    id: str
    hours: float
    """Of the whole lane, expected."""
    deadline_s: float
    power_w: float
    """While it has the lane."""
    runs: bool = False
    """It runs now."""
    begun: bool = False
    """It ran before."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Of one piece of work."""

    runs_now: bool
    plan: Plan
    """Of all that is due no later, itself included."""


def take_turns(
    works: Sequence[Deferred],
    outlook: Outlook,
    now_s: float,
    restart: RestartCost | None = None,
    settings: ShiftSettings | None = None,
) -> dict[str, Turn]:
    """A turn for each, by its id, earliest deadline first. `restart`: what beginning again after a pause costs."""
    _check(works)
    ordered = sorted(works, key=lambda each: (each.deadline_s, each.id))
    plans: dict[str, Plan] = {}
    hours = joules = 0.0
    is_running, has_begun = any(each.runs for each in works), any(each.begun or each.runs for each in works)
    for each in ordered:
        work = max(each.hours, _SHORTEST_H)
        hours, joules = hours + work, joules + work * each.power_w
        run = Run(
            rates={1: Rate(speed=1.0, power_w=joules / hours)},
            work=hours,
            deadline_s=each.deadline_s,
            interruptible=True,
            restart=restart or RestartCost(),
            workers=int(is_running),
            begun=has_begun,
        )
        plans[each.id] = plan_run(run, outlook, now_s, settings)
    turns: dict[str, Turn] = {}
    wanted = False
    for each in reversed(ordered):
        wanted = wanted or plans[each.id].workers_at(now_s) > 0
        turns[each.id] = Turn(wanted, plans[each.id])
    return {each.id: turns[each.id] for each in ordered}


def time_for(work_s: float, slack_s: float, reserve_share: float, reserve_s: float) -> float:
    """Seconds before a deadline that are kept free of `work_s` of work: paces vary, but never more than half of the
    `slack_s` that there is."""
    return min(max(0.0, slack_s) / 2, reserve_s + reserve_share * work_s)


def _check(works: Sequence[Deferred]) -> None:
    for each in works:
        if not (each.hours >= 0 and math.isfinite(each.hours) and math.isfinite(each.deadline_s) and each.power_w >= 0):
            raise InvalidInput(f"work {each.id} must have finite hours >= 0, a deadline and power_w >= 0, got {each}")
    if len({each.id for each in works}) != len(works):
        raise InvalidInput("each piece of work needs an id of its own")


def lane_hours(requests: float, seconds_each: float, lanes: int) -> float:
    """Hours that `requests` take, `lanes` of them at a time, `seconds_each` long."""
    return requests * seconds_each / lanes / _S_PER_H
