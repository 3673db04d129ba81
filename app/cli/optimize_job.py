"""What is known of a job, made into advice on its settings: kept searches, earlier runs, the grid.

Knows nothing of Ray. What is measured is named as such, what is not is said with what to run.

    advise_job(job, wanted, Sources(state_dir, storage, grid, now_s, pue))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from app.carbon.zones import find_zone
from app.cli.zone_advice import ZoneWish, advise_place
from app.clock import Clock
from app.engine.job_report import JobReport
from app.errors import InvalidInput
from app.policy.advice import RUN, Advice, settled, unknown
from app.policy.advice_jobs import WorkerPace, advise_batch, advise_hour, advise_power_cap, advise_workers
from app.policy.power_search import Window
from app.policy.shifting import Rate, Run
from app.training.job import TrainJob
from app.training.pace_keeper import earlier_pace
from app.training.planner import GridView, Look, Planner
from app.training.reports import runs
from app.training.start import Start
from app.training.tunings import kept_tuning
from app.units import UJ_PER_J

_UNSUBMITTED = "not-submitted"


@dataclass(frozen=True, slots=True)
class JobWish:
    """What must be kept, and what may be chosen."""

    most_slower: float = 1.25
    """A setting may make the job take so many times as long."""
    slack_hours: float | None = None
    """By which it may be over later; None: as its file says."""
    hours: float = 0.0
    """That it takes; 0: as its file or an earlier run says."""
    carbon: bool = True
    """Least carbon; else least energy, to which hour and zone are nothing."""
    zones: ZoneWish = field(default_factory=ZoneWish)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where what is known of a job is."""

    state_dir: Path
    storage: str
    grid: GridView
    now_s: float
    pue: float
    clock: Clock


def advise_job(job: TrainJob, wish: JobWish, sources: Sources) -> list[Advice]:
    """Advice on every setting of a job."""
    look, refusal = _look(job, wish, sources)
    return [
        *_tuned(job, wish, sources),
        _workers(job, wish, sources),
        _precision(job),
        _hour(job, wish, look, refusal),
        _zone(job, wish, sources, look, refusal),
    ]


def last_report(job: TrainJob, sources: Sources) -> JobReport | None:
    """The newest run of the job that was metered."""
    found = [
        each
        for each in runs(sources.storage).values()
        if each and each.job == job.name and each.source != "none" and each.epochs
    ]
    return found[-1] if found else None


def epoch_j(report: JobReport) -> float:
    """Joules of an epoch that counts, everything else of the run included."""
    return report.energy_uj / UJ_PER_J / report.epochs


def _tuned(job: TrainJob, wish: JobWish, sources: Sources) -> list[Advice]:
    """On the power cap, and on the batch size with it."""
    kept, limit_w = kept_tuning(sources.state_dir, job.name), job.resources.power_limit_w
    windows = _from_present(kept.measured(), job.batch_size, round(limit_w * 1000)) if kept else []
    if kept is None or not windows:
        todo = (
            f"`joulekeeper tune JOB.yaml` measures batch sizes and power caps of {job.name} on a host like its workers'"
        )
        todo += "; the kept search did not measure the job as it is" if kept else ""
        cap = f"{limit_w:g} W" if limit_w else "as the node has it"
        return [unknown("power cap", cap, todo, of=RUN), unknown("batch", str(job.batch_size), todo, of=RUN)]
    known_from = f"joulekeeper tune, {datetime.fromtimestamp(kept.at_s, UTC):%Y-%m-%d %H:%M} UTC, {kept.hardware}"
    return [advise(windows, limit_w, wish.most_slower, known_from) for advise in (advise_power_cap, advise_batch)]


def _from_present(windows: Sequence[Window], batch_size: int, limit_mw: int) -> list[Window]:
    """The window of the job as it is now first; empty where none is."""
    own = [each for each in windows if each.setting.batch_size == batch_size]
    present = next((each for each in own if each.setting.limit_mw == limit_mw), None)
    if present is None and not limit_mw:
        # Without a limit of its own it runs under the one that was found, as the first window did.
        present = next((each for each in own if each.setting.limit_mw == windows[0].setting.limit_mw), None)
    return [present, *(each for each in windows if each is not present)] if present else []


def _workers(job: TrainJob, wish: JobWish, sources: Sources) -> Advice:
    pace = earlier_pace(sources.storage, job.name)
    seen = [WorkerPace(each.world, each.step_s, each.power_w) for each in pace.worlds] if pace else []
    known_from = f"run {pace.run}" if pace else ""
    return advise_workers((job.workers.min, job.workers.max), seen, wish.most_slower, known_from)


def _precision(job: TrainJob) -> Advice:
    todo = (
        "no run of another precision is on record: tune the job once with `precision: bfloat16` and once with "
        "`float32`, and compare the joules a sample; what it does to the target only a run shows"
    )
    return unknown("precision", job.precision, todo, of=RUN)


def _look(job: TrainJob, wish: JobWish, sources: Sources) -> tuple[Look | None, str]:
    """The plan within the slack that there is, or why there is none."""
    given = job.start.model_dump(exclude_defaults=True) if job.start else {}
    if wish.slack_hours is not None:
        given = {key: value for key, value in given.items() if key != "deadline"} | {"slack_hours": wish.slack_hours}
    if not given:
        return None, "say how much later it may be over: --slack-hours 24"
    start = Start.model_validate(given | ({"hours": wish.hours} if wish.hours else {}))
    planned = job.model_copy(update={"start": start})
    try:
        planner = Planner.open(planned, sources.storage, _UNSUBMITTED, sources.grid, sources.now_s, sources.pue)
        return planner.look(sources.now_s), ""
    except InvalidInput as error:
        return None, str(error)


def _hour(job: TrainJob, wish: JobWish, look: Look | None, refusal: str) -> Advice:
    now = "by its part start" if job.start else "at once"
    if not wish.carbon:
        return settled("hour", now, "it changes carbon, not energy: --for carbon", of=RUN, basis="modelled")
    if look is None:
        return unknown("hour", now, refusal, of=RUN)
    error = "" if look.inputs.error is None else f", {look.inputs.error:.1%} off on the first day ahead"
    known_from = f"forecast: {look.inputs.model}{error}; {look.inputs.source}, weakest figure {look.inputs.grade}"
    change: dict[str, JsonValue] = {}
    if job.start is None and wish.slack_hours is not None:
        start: dict[str, JsonValue] = {"slack_hours": wish.slack_hours}
        change = {"start": start | ({"hours": wish.hours} if wish.hours else {})}
    return advise_hour(look.plan, now, change, known_from, power_known=look.inputs.power_w is not None)


def _zone(job: TrainJob, wish: JobWish, sources: Sources, look: Look | None, refusal: str) -> Advice:
    if not wish.carbon:
        return settled("zone", wish.zones.home, "it changes carbon, not energy: --for carbon", of=RUN, basis="modelled")
    if look is None:
        return advise_place(None, wish.zones, sources.clock, refusal)
    rate = Rate(speed=1.0, power_w=look.known.power_w)
    run = Run({1: rate}, max(look.inputs.hours_left, 1e-6), look.inputs.deadline_s)
    advice = advise_place(run, wish.zones, sources.clock)
    if not advice.moves or job.place is not None:
        return advice
    # The run itself chooses among them, by what is known and free when it begins.
    zones = list(dict.fromkeys([advice.now, *(find_zone(zone).id for zone in wish.zones.zones)]))
    place: dict[str, JsonValue] = {"zones": list(zones), "home": advice.now}
    return advice.model_copy(
        update={"change": {"place": place | ({"data_gb": wish.zones.moved_gb} if wish.zones.moved_gb else {})}}
    )


def written(changes: Sequence[Advice]) -> Mapping[str, JsonValue]:
    """All fields that the advices change. Raises InvalidInput where two would set one field otherwise."""
    fields: dict[str, JsonValue] = {}
    for each in changes:
        for name, value in each.change.items():
            if fields.setdefault(name, value) != value:
                raise InvalidInput(f"{name} would be {fields[name]} and, by {each.setting}, {value}: name one of them")
    return fields
