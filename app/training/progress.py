"""The lines a training job prints while it runs.

Knows nothing of torch or Ray: figures in, text out. Energy is summed over all workers; a figure whose
readings are not all in says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.training.job import TrainJob
from app.training.phases import Phase, Usage
from app.training.position import Position
from app.units import NS_PER_S, format_carbon, format_energy

_SHOWN_WORKERS = 8
_STRAGGLING = 0.1
"""Share of its steps that a worker must have waited for another to be named."""
_ONE_SIDED = 3
"""And so many times as long as that other one waited for it."""


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One worker in one epoch."""

    energy_uj: int
    """Of all its slices, as known then."""
    step_uj: int
    """Of these its steps."""
    step_ns: int
    waiting_ns: int
    """For slower workers, within its steps."""
    waiting_uj: int


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
    workers: Sequence[WorkerFigures] = ()
    """By rank; energy as `usage` has it."""


def first_line(job: TrainJob, world: int, attempt: int, begun: Position) -> str:
    """What the run starts from, with `world` workers."""
    within = f", step {begun.step}" if begun.step else ""
    start = f"resumed after epoch {begun.epoch}{within}" if begun != Position() else "from the beginning"
    workers = f"{world} worker{'s' if world > 1 else ''}"
    return f"{job.name}: attempt {attempt}, {start}, {job.epochs} epochs, {workers}"


def line(figures: EpochFigures, epochs: int) -> str:
    """One epoch in one line: loss, quality, seconds, joules per step, sample and epoch, carbon, grade."""
    quality = "  ".join(f"{name} {value:.4f}" for name, value in figures.metrics.items())
    head = f"epoch {figures.epoch:>{len(str(epochs))}}/{epochs}  {quality}  {figures.seconds:.2f} s"
    return f"{head}  {_energy(figures)}"


def worker_lines(figures: EpochFigures) -> list[str]:
    """Energy by worker and what waiting for slower ones took, in one line; none for a worker alone.

    Of many workers those that used most and waited longest stand for all.
    """
    known = [(rank, worker) for rank, worker in enumerate(figures.workers) if worker.step_ns]
    if len(known) < 2:
        return []
    by_waiting = sorted(known, key=lambda pair: pair[1].waiting_ns)
    shown = known if len(known) <= _SHOWN_WORKERS else [by_waiting[0], *by_waiting[1 - _SHOWN_WORKERS :]]
    parts = "; ".join(
        f"{rank}: {format_energy(worker.energy_uj)}, waited {worker.waiting_ns / NS_PER_S:.2f} s"
        f" ({format_energy(worker.waiting_uj)})"
        for rank, worker in shown
    )
    slowest, longest = by_waiting[0][0], by_waiting[-1][1]
    matters = longest.waiting_ns > max(_STRAGGLING * longest.step_ns, _ONE_SIDED * by_waiting[0][1].waiting_ns)
    held_up = f"; held up by worker {slowest}" if matters else ""
    return [f"  by worker: {parts}{held_up}"]


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
