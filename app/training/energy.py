"""The energy of a run: from the ledger if it knows the run, else from what the workers' slices say.

Knows nothing of Ray; the books are an argument.
"""

from collections import defaultdict
from typing import Any, Protocol

from app.engine.views import HourEnergy, Report, ReportKey, ReportRow
from app.errors import JoulekeeperError
from app.models.card import EnergyCard
from app.training.pace import AttemptEnergy


class Books(Protocol):
    """What is asked of the accountant."""

    def report(self, by: ReportKey) -> Report:
        """Energy since the books began. Raises JoulekeeperError."""

    def job_hours(self, job: str) -> tuple[HourEnergy, ...]:
        """What all attempts of a job were charged, by time. Raises JoulekeeperError."""


def job_energy(books: Books | None, run: str, usage: dict[str, dict[str, Any]]) -> tuple[EnergyCard, dict[int, int]]:
    """The energy of `run`, and of each attempt where the ledger knows the run; else from the workers' slices.

    `usage` is by phase what the workers of the last attempt saw: energy_uj, carbon_ugco2e and grade.
    """
    by_phase = {phase: part["energy_uj"] for phase, part in usage.items()}
    rows = _ledger_rows(books, run)
    if not rows:
        return _from_slices(usage, by_phase), {}
    attempts = _by_attempt(rows)
    energy = EnergyCard(
        energy_uj=sum(attempts.values()),
        carbon_ugco2e=sum(row.carbon_ugco2e for row in rows),
        grade=_joined({grade for row in rows for grade, part in row.by_grade_uj.items() if part}),
        source="ledger",
        by_phase_uj=by_phase,
    )
    return energy, attempts


def energy_by_epoch(books: Books | None, run: str) -> dict[int, dict[int, int]]:
    """Microjoules of each attempt at `run` by epoch, from 1; 0: outside epochs. Empty without a ledger."""
    if books is None:
        return {}
    try:
        jobs = books.report(by="job").jobs
    except JoulekeeperError:
        return {}
    return {
        detail.attempt: {share.epoch or 0: share.energy_uj for share in detail.by_epoch}
        for detail in jobs
        if detail.job == run
    }


def attempt_energy(books: Books | None, run: str) -> AttemptEnergy:
    """What the ledger knows of the attempts at `run`, as far as it is settled; nothing without one."""
    spans = tuple((hour.start_s, hour.start_s + hour.width_s, hour.energy_uj) for hour in hours_of(books, run))
    return AttemptEnergy(_by_attempt(_ledger_rows(books, run)), energy_by_epoch(books, run), spans)


def _by_attempt(rows: list[ReportRow]) -> dict[int, int]:
    attempts: dict[int, int] = defaultdict(int)
    for row in rows:
        attempts[int(row.group["attempt"] or 0)] += row.energy_uj
    return dict(attempts)


def hours_of(books: Books | None, run: str) -> tuple[HourEnergy, ...]:
    """What all attempts at `run` were charged, by the buckets of the books; empty without a ledger."""
    if books is None:
        return ()
    try:
        return books.job_hours(run)
    except JoulekeeperError:
        return ()


def _ledger_rows(books: Books | None, run: str) -> list[ReportRow]:
    if books is None:
        return []
    try:
        return [row for row in books.report(by="job").rows if row.group["job"] == run]
    except JoulekeeperError:
        return []


def _from_slices(usage: dict[str, dict[str, Any]], by_phase: dict[str, int]) -> EnergyCard:
    grades = {grade for part in usage.values() for grade in part["grade"].split("+")} - {"none"}
    return EnergyCard(
        energy_uj=sum(by_phase.values()),
        carbon_ugco2e=round(sum(part["carbon_ugco2e"] for part in usage.values())),
        grade=_joined(grades),
        source="slices" if grades else "none",
        by_phase_uj=by_phase,
    )


def _joined(grades: set[str]) -> str:
    return "+".join(sorted(grades)) or "none"
