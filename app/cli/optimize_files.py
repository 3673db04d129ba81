"""A job file's settings found out, written and put back; on Kubernetes the size of its worker group with it.

Advice is made in optimize_job.py, records are kept in applied.py. Knows nothing of Ray.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.applied import PER_UNIT, expected, keep_applied, keep_outcome, keep_undone, last_applied
from app.cli.job_file import changed, difference
from app.cli.optimize_job import JobWish, Sources, advise_job, epoch_j, last_report, written
from app.cli.optimize_wish import OptimizeView, Wish, chosen_of
from app.cli.zone_advice import ZoneWish
from app.clock import SystemClock
from app.domain.decision import Fact
from app.errors import InvalidInput, NotFound
from app.policy.advice import RUN
from app.policy.worker_groups import Wish as GroupWish
from app.training.job import load_job, parse_job
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.engine.job_report import JobReport
    from app.training.job import TrainJob
    from app.training.kuberay import KubeRay


def optimize_job(path: Path, wish: Wish) -> OptimizeView:
    """Advice on the job in a file, written there where that is wished for. Raises JoulekeeperError."""
    from app.config import settings
    from app.engine.decision_files import directory_of
    from app.training.live_grid import live_grid

    job, text, clock = load_job(path), path.read_text(encoding="utf-8"), SystemClock()
    zones = ZoneWish(settings().zone, wish.zones, wish.moved_gb)
    job_wish = JobWish(wish.slower, wish.slack_hours, wish.hours, wish.least == "carbon", zones)
    directory = directory_of(settings().state_dir, job.name)
    with live_grid(clock) as grid:
        now_s = clock.wall_ns() / NS_PER_S
        storage = wish.storage or job.storage or str(settings().state_dir / "jobs")
        sources = Sources(settings().state_dir, storage, grid, now_s, settings().pue, clock)
        advices = advise_job(job, job_wish, sources)
    report, last, outcome = last_report(job, sources), last_applied(directory), None
    if report and last and report.started_s > last.choice.at_s:
        outcome = keep_outcome(directory, last, now_s, epoch_j(report), "an epoch")
    chosen = chosen_of(advices, wish.only)
    new = changed(text, written(chosen)) if chosen else text
    number = None
    if wish.apply and chosen:
        before, after = _write(path, text, new, wish)
        number = keep_applied(directory, job.name, now_s, chosen, before, after, {RUN: 1.0}, _facts(report))
    return OptimizeView(
        subject=job.name,
        advice=tuple(advices),
        applied=number,
        expected=expected(chosen, {RUN: 1.0}) if chosen else None,
        outcome=outcome,
        difference=difference(text, new, path.name),
    )


def _write(path: Path, text: str, new: str, wish: Wish) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the file and size the worker group; what was and what is, for the record. Raises JoulekeeperError."""
    job = parse_job(_read(new), str(path))  # never write a file that is no job
    before: dict[str, Any] = {"path": str(path.resolve()), "text": text}
    after: dict[str, Any] = {"path": str(path.resolve()), "text": new}
    if wish.raycluster:
        before["worker_group"], after["worker_group"] = _sized(wish, job)
    path.write_text(new, encoding="utf-8")
    return before, after


def _facts(report: "JobReport | None") -> list[Fact]:
    """By which what came of a change is told."""
    if report is None:
        return []
    return [Fact(name=PER_UNIT, value=epoch_j(report), unit="J", source=f"run {report.run}, an epoch")]


def undo_job(path: Path) -> str:
    """Write the file as it was before the last change, and size its worker group so; a sentence on it.

    Raises NotFound where nothing was applied, InvalidInput where the file was changed since.
    """
    from app.config import settings
    from app.engine.decision_files import directory_of

    job = load_job(path)
    directory = directory_of(settings().state_dir, job.name)
    last = last_applied(directory)
    if last is None:
        raise NotFound(f"nothing that was applied to job {job.name!r} is left to be taken back")
    before, after = last.choice.before, last.choice.after
    if after.get("path") != str(path.resolve()) or after.get("text") != path.read_text(encoding="utf-8"):
        raise InvalidInput(
            f"{path} is not what record {last.number} wrote to {after.get('path')}: it was changed since; nothing is "
            "taken back, the record has the text as it was"
        )
    if isinstance(group := before.get("worker_group"), dict):
        _resize(group)
    path.write_text(str(before["text"]), encoding="utf-8")
    keep_undone(directory, last, SystemClock().wall_ns() / NS_PER_S)
    return f"{path} is as it was before record {last.number}: {last.choice.chosen} is taken back"


def open_kuberay() -> "KubeRay":
    """The Kubernetes API of this pod; tests put a server of their own in its place."""
    from app.training.kuberay import KubeRay

    return KubeRay.in_cluster()


def _sized(wish: Wish, job: "TrainJob") -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the worker group as large as the job is at most; what it was and what it is."""
    wanted = GroupWish.of_workers(job.workers.max, wish.per_replica)
    with open_kuberay() as kuberay:
        was = kuberay.size(wish.raycluster, {wish.group: wanted})[wish.group]
    return _group(wish, was), _group(wish, wanted)


def _group(wish: Wish, size: GroupWish) -> dict[str, Any]:
    sizes = {"replicas": size.replicas, "least": size.least, "most": size.most}
    return {"raycluster": wish.raycluster, "group": wish.group, **sizes}


def _resize(group: dict[str, Any]) -> None:
    size = GroupWish(group["replicas"], group["least"], group["most"])
    with open_kuberay() as kuberay:
        kuberay.size(group["raycluster"], {group["group"]: size})


def _read(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)
