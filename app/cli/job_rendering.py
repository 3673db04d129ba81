"""Jobs by worker and by epoch as tables, below a report by job.

Pure: a report comes in, grids go out. Long lists are shown by their ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from app.cli.grid import Grid, columns
from app.engine.views import JobDetail, JobShare, Report
from app.units import NS_PER_S, joules

_JOBS, _LINES = 10, 20
_SKIPPED = "..."


def job_grids(report: Report) -> tuple[Grid, ...]:
    """By worker and, where it has any, by epoch, of each of the jobs with the most energy."""
    grids = [grid for job in report.jobs[:_JOBS] for grid in _grids(job, _beyond(job, report))]
    left = len(report.jobs) - _JOBS
    if left > 0:
        note = f"{left} more with workers or epochs: --format json or parts has all"
        grids[-1] = replace(grids[-1], notes=(*grids[-1].notes, note))
    return tuple(grids)


def _beyond(job: JobDetail, report: Report) -> tuple[str, ...]:
    """A sentence on what the attempt was charged beside slices; of a period that is not known."""
    labels = {"job": job.job, "attempt": str(job.attempt)}
    charged_uj = sum(row.energy_uj for row in report.rows if labels.items() <= row.group.items())
    if report.since_s is not None or charged_uj <= job.energy_uj:
        return ()
    return (f"{joules(charged_uj - job.energy_uj):.3f} J more for its workers' time between slices: starting, waiting",)


def _grids(job: JobDetail, notes: tuple[str, ...]) -> Iterator[Grid]:
    name = f"{job.job}, attempt {job.attempt}"
    has_epochs = any(share.epoch for share in job.by_epoch)
    yield _grid(f"{name}: by worker", "worker", job, job.by_worker, () if has_epochs else notes)
    if has_epochs:
        yield _grid(f"{name}: by epoch", "epoch", job, job.by_epoch, notes)


def _grid(title: str, what: str, job: JobDetail, shares: Sequence[JobShare], notes: tuple[str, ...] = ()) -> Grid:
    rows = [_row(share, job.energy_uj) for share in shares]
    if len(rows) > _LINES:
        half = _LINES // 2
        rows[half:-half] = [(_SKIPPED, "", "", "")]
    time_ns = sum(share.time_ns for share in shares)
    total = ("total", *_figures(job.energy_uj, time_ns), "100.0 %" if job.energy_uj else "")
    return Grid(title, columns(what, ">energy J", ">time s", ">share"), tuple(rows), total, notes)


def _row(share: JobShare, whole_uj: int) -> tuple[str, ...]:
    percent = f"{100 * share.energy_uj / whole_uj:.1f} %" if whole_uj else ""
    return (_name(share), *_figures(share.energy_uj, share.time_ns), percent)


def _name(share: JobShare) -> str:
    """Of a share of one worker or of one epoch."""
    if share.epoch is None:
        return "no rank" if share.worker == -1 else str(share.worker)
    return str(share.epoch) if share.epoch else "outside"


def _figures(energy_uj: int, time_ns: int) -> tuple[str, str]:
    return f"{joules(energy_uj):.3f}", f"{time_ns / NS_PER_S:.1f}"
