"""What a preparation did and cost.

Knows nothing of Ray or files. Ratios are (before - after) / before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.data.tally import STAGES, Done, Stage
from app.engine.views import Report
from app.models.card import EnergyCard


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage over all its tasks."""

    stage: Stage
    rows: int
    """Records that came out of it."""
    seconds: float
    """Of all tasks together, as their clocks say."""
    energy_uj: int | None
    """Charged to its slices on the ledger; None: no ledger."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A record that was left out."""

    name: str
    why: str
    """`exact` or `near`, or what was wrong with it."""
    kept: str = ""
    """Of a duplicate: the record that stayed for it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One preparation."""

    name: str
    run: str
    where: str
    source_files: int
    source_bytes: int
    read_rows: int
    faulty: int
    exact: int
    near: int
    rows: int
    content_bytes: int
    """Of the records that stayed, unpacked."""
    written_bytes: int
    written_files: int
    seconds: float
    """From the first task to the last file."""
    stages: Sequence[StageRow]
    energy: EnergyCard
    digest: str

    @property
    def ratio(self) -> float:
        """(source - written) / source: what cleaning, de-duplication and zstd saved together; below 0: it grew."""
        return 1 - self.written_bytes / self.source_bytes if self.source_bytes else 0.0

    @property
    def packed_ratio(self) -> float:
        """(content - written) / content: what Parquet and zstd saved alone."""
        return 1 - self.written_bytes / self.content_bytes if self.content_bytes else 0.0

    def plain(self) -> dict[str, Any]:
        """As plain values, ratios included."""
        parts = asdict(self) | {"energy": self.energy.model_dump(mode="json")}
        return parts | {"ratio": self.ratio, "packed_ratio": self.packed_ratio}


def stage_rows(
    done: Mapping[Stage, Done], rows: Mapping[Stage, int], report: Report | None, run: str
) -> list[StageRow]:
    """A row for each stage that did anything; `rows` where tasks cannot know what came out."""
    energy = _energy_by_stage(report, run)
    return [
        StageRow(
            stage,
            rows.get(stage, done[stage].rows),
            done[stage].seconds,
            energy.get(stage, 0) if energy else None,
        )
        for stage in STAGES
        if stage in done
    ]


def energy_card(report: Report | None, run: str) -> EnergyCard:
    """What the ledger charged to the run."""
    rows = [row for row in report.rows if row.group.get("job") == run] if report else []
    grades = {grade for row in rows for grade, part in row.by_grade_uj.items() if part}
    return EnergyCard(
        energy_uj=sum(row.energy_uj for row in rows),
        carbon_ugco2e=sum(row.carbon_ugco2e for row in rows),
        grade="+".join(sorted(grades)) or "none",
        source="ledger" if rows else "none",
        by_phase_uj=dict(_energy_by_stage(report, run)),
    )


def _energy_by_stage(report: Report | None, run: str) -> dict[Stage, int]:
    """The part of a slice is the number of its stage (tally.py)."""
    jobs = [job for job in report.jobs if job.job == run] if report else []
    shares = [share for job in jobs for share in job.by_epoch]
    return {STAGES[share.epoch - 1]: share.energy_uj for share in shares if share.epoch}
