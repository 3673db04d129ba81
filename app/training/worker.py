"""The training loop of one worker: epochs of steps, each a slice on the books, up to the last or a reason to end.

Written against a Fabric, so that it runs under Ray Train and alone. Knows nothing of clusters or the model
repository. Energy is told beside the work and never steers or stops it, unless the job has a budget.

    outcome = train(job, fabric, phases, attempt=1, tell=print)
    outcome["metrics"], outcome["stopped"]
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.training import checkpoint
from app.training.fabric import Fabric
from app.training.history import History
from app.training.job import TrainJob
from app.training.optimiser import build_optimiser
from app.training.phases import Phase, Phases, Usage, merge
from app.training.position import Position, Spent
from app.training.progress import EpochFigures, first_line
from app.training.state import TrainState
from app.training.step import Stepper
from app.training.stops import Asked, Spending, Stops
from app.training.strategy import Divided, copies, divide
from app.training.task import Task, open_task
from app.training.telling import Telling, Voice
from app.training.waiting import StepWatch, worker_figures


@dataclass(slots=True)
class Training:
    """What one worker holds while it trains."""

    job: TrainJob
    fabric: Fabric
    phases: Phases
    task: Task
    divided: Divided
    stepper: Stepper
    state: TrainState
    spending: Spending
    stops: Stops
    telling: Telling


def train(
    job: TrainJob,
    fabric: Fabric,
    phases: Phases,
    *,
    attempt: int,
    tell: Callable[[str], None],
    booked: Callable[[], Spent | None] = lambda: None,
    speak: Callable[[int, Position], Voice] | None = None,
) -> dict[str, Any]:
    """Train to the last epoch or a reason to end, from the latest checkpoint if there is one.

    Returns metrics, energy by phase, how far it came, and why it stopped short: empty where nothing is left to do.
    `booked` says what the ledger charged to the run lately; `speak` gives the first worker its voice, from the steps of
    an epoch and how far the run is; without it `tell` is all there is.
    """
    phases.enter("setup")
    with fabric.checkpoint() as directory:
        task = open_task(job, copies(job, fabric), directory)
        training = assemble(job, fabric, phases, task, directory=directory, booked=booked, attempt=attempt)
    begun = training.state.position
    if fabric.rank == 0:
        training.telling.voice = speak(training.task.epoch_steps, begun) if speak else Voice(tell)
        tell(first_line(job, fabric.world, attempt, begun))
    stopped = _epochs(training) if begun.epoch < job.epochs else _measure_again(training)
    position = training.state.position
    if stopped and fabric.rank == 0:
        tell(f"{job.name}: ends after {position.epoch} epochs and {position.step} steps: {stopped}")
    training.telling.close(finished=not stopped or _target_stops(training))
    return {
        "metrics": training.state.metrics,
        "attempt": attempt,
        "resumed_after": begun.epoch,
        "stopped": "" if _target_stops(training) else stopped,
        "position": {"epoch": position.epoch, "step": position.step},
        "data": training.task.card.model_dump(mode="json"),
        "history": training.telling.history.to_json(),
        "usage": _plain(merge(fabric.gather(phases.usage()))),
    }


def assemble(
    job: TrainJob,
    fabric: Fabric,
    phases: Phases,
    task: Task,
    *,
    directory: Path | None = None,
    booked: Callable[[], Spent | None] = lambda: None,
    attempt: int = 1,
) -> Training:
    """Everything that trains `task`, as the checkpoint in `directory` left it. All workers must call it."""
    torch.manual_seed(job.seed)
    divided = divide(job, task.build(), fabric)
    optimiser = build_optimiser(job.optimiser, divided.plain)
    watch = StepWatch(fabric.device)
    stepper = Stepper(job, task, divided, optimiser, before_backward=watch.of_loss)
    state = TrainState(divided.plain, optimiser, stepper.scaler)
    checkpoint.restore(directory, state, fabric)
    fabric.follow(state, task.epoch_steps)
    spending = Spending(job.budget, phases, state.spent, booked)
    telling = Telling(phases, watch, History.read(directory), attempt=attempt, epochs=job.epochs)
    return Training(job, fabric, phases, task, divided, stepper, state, spending, Stops(fabric, spending), telling)


def _epochs(training: Training) -> str:
    """Epochs until the last is done or there is a reason to end, which is returned, a checkpoint left."""
    job = training.job
    for epoch in range(training.state.position.epoch, job.epochs):
        started = time.monotonic()
        first, (samples, reason) = training.state.position.step, run_steps(training, epoch)
        if reason:
            _close_early(training, epoch)
            return reason
        _end_epoch(training, epoch, started, first, samples)
        if epoch + 1 < job.epochs and _target_stops(training):
            return f"the target {job.target} is reached"
    return ""


def run_steps(training: Training, epoch: int) -> tuple[int, str]:
    """The steps of an epoch that are left; returns the rows of all workers, and why the run must end, or empty."""
    job, state, stepper, samples = training.job, training.state, training.stepper, 0
    training.divided.trained.train()
    for step, rows in enumerate(training.task.batches(epoch, state.position.step), state.position.step):
        mine = len(stepper.share(rows))
        training.phases.enter("step", weight=float(mine), epoch=epoch + 1)
        training.telling.step_begins()
        stepper.step(rows, epoch, step)
        training.telling.step_ended(epoch + 1, step + 1, mine)
        state.position, samples = Position(epoch, step + 1), samples + len(rows)
        asked = training.stops.look()
        if asked.stop:
            return samples, asked.stop
        if step + 1 < training.task.epoch_steps and _save_due(job, asked, step + 1):
            _finish_queued(training.fabric.device)
            training.phases.enter("checkpoint", epoch=epoch + 1)
            _report(training, save=True)
            training.telling.interrupted()
    _finish_queued(training.fabric.device)
    training.telling.steps_ended()
    return samples, ""


def _save_due(job: TrainJob, asked: Asked, steps_done: int) -> bool:
    return bool(asked.save) or bool(job.checkpoint_steps and steps_done % job.checkpoint_steps == 0)


def _end_epoch(training: Training, epoch: int, started: float, first_step: int, samples: int) -> None:
    """Evaluation of an epoch, its figures told, and a checkpoint, which keeps them, when it is due."""
    job, state, begun = training.job, training.state, time.monotonic()
    training.phases.enter("evaluate", epoch=epoch + 1)
    last = epoch + 1 == job.epochs
    state.metrics = _evaluate(training, whole=last or bool(job.target and job.target.stop))
    state.position = Position(epoch + 1)
    training.phases.enter("progress")
    training.telling.epoch_ended(_figures(training, epoch, time.monotonic() - started, first_step, samples))
    training.phases.enter("checkpoint", epoch=epoch + 1)
    save = last or _target_stops(training) or (epoch + 1) % job.checkpoint_epochs == 0
    _report(training, save=save)
    training.spending.closed(time.monotonic() - begun, saved=save)


def _target_stops(training: Training) -> bool:
    """Whether the job ends with the epoch that reached its target, and the last one did."""
    target, metrics = training.job.target, training.state.metrics
    return target is not None and target.stop and bool(metrics) and target.reached(metrics)


def _close_early(training: Training, epoch: int) -> None:
    """Leave a checkpoint where the run stands; measured first where it is known what that costs."""
    _finish_queued(training.fabric.device)
    state = training.state
    if training.spending.closing_s and training.spending.budget:
        training.phases.enter("evaluate", epoch=epoch + 1)
        state.metrics = _evaluate(training, whole=True)
    else:
        state.metrics = {}
    training.phases.enter("checkpoint", epoch=epoch + 1)
    _report(training, save=True)


def _measure_again(training: Training) -> str:
    """Of a run that was finished already."""
    training.state.metrics = _evaluate(training, whole=True)
    return ""


def _figures(training: Training, epoch: int, seconds: float, first_step: int, samples: int) -> EpochFigures:
    shares = training.fabric.gather(training.telling.share())
    return EpochFigures(
        epoch=epoch + 1,
        metrics=dict(training.state.metrics),
        seconds=seconds,
        steps=training.task.epoch_steps - first_step,
        samples=samples,
        usage=merge(usage for usage, _ in shares),
        workers=worker_figures(shares),
    )


def _finish_queued(device: torch.device) -> None:
    """Wait for what a step left queued on a GPU: it would run, and be charged, in the phase that follows."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _evaluate(training: Training, *, whole: bool) -> dict[str, float]:
    """Metrics on what is held out, of which every worker takes its part."""
    training.divided.plain.eval()
    # Not inference_mode: shards that were gathered in it could not be trained with afterwards.
    with torch.no_grad():
        return training.task.evaluate(training.divided.plain, whole=whole)


def _report(training: Training, *, save: bool) -> None:
    """Report how far the run came, with a checkpoint if asked."""
    state, fabric = training.state, training.fabric
    metrics = {"epoch": state.position.epoch, "step": state.position.step, **state.metrics}
    if not save:
        fabric.report(metrics, None)
        return
    state.spent = training.spending.total
    with tempfile.TemporaryDirectory(prefix="joulekeeper-checkpoint-") as directory:
        checkpoint.save(Path(directory), state, {**training.task.files, **training.telling.files}, fabric)
        fabric.report(metrics, Path(directory))
    fabric.notices.saved()


def _plain(usage: dict[Phase, Usage]) -> dict[str, dict[str, Any]]:
    """Usage as plain values, for the driver."""
    return {
        phase: {"energy_uj": part.energy_uj, "carbon_ugco2e": part.carbon_ugco2e, "grade": part.grade}
        for phase, part in usage.items()
    }
