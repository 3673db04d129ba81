"""Advice on how a job is run: batch size and power cap by measured windows, workers by earlier runs, hours and zones.

Pure. Knows nothing of job files: a change is the fields of one, by name. Every figure comes in measured or planned.

    advise_power_cap(windows, limit_w, most_slower=1.25, known_from="..."), advise_batch(...)
    advise_workers((1, 2), [Pace(1, 0.2, 40.0), Pace(2, 0.12, 75.0)], most_slower=1.25, known_from="...")
    advise_hour(plan, "at once", {"start": {"slack_hours": 24.0}}, known_from="...")
    advise_zone(placement, "FRA", "yearly figures")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from app.domain.decision import Basis, Course, Saving
from app.errors import InvalidInput
from app.policy.advice import RUN, WORTH, Advice, percent, settled, unknown
from app.policy.placement import Placement
from app.policy.power_search import Window
from app.policy.shifting import Plan

_MW_PER_W = 1_000
_UJ_PER_J = 1_000_000


def advise_power_cap(windows: Sequence[Window], now_limit_w: float, most_slower: float, known_from: str) -> Advice:
    """The power limit at the batch size of the first window, the job as it is: what is learnt stays the same.

    `most_slower`: a sample may take so many times as long. Raises InvalidInput without a window.
    """
    same = [each for each in windows if each.setting.batch_size == windows[0].setting.batch_size]
    if len(same) > 1:
        return advise_batch(same, now_limit_w, most_slower, known_from, name="power cap")
    now = f"{now_limit_w:g} W" if now_limit_w else "as the node has it"
    todo = f"no other limit was measured with {windows[0].setting.batch_size} rows, or none can be set ({known_from})"
    return unknown("power cap", now, todo, of=RUN)


def advise_batch(
    windows: Sequence[Window], now_limit_w: float, most_slower: float, known_from: str, *, name: str = "batch"
) -> Advice:
    """Batch size and power limit together, as they were measured: `windows`, the first the job as it is.

    Another batch size learns otherwise, so that it is applied by name alone. Raises InvalidInput without a window.
    """
    if not windows:
        raise InvalidInput("there is no window to choose from: run `joulekeeper tune JOB.yaml`")
    first = windows[0]
    limited = len({each.setting.limit_mw for each in windows}) > 1
    courses = tuple(_window_course(each, limited) for each in windows)
    fast = [each for each in windows if each.seconds_per_sample <= most_slower * first.seconds_per_sample]
    best = min(fast, key=lambda each: each.energy_uj_per_sample)
    share = 1 - best.energy_uj_per_sample / first.energy_uj_per_sample
    now = _window_name(first, limited)
    if share < WORTH:
        why = f"of {len(windows)} settings the best would save {percent(share)} ({known_from})"
        return settled(name, now, why, of=RUN, courses=courses)
    change = _window_change(first, best, now_limit_w)
    learns = (
        "; another batch size learns otherwise, so it waits to be named: --only batch" if "batch_size" in change else ""
    )
    return Advice(
        setting=name,
        now=now,
        proposed=_window_name(best, limited),
        of=RUN,
        saving=Saving(share=share, basis="measured", against=now, note="of the energy of steps"),
        reasons=(f"{len(windows)} settings were measured: {known_from}{learns}",),
        courses=courses,
        change=change,
        by_name="batch_size" in change,
    )


def _window_course(window: Window, limited: bool) -> Course:
    return Course(
        name=_window_name(window, limited),
        energy_j=window.energy_uj_per_sample / _UJ_PER_J,
        basis="measured",
        note=f"a sample; {window.seconds_per_sample * 1000:.4g} ms",
    )


def _window_change(first: Window, best: Window, now_limit_w: float) -> dict[str, JsonValue]:
    change: dict[str, JsonValue] = {}
    if best.setting.batch_size != first.setting.batch_size:
        change["batch_size"] = best.setting.batch_size
    limit_w = best.setting.limit_mw / _MW_PER_W
    if best.setting.limit_mw != first.setting.limit_mw and limit_w != now_limit_w:
        change["resources.power_limit_w"] = limit_w
    return change


def _window_name(window: Window, limited: bool) -> str:
    size = str(window.setting.batch_size)
    return f"{size}, {window.setting.limit_mw / _MW_PER_W:g} W" if limited else size


@dataclass(frozen=True, slots=True)
class WorkerPace:
    """What steps took with so many workers."""

    workers: int
    step_s: float
    power_w: float | None
    """Of the whole job; None: nobody metered it."""

    @property
    def step_j(self) -> float | None:
        return None if self.power_w is None else self.power_w * self.step_s


def advise_workers(now: tuple[int, int], paces: Sequence[WorkerPace], most_slower: float, known_from: str) -> Advice:
    """How many workers, from (least, most) now. A step is the same work whatever their number."""
    least, most = now
    name = str(most) if least == most else f"{least} to {most}"
    metered = [each for each in paces if each.step_j and least <= each.workers <= most]
    present = next((each for each in metered if each.workers == most), None)
    if present is None:
        return unknown("workers", name, f"no metered run with {most} is known: run the job once", of=RUN)
    if len(metered) < 2:
        todo = "earlier runs had one number of workers: let it run elastic (workers: {min: .., max: ..}) to compare"
        return unknown("workers", name, todo, of=RUN)
    courses = tuple(
        Course(
            name=f"workers {each.workers}",
            energy_j=each.step_j,
            basis="measured",
            note=f"a step; {each.step_s * 1000:.4g} ms",
        )
        for each in metered
    )
    fast = [each for each in metered if each.step_s <= most_slower * present.step_s]
    best = min(fast, key=lambda each: each.step_j or 0.0)
    share = 1 - (best.step_j or 0.0) / (present.step_j or 1.0)
    if share < WORTH:
        why = f"of {len(metered)} numbers none saves {percent(WORTH)} of a step's energy ({known_from})"
        return settled("workers", name, why, of=RUN, courses=courses)
    return Advice(
        setting="workers",
        now=name,
        proposed=str(best.workers),
        of=RUN,
        saving=Saving(share=share, basis="measured", against=f"{most} workers", note="of the energy of steps"),
        reasons=(
            f"a step took {best.step_j:.4g} J with {best.workers}, {present.step_j:.4g} J with {most}: {known_from}",
        ),
        courses=courses,
        change={"workers": best.workers},
    )


def advise_hour(
    plan: Plan, now: str, change: Mapping[str, JsonValue], known_from: str, *, power_known: bool, least: float = WORTH
) -> Advice:
    """When it runs: the plan that its slack allows. Saves carbon and hardly ever energy."""
    courses = tuple(
        Course(
            name=each.name,
            carbon_g=each.expected_g if power_known else None,
            energy_j=each.kwh * 3_600_000 if power_known else None,
            finish_s=each.finish_s,
            basis="forecast",
            note="" if power_known else f"{each.expected_g:.4g} g for each kW of the job",
        )
        for each in plan.alternatives
    )
    if plan.late or plan.saving_share < least:
        return settled("hour", now, "; ".join(plan.reasons), of=RUN, basis="forecast", courses=courses)
    saving = Saving(
        share=plan.saving_share,
        carbon_g=plan.saving_g if power_known else None,
        basis="forecast",
        against="at once",
        note="of the carbon",
    )
    return Advice(
        setting="hour",
        now=now,
        proposed=f"planned, {len(plan.pieces)} piece{'s' if len(plan.pieces) > 1 else ''}",
        of=RUN,
        saving=saving,
        reasons=(*plan.reasons, known_from),
        courses=courses,
        change=dict(change),
    )


def advise_zone(placement: Placement, home: str, known_from: str, basis: Basis = "modelled") -> Advice:
    """Where it runs: the zone that app/policy/placement.py chose."""
    courses = tuple(
        Course(
            name=f"zone {each.zone}", carbon_g=each.expected_g, basis=basis, note=f"{each.moved_g:.3g} g to move data"
        )
        for each in placement.options
    )
    if placement.zone == home or not placement.home_g:
        return settled("zone", home, "; ".join(placement.reasons), of=RUN, basis=basis, courses=courses)
    share = 1 - placement.expected_g / placement.home_g
    return Advice(
        setting="zone",
        now=home,
        proposed=placement.zone,
        of=RUN,
        saving=Saving(share=share, basis=basis, against=home, note=f"of the carbon; {known_from}"),
        reasons=placement.reasons,
        courses=courses,
    )
