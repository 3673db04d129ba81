"""The epochs of a run, one row each, kept beside the weights in every checkpoint; and the curve of energy to accuracy.

Knows nothing of Ray or torch. A run that resumes goes on from the rows of its checkpoint, so that epochs whose results
were lost are not in it: their energy is, as the ledger books it by attempt.

    history.add(figures); files = {HISTORY_FILE: history.to_json()}
    points = curve(history.rows, booked, attempts_uj)
    frontier(points, "accuracy", smaller_is_better=False)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from app.training.progress import EpochFigures
from app.training.restarts import EpochEnergy
from app.units import NS_PER_S

HISTORY_FILE = "history.json"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerRow(_Row):
    """One worker in one epoch."""

    energy_uj: int
    step_uj: int
    step_s: float
    waiting_s: float
    """For slower workers."""
    waiting_uj: int


class EpochRow(_Row):
    """One epoch whose result counts."""

    attempt: int
    epoch: int
    """From 1."""
    metrics: dict[str, float]
    seconds: float
    steps: int
    samples: int
    energy_uj: int
    """Of all workers as they knew it when it ended: provisional."""
    carbon_ugco2e: float
    workers: tuple[WorkerRow, ...]
    """By rank."""


_ROWS = TypeAdapter(tuple[EpochRow, ...])


class History:
    """Grows by an epoch at a time."""

    def __init__(self, rows: Sequence[EpochRow] = ()) -> None:
        self.rows = list(rows)

    @classmethod
    def read(cls, checkpoint: Path | None) -> "History":
        """What a checkpoint's directory has of it; empty without one."""
        path = checkpoint / HISTORY_FILE if checkpoint else None
        return cls.of_json(path.read_text(encoding="utf-8")) if path and path.exists() else cls()

    @classmethod
    def of_json(cls, text: str) -> "History":
        """What `to_json` gave."""
        return cls(_ROWS.validate_json(text))

    def to_json(self) -> str:
        """For a checkpoint."""
        return _ROWS.dump_json(tuple(self.rows)).decode()

    def add(self, figures: EpochFigures, attempt: int) -> EpochRow:
        """One more epoch."""
        row = EpochRow(
            attempt=attempt,
            epoch=figures.epoch,
            metrics=dict(figures.metrics),
            seconds=figures.seconds,
            steps=figures.steps,
            samples=figures.samples,
            energy_uj=sum(part.energy_uj for part in figures.usage.values()),
            carbon_ugco2e=sum(part.carbon_ugco2e for part in figures.usage.values()),
            workers=tuple(
                WorkerRow(
                    energy_uj=worker.energy_uj,
                    step_uj=worker.step_uj,
                    step_s=worker.step_ns / NS_PER_S,
                    waiting_s=worker.waiting_ns / NS_PER_S,
                    waiting_uj=worker.waiting_uj,
                )
                for worker in figures.workers
            ),
        )
        self.rows.append(row)
        return row


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What had been spent when an epoch ended, and what was reached with it."""

    epoch: int
    attempt: int
    spent_uj: int
    """By the run so far: earlier attempts whole, lost epochs included, and of its own what came before, setting up
    included."""
    energy_uj: int
    """Of this epoch."""
    metrics: Mapping[str, float]


def curve(
    rows: Sequence[EpochRow], booked: Mapping[int, EpochEnergy], attempts_uj: Mapping[int, int]
) -> list[CurvePoint]:
    """Energy to accuracy, by epoch.

    `booked` has by attempt what the ledger knows of its epochs (0: outside of all), and `attempts_uj` what it charged
    to each; without them it is what the workers saw.
    """
    points: list[CurvePoint] = []
    spent_uj, attempt = 0, 0
    for row in rows:
        if row.attempt != attempt:
            attempt = row.attempt
            earlier = sum(energy_uj for number, energy_uj in attempts_uj.items() if number < attempt)
            spent_uj = max(spent_uj, earlier) + booked.get(attempt, {}).get(0, 0)
        energy_uj = booked.get(attempt, {}).get(row.epoch, row.energy_uj)
        spent_uj += energy_uj
        points.append(CurvePoint(row.epoch, attempt, spent_uj, energy_uj, row.metrics))
    return points


def frontier(points: Sequence[CurvePoint], metric: str, *, smaller_is_better: bool) -> list[CurvePoint]:
    """The points that are better than all before them: what each further joule bought."""
    better: list[CurvePoint] = []
    for point in points:
        value = point.metrics.get(metric)
        if value is None:
            continue
        last = better[-1].metrics[metric] if better else None
        if last is None or (value < last if smaller_is_better else value > last):
            better.append(point)
    return better
