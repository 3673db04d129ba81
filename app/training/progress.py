"""The lines a training job prints while it runs.

Knows nothing of torch or Ray: figures in, text out. Energy is summed over all workers; a figure whose
readings are not all in says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from app.training.job import TrainJob
from app.training.phases import Phase, Usage
from app.units import format_carbon, format_energy


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """One epoch of all workers."""

    epoch: int
    """From 1."""
    metrics: Mapping[str, float]
    seconds: float
    steps: int
    """Optimiser steps; every worker takes part in each."""
    samples: int
    """Rows learned from, over all workers."""
    usage: Mapping[Phase, Usage]
    """Of the slices that ended since the last line: the epoch, and telling about the one before."""


def first_line(job: TrainJob, attempt: int, epochs_done: int) -> str:
    """What the run starts from."""
    start = f"resumed after epoch {epochs_done}" if epochs_done else "from the beginning"
    workers = f"{job.workers} worker{'s' if job.workers > 1 else ''}"
    return f"{job.name}: attempt {attempt}, {start}, {job.epochs} epochs, {workers}"


def line(figures: EpochFigures, epochs: int) -> str:
    """One epoch in one line: loss, quality, seconds, joules per step, sample and epoch, carbon, grade."""
    quality = "  ".join(f"{name} {value:.4f}" for name, value in figures.metrics.items())
    head = f"epoch {figures.epoch:>{len(str(epochs))}}/{epochs}  {quality}  {figures.seconds:.2f} s"
    return f"{head}  {_energy(figures)}"


def _energy(figures: EpochFigures) -> str:
    total, steps = sum(figures.usage.values(), Usage()), figures.usage.get("step", Usage())
    if not total.known:
        return "energy unknown: no meter has told anything yet"
    certainty = ", provisional" if total.provisional else ""
    missing = "" if total.known == total.slices else f", {total.slices - total.known} slices without a figure"
    return (
        f"{format_energy(round(steps.energy_uj / max(1, figures.steps)))}/step  "
        f"{format_energy(round(steps.energy_uj / max(1, figures.samples)))}/sample  "
        f"{format_energy(total.energy_uj)}/epoch  {format_carbon(round(total.carbon_ugco2e))}  "
        f"({total.grade}{certainty}{missing})"
    )
