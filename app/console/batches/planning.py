"""When the open batches run: from what is left of each, what requests took, and what the grid is expected to do.

Knows nothing of HTTP, models or Ray; app/policy/deferral.py decides. A batch's plan is that of all that is due no
later, since that has the lane before it.

    lane = Lane(lanes=4, pue=1.2)
    looks = lane.plan(loads, view, now_s)
    looks[batch_id].runs_now, looks[batch_id].plan
    choice_of("start", looks[batch_id], now_s)                  # the record of it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.console.batches.records import BatchRecord, Pace
from app.domain.decision import Choice, Course, Fact, Saving
from app.engine.outlook import View
from app.policy.deferral import Deferred, lane_hours, take_turns, time_for
from app.policy.shifting import Plan, RestartCost, ShiftSettings

_ASSUMED_S = 1.0
"""Of one request of a kind that was never made."""
_UNKNOWN_POWER_W = 1000.0
_WAKE = RestartCost(seconds=10.0)
"""A model that slept through a pause has to be woken: what cold starts take (docs/serving/cold-start.md), and more."""
_LEAST_SAVING = 0.02
"""As jobs: less than that is not worth a delay."""
_RESERVE_SHARE, _RESERVE_S = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is left of a batch."""

    batch: BatchRecord
    left: Mapping[tuple[str, str], int]
    """Requests by model and url."""
    paces: Mapping[tuple[str, str], Pace]
    """Of those kinds that were made before."""
    runs: bool = False


@dataclass(frozen=True, slots=True)
class BatchLook:
    """A batch's turn and what it was decided from."""

    batch: BatchRecord
    runs_now: bool
    plan: Plan
    share: float
    """Of the plan's work that is the batch's own."""
    requests_left: int
    hours_left: float
    power_w: float | None
    """Of the whole lane; None: not known, shares of carbon are right all the same."""
    pace_known: bool
    view: View


class Lane:
    """One bounded lane: so many requests at a time."""

    def __init__(self, lanes: int, pue: float) -> None:
        self.lanes, self._pue = lanes, pue

    def plan(self, loads: Sequence[Load], view: View, now_s: float) -> dict[str, BatchLook]:
        """A look for each, by the batch's id."""
        known = {load.batch.id: _known(load, self.lanes) for load in loads}
        works, queued_s = [], 0.0
        for load in sorted(loads, key=lambda each: each.batch.deadline_s):
            batch, (hours, power_w, _) = load.batch, known[load.batch.id]
            queued_s += hours * 3600
            slack_s = batch.deadline_s - now_s - queued_s
            kept_s = time_for(queued_s, slack_s, _RESERVE_SHARE, _RESERVE_S)
            power = _UNKNOWN_POWER_W if power_w is None else power_w
            begun = batch.began_s is not None
            works.append(Deferred(batch.id, hours, batch.deadline_s - kept_s, power, load.runs, begun))
        turns = take_turns(works, view.outlook, now_s, _WAKE, ShiftSettings(least_saving=_LEAST_SAVING))
        looks, before_h = {}, 0.0
        for work in sorted(works, key=lambda each: (each.deadline_s, each.id)):
            load = next(each for each in loads if each.batch.id == work.id)
            before_h += work.hours
            hours, power_w, pace_known = known[work.id]
            turn = turns[work.id]
            share = hours / before_h if before_h else 1.0
            count = sum(load.left.values())
            looks[work.id] = BatchLook(
                load.batch, turn.runs_now, turn.plan, share, count, hours, power_w, pace_known, view
            )
        return looks

    def choice_of(self, action: str, look: BatchLook, now_s: float) -> Choice:
        """The record of a decision about a batch."""
        plan, factor = look.plan, look.share * self._pue
        knows = look.power_w is not None
        best = min(plan.alternatives, key=lambda each: abs(each.expected_g - plan.expected_g), default=None)
        return Choice(
            at_s=now_s,
            action=action,
            reasons=plan.reasons,
            subject=look.batch.id,
            topic="batch",
            facts=_facts(look, now_s),
            courses=tuple(
                Course(
                    name=each.name,
                    carbon_g=each.expected_g * factor if knows else None,
                    energy_j=each.kwh * 3.6e6 * look.share if knows else None,
                    finish_s=each.finish_s,
                    basis="forecast",
                )
                for each in plan.alternatives
            ),
            chosen=best.name if best else "",
            expected=Saving(
                carbon_g=plan.saving_g * factor if knows else None,
                share=plan.saving_share,
                basis="forecast",
                against="running at once",
            ),
            after={"planned": [[piece.start_s, piece.end_s] for piece in plan.pieces]},
        )


def _facts(look: BatchLook, now_s: float) -> tuple[Fact, ...]:
    """What was known when it was decided."""
    view, knows = look.view, look.power_w is not None
    return (
        Fact(name="requests left", value=look.requests_left),
        Fact(
            name="time they take",
            value=round(look.hours_left, 5),
            unit="h",
            basis="measured" if look.pace_known else "not known",
            source="earlier requests" if look.pace_known else f"{_ASSUMED_S:g} s each are assumed",
        ),
        Fact(
            name="power of the lane",
            value=None if look.power_w is None else round(look.power_w, 2),
            unit="W",
            basis="measured" if knows else "not known",
            source="receipts of earlier requests" if knows else "no receipt yet; shares of carbon are right",
        ),
        Fact(name="deadline", value=look.batch.deadline_s, unit="unix s", basis="set", source="completion_window"),
        Fact(
            name="grid now",
            value=round(view.outlook.at(now_s), 2),
            unit="gCO2e/kWh",
            basis="forecast" if view.grade in ("forecast", "stale", "yearly") else "measured",
            source=view.source,
        ),
        Fact(name="forecast", value=view.model, basis="forecast", source=f"weakest figure {view.grade}"),
    )


def _known(load: Load, lanes: int) -> tuple[float, float | None, bool]:
    """Hours of the lane, its power, and whether every kind of request was made before."""
    seconds = joules = metered_s = 0.0
    for kind, count in load.left.items():
        pace = load.paces.get(kind)
        each_s = pace.each_s if pace else _ASSUMED_S
        seconds += count * each_s
        if pace and pace.each_j is not None:
            joules, metered_s = joules + count * pace.each_j, metered_s + count * each_s
    power_w = joules / metered_s * lanes if metered_s > 0 and joules > 0 else None
    return lane_hours(1.0, seconds, lanes), power_w, all(kind in load.paces for kind in load.left)
