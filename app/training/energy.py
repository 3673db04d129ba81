"""The energy of a run: from the ledger if it knows the run, else from what the workers' slices say.

Knows nothing of Ray; the books are an argument.
"""

from collections import defaultdict
from typing import Any, Protocol

from app.engine.views import Report, ReportKey, ReportRow
from app.errors import JoulekeeperError
from app.models.card import EnergyCard


class Books(Protocol):
    """What is asked of the accountant."""

    def report(self, by: ReportKey) -> Report:
        """Energy since the books began. Raises JoulekeeperError."""


def job_energy(books: Books | None, run: str, usage: dict[str, dict[str, Any]]) -> tuple[EnergyCard, dict[int, int]]:
    """The energy of `run`, and of each attempt where the ledger knows the run; else from the workers' slices.

    `usage` is by phase what the workers of the last attempt saw: energy_uj, carbon_ugco2e and grade.
    """
    by_phase = {phase: part["energy_uj"] for phase, part in usage.items()}
    rows = _ledger_rows(books, run)
    if not rows:
        return _from_slices(usage, by_phase), {}
    attempts: dict[int, int] = defaultdict(int)
    for row in rows:
        attempts[int(row.group["attempt"] or 0)] += row.energy_uj
    energy = EnergyCard(
        energy_uj=sum(attempts.values()),
        carbon_ugco2e=sum(row.carbon_ugco2e for row in rows),
        grade=_joined({grade for row in rows for grade, part in row.by_grade_uj.items() if part}),
        source="ledger",
        by_phase_uj=by_phase,
    )
    return energy, dict(attempts)


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
