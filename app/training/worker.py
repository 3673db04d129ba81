"""The training loop of one worker: epochs of optimiser steps, each a slice on the books.

Written against a Fabric, so that it runs under Ray Train and alone. Knows nothing of clusters or the model
repository. Energy is told beside the work and never steers or stops it.

    TorchTrainer(train_worker, train_loop_config={"job": job.model_dump(mode="json"), "run": run}, ...)
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from app.domain.account import job_account
from app.models.architectures import build
from app.training import checkpoint
from app.training.fabric import Fabric, RayFabric
from app.training.job import TrainJob
from app.training.optimiser import build_optimiser, set_rate
from app.training.phases import Phase, Phases, Usage, merge
from app.training.progress import EpochFigures, first_line, line
from app.training.task import RowNumbers, Task, open_task


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What every worker of a TorchTrainer runs. `config`: `job` as plain values, `run`, the job's name in the books."""
    from app.metering.client import WorkClient
    from app.metering.devices import visible_accelerators

    job, run, fabric = TrainJob.model_validate(config["job"]), str(config["run"]), RayFabric()
    attempt = fabric.next_attempt()
    account = job_account(job.tenant, run, attempt, job.kind)
    client = WorkClient.open(account, devices=visible_accelerators(), worker=fabric.rank)
    phases = Phases(client, account)
    try:
        return train(job, fabric, phases, attempt=attempt, tell=_print)
    finally:
        phases.close()
        client.close()


def _print(text: str) -> None:
    # Ray Train replaces print() in workers by one that writes every line twice.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(slots=True)
class _Training:
    """What one worker holds while it trains."""

    job: TrainJob
    fabric: Fabric
    phases: Phases
    task: Task
    bare: nn.Module
    """The module whose weights are saved."""
    module: nn.Module
    """The same, its gradients averaged over the group."""
    optimiser: Optimizer


def train(
    job: TrainJob, fabric: Fabric, phases: Phases, *, attempt: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Train to the last epoch, from the latest checkpoint if there is one; returns metrics and energy by phase."""
    phases.enter("setup")
    with fabric.checkpoint() as directory:
        training = _set_up(job, fabric, phases, directory)
        done = checkpoint.restore(directory, training.bare, training.optimiser, fabric.device)
    if fabric.rank == 0:
        tell(first_line(job, attempt, done))
    metrics: dict[str, float] = {} if done < job.epochs else _evaluate(training, whole=True)
    for epoch in range(done, job.epochs):
        figures = _epoch(training, epoch)
        metrics = dict(figures.metrics)
        if fabric.rank == 0:
            tell(line(figures, job.epochs))
    usage = _plain(merge(fabric.gather(phases.usage())))
    return {"metrics": metrics, "attempt": attempt, "resumed_after": done, "usage": usage}


def _set_up(job: TrainJob, fabric: Fabric, phases: Phases, directory: Path | None) -> _Training:
    task = open_task(job, fabric, directory)
    torch.manual_seed(job.seed)
    bare = build(job.model).to(fabric.device)
    optimiser = build_optimiser(job.optimiser, bare)
    return _Training(job, fabric, phases, task, bare, fabric.prepare(bare), optimiser)


def _epoch(training: _Training, epoch: int) -> EpochFigures:
    """One epoch: steps, evaluation, checkpoint when due."""
    job, fabric, phases = training.job, training.fabric, training.phases
    started = time.monotonic()
    torch.manual_seed(job.seed + 1_000_003 * (epoch + 1) + fabric.rank)
    steps = [_step(training, rows, epoch, step) for step, rows in enumerate(training.task.batches(epoch))]
    _finish_queued(fabric.device)
    phases.enter("evaluate", epoch=epoch + 1)
    metrics = _evaluate(training, whole=epoch + 1 == job.epochs)
    phases.enter("checkpoint", epoch=epoch + 1)
    due = (epoch + 1) % job.checkpoint_epochs == 0 or epoch + 1 == job.epochs
    _report(training, {"epoch": epoch + 1, **metrics}, epoch + 1 if due else None)
    phases.enter("progress")
    shares = fabric.gather((phases.usage_since_last(), len(steps), sum(steps)))
    return EpochFigures(
        epoch=epoch + 1,
        metrics=metrics,
        seconds=time.monotonic() - started,
        steps=shares[0][1],
        samples=sum(share[2] for share in shares),
        usage=merge(share[0] for share in shares),
    )


def _step(training: _Training, rows: RowNumbers, epoch: int, step: int) -> int:
    """One optimiser step on `rows`, one slice weighing its samples; returns the samples."""
    job, optimiser = training.job, training.optimiser
    training.phases.enter("step", weight=float(len(rows)), epoch=epoch + 1)
    training.module.train()
    set_rate(optimiser, job.optimiser, epoch, job.epochs, epoch * training.task.epoch_steps + step)
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(training.fabric.device.type, torch.bfloat16, enabled=job.precision == "bfloat16"):
        loss = training.task.loss(training.module, rows)
    loss.backward()
    if job.optimiser.clip_norm:
        nn.utils.clip_grad_norm_(training.bare.parameters(), job.optimiser.clip_norm)
    optimiser.step()
    return len(rows)


def _finish_queued(device: torch.device) -> None:
    """Wait for what a step left queued on a GPU: it would run, and be charged, in the phase that follows."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _evaluate(training: _Training, *, whole: bool) -> dict[str, float]:
    """Metrics on what is held out, of which every worker takes its part."""
    training.bare.eval()
    with torch.inference_mode():
        return training.task.evaluate(training.bare, whole=whole)


def _report(training: _Training, metrics: dict[str, Any], epochs_done: int | None) -> None:
    """Report metrics, with a checkpoint from rank 0 unless `epochs_done` is None."""
    if epochs_done is None or training.fabric.rank != 0:
        training.fabric.report(metrics, None)
        return
    with tempfile.TemporaryDirectory(prefix="joulekeeper-checkpoint-") as directory:
        checkpoint.save(Path(directory), training.bare, training.optimiser, epochs_done, training.task.files)
        training.fabric.report(metrics, Path(directory))


def _plain(usage: dict[Phase, Usage]) -> dict[str, dict[str, Any]]:
    """Usage as plain values, for the driver."""
    return {
        phase: {"energy_uj": part.energy_uj, "carbon_ugco2e": part.carbon_ugco2e, "grade": part.grade}
        for phase, part in usage.items()
    }
