"""Reports of runs: made when a run has ended, kept as `report.json` beside its checkpoints, read again by the command.

Knows nothing of how a run was trained. The formulas are in app/engine/job_report.py.

    report = job_report(facts, energy, rows, booked)
    keep_report(storage, report)
    runs(storage)                                     # every run that was submitted, with its report if it has ended

Raises InvalidInput for a storage that cannot be meant, NotFound for a run that is not there or has no report yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow.fs as pafs
from pydantic import ValidationError

from app.carbon.sci import sci
from app.engine.job_report import (
    CurveRow,
    JobReport,
    WorkerReport,
    compression_ratio,
    scheduling_efficiency,
    utilisation,
)
from app.engine.views import HourEnergy, Report, ReportKey
from app.errors import JoulekeeperError, NotFound
from app.models.card import EnergyCard
from app.training.history import EpochRow, curve
from app.training.restarts import EpochEnergy, RestartCosts
from app.training.run_files import open_storage

REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the driver of a run knows of it."""

    run: str
    job: str
    tenant: str
    kind: str
    finished: bool
    started_s: float
    """Unix seconds of its submission."""
    seconds: float
    attempts: int
    metrics: Mapping[str, float]
    waited_s: float = 0.0
    """Of `seconds`: without workers, by plan."""
    before_bytes: int = 0
    """Of what the job made smaller; 0: it makes nothing smaller."""
    after_bytes: int = 0
    embodied_ugco2e: int = 0


@dataclass(frozen=True, slots=True)
class Booked:
    """What the ledger knows of a run beside its sum; empty without one."""

    attempts_uj: Mapping[int, int] = field(default_factory=dict)
    """Energy by attempt."""
    epochs_uj: Mapping[int, EpochEnergy] = field(default_factory=dict)
    """By attempt and epoch."""
    energy_utilisation: float | None = None
    """Of all nodes over the run's time."""
    restarts: RestartCosts = field(default_factory=RestartCosts)
    hours: tuple[HourEnergy, ...] = ()
    """Its energy by the time at which it was used."""


class Books(Protocol):
    """What is asked of the accountant."""

    def report(self, by: ReportKey, since_s: float | None = None, until_s: float | None = None) -> Report:
        """Energy of a period. Raises JoulekeeperError."""


def energy_utilisation_of(books: Books | None, since_s: float, until_s: float) -> float | None:
    """Energy charged to work over all energy of a period (Unix seconds), on whole minutes; None where none is known."""
    if books is None:
        return None
    try:
        period = books.report("account", since_s, until_s)
    except JoulekeeperError:
        return None
    return period.energy_utilisation if period.energy_uj else None


def job_report(
    facts: RunFacts, energy: EnergyCard, rows: Sequence[EpochRow] = (), booked: Booked | None = None
) -> JobReport:
    """The report of a run from what the driver, its workers and the ledger know of it."""
    booked = booked or Booked()
    carbon, embodied = energy.carbon_ugco2e, facts.embodied_ugco2e
    metered = energy.source != "none"
    return JobReport(
        run=facts.run,
        job=facts.job,
        tenant=facts.tenant,
        kind=facts.kind,
        finished=facts.finished,
        started_s=facts.started_s,
        seconds=facts.seconds,
        attempts=facts.attempts,
        epochs=len(rows),
        energy_uj=energy.energy_uj,
        carbon_ugco2e=carbon,
        grade=energy.grade,
        source=energy.source,
        lost_uj=booked.restarts.lost_uj,
        restart_uj=booked.restarts.setup_uj,
        metrics=dict(facts.metrics),
        utilisation=_utilisation(rows, facts.seconds - facts.waited_s),
        scheduling_efficiency=scheduling_efficiency(int(facts.finished), facts.attempts),
        energy_utilisation=booked.energy_utilisation,
        compression_ratio=compression_ratio(facts.before_bytes, facts.after_bytes) if facts.before_bytes else None,
        embodied_ugco2e=embodied,
        sci_per_epoch_ugco2e=sci(carbon, embodied, len(rows)) if metered else None,
        sci_per_model_ugco2e=sci(carbon, embodied, 1) if metered and facts.finished else None,
        curve=_curve(rows, booked),
        workers=_workers(rows),
        hours=booked.hours,
    )


def _curve(rows: Sequence[EpochRow], booked: Booked) -> tuple[CurveRow, ...]:
    return tuple(
        CurveRow(
            epoch=point.epoch,
            attempt=point.attempt,
            spent_uj=point.spent_uj,
            energy_uj=point.energy_uj,
            metrics=dict(point.metrics),
        )
        for point in curve(rows, booked.epochs_uj, booked.attempts_uj)
    )


def _utilisation(rows: Sequence[EpochRow], seconds: float) -> float | None:
    """Of the workers that the epochs had; with a changing number of them the time of each epoch counts with its own."""
    epochs_s = sum(row.seconds for row in rows)
    if not epochs_s or not any(row.workers for row in rows):
        return None
    used_s = sum(worker.step_s - worker.waiting_s for row in rows for worker in row.workers)
    mean_workers = sum(len(row.workers) * row.seconds for row in rows) / epochs_s
    return utilisation(used_s, mean_workers * max(seconds, epochs_s))


def _workers(rows: Sequence[EpochRow]) -> tuple[WorkerReport, ...]:
    most = max((len(row.workers) for row in rows), default=0)
    found = []
    for rank in range(most):
        own = [row.workers[rank] for row in rows if rank < len(row.workers)]
        found.append(
            WorkerReport(
                worker=rank,
                energy_uj=sum(worker.energy_uj for worker in own),
                step_s=sum(worker.step_s for worker in own),
                waiting_s=sum(worker.waiting_s for worker in own),
                waiting_uj=sum(worker.waiting_uj for worker in own),
            )
        )
    return tuple(found)


# -- where they are kept -------------------------------------------------------------------------------------------


def keep_report(storage: str, report: JobReport) -> None:
    """Leave `report` in the directory of its run."""
    files, path = open_storage(storage)
    files.create_dir(f"{path}/{report.run}", recursive=True)
    with files.open_output_stream(f"{path}/{report.run}/{REPORT_FILE}") as stream:
        stream.write(report.model_dump_json(indent=1).encode())


def runs(storage: str) -> dict[str, JobReport | None]:
    """Every run below `storage` by name, oldest first; None: it was submitted and has left no report."""
    files, path = open_storage(storage)
    infos = files.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    names = sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)
    found = {name: _read(files, f"{path}/{name}/{REPORT_FILE}") for name in names}
    return dict(sorted(found.items(), key=lambda pair: pair[1].started_s if pair[1] else float("inf")))


def read_report(storage: str, run: str) -> JobReport:
    """The report of one run. Raises NotFound."""
    files, path = open_storage(storage)
    report = _read(files, f"{path}/{run}/{REPORT_FILE}")
    if report is None:
        raise NotFound(
            f"run {run!r} has no report below {storage}: it never began, still runs, or was cut off; "
            "`joulekeeper jobs list` names those that are there"
        )
    return report


def _read(files: pafs.FileSystem, path: str) -> JobReport | None:
    if files.get_file_info(path).type != pafs.FileType.File:
        return None
    with files.open_input_stream(path) as stream:
        try:
            return JobReport.model_validate_json(stream.read())
        except ValidationError:
            return None  # cut off while it was written, or of another release
