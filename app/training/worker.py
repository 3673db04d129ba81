"""The training loop of one worker: epochs of optimiser steps, each a slice on the books.

Written against a Fabric, so that it runs under Ray Train and alone. Knows nothing of clusters or the model
repository. Energy is told beside the work and never steers or stops it.

    TorchTrainer(train_worker, train_loop_config={"job": job.model_dump(mode="json"), "run": run}, ...)
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from app.domain.account import job_account
from app.models.architectures import build
from app.training import checkpoint
from app.training.data import Dataset, load_data
from app.training.fabric import Fabric, RayFabric
from app.training.job import TrainJob
from app.training.phases import Phase, Phases, Usage, merge
from app.training.progress import EpochFigures, first_line, line


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
    data: Dataset
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
    training = _set_up(job, fabric, phases)
    with fabric.checkpoint() as directory:
        done = checkpoint.restore(directory, training.bare, training.optimiser, fabric.device)
    if fabric.rank == 0:
        tell(first_line(job, attempt, done))
    metrics: dict[str, float] = {} if done < job.epochs else _evaluate(training)
    for epoch in range(done, job.epochs):
        figures = _epoch(training, epoch)
        metrics = dict(figures.metrics)
        if fabric.rank == 0:
            tell(line(figures, job.epochs))
    usage = _plain(merge(fabric.gather(phases.usage())))
    return {"metrics": metrics, "attempt": attempt, "resumed_after": done, "usage": usage}


def _set_up(job: TrainJob, fabric: Fabric, phases: Phases) -> _Training:
    data = load_data(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
    torch.manual_seed(job.seed)
    bare = build(job.model).to(fabric.device)
    kinds: dict[str, Any] = {"adam": Adam, "sgd": SGD}
    optimiser = kinds[job.optimiser.name](
        bare.parameters(), lr=job.optimiser.lr, weight_decay=job.optimiser.weight_decay
    )
    return _Training(job, fabric, phases, data, bare, fabric.prepare(bare), optimiser)


def _epoch(training: _Training, epoch: int) -> EpochFigures:
    """One epoch: steps, evaluation, checkpoint when due."""
    job, fabric, phases = training.job, training.fabric, training.phases
    started = time.monotonic()
    torch.manual_seed(job.seed + 1_000_003 * (epoch + 1) + fabric.rank)
    _set_rate(training, epoch)
    steps = [_step(training, rows, epoch) for rows in _batches(training, epoch)]
    _finish_queued(fabric.device)
    phases.enter("evaluate", epoch=epoch + 1)
    metrics = _evaluate(training)
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


def _set_rate(training: _Training, epoch: int) -> None:
    """The learning rate is a function of the epoch, so that a resumed job goes on as if nothing had been."""
    optimiser = training.job.optimiser
    share = (1 + math.cos(math.pi * epoch / training.job.epochs)) / 2 if optimiser.schedule == "cosine" else 1.0
    for group in training.optimiser.param_groups:
        group["lr"] = optimiser.lr * share


def _batches(training: _Training, epoch: int) -> Iterator[np.ndarray]:
    """This worker's rows of the epoch, batch by batch. Every worker gets as many: a few rows are seen twice."""
    fabric, rows = training.fabric, len(training.data.train_x)
    order = np.random.default_rng((training.job.seed, epoch)).permutation(rows)
    padded = np.resize(order, -(-rows // fabric.world) * fabric.world)
    mine = padded[fabric.rank :: fabric.world]
    for start in range(0, len(mine), training.job.batch_size):
        yield mine[start : start + training.job.batch_size]


def _step(training: _Training, rows: np.ndarray, epoch: int) -> int:
    """One optimiser step on `rows`, one slice weighing its samples; returns the samples."""
    training.phases.enter("step", weight=float(len(rows)), epoch=epoch + 1)
    training.module.train()
    x, y = _tensors(training, training.data.train_x[rows], training.data.train_y[rows])
    training.optimiser.zero_grad(set_to_none=True)
    _loss(training.job, training.module(x), y).backward()
    training.optimiser.step()
    return len(rows)


def _finish_queued(device: torch.device) -> None:
    """Wait for what a step left queued on a GPU: it would run, and be charged, in the phase that follows."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _evaluate(training: _Training) -> dict[str, float]:
    """Metrics on the held-out rows, of which every worker takes its part."""
    fabric, data = training.fabric, training.data
    mine = slice(fabric.rank, None, fabric.world)
    training.bare.eval()
    x, y = _tensors(training, data.test_x[mine], data.test_y[mine])
    with torch.inference_mode():
        result = training.bare(x)
        loss = float(_loss(training.job, result, y)) * len(y)
    right = float((result.argmax(1) == y).sum()) if training.job.loss == "cross_entropy" else 0.0
    losses, rights = (sum(values) for values in zip(*fabric.gather((loss, right)), strict=True))
    rows = len(data.test_y)
    if training.job.loss == "cross_entropy":
        return {"loss": losses / rows, "accuracy": rights / rows}
    return {"loss": losses / rows, "r2": 1 - losses / rows / float(data.test_y.var())}


def _loss(job: TrainJob, result: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(result, y) if job.loss == "cross_entropy" else functional.mse_loss(result, y)


def _tensors(training: _Training, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    shaped = np.ascontiguousarray(x).reshape(len(x), *training.job.model.input_shape)
    device = training.fabric.device
    return torch.from_numpy(shaped).to(device), torch.from_numpy(np.ascontiguousarray(y)).to(device)


def _report(training: _Training, metrics: dict[str, Any], epochs_done: int | None) -> None:
    """Report metrics, with a checkpoint from rank 0 unless `epochs_done` is None."""
    if epochs_done is None or training.fabric.rank != 0:
        training.fabric.report(metrics, None)
        return
    with tempfile.TemporaryDirectory(prefix="joulekeeper-checkpoint-") as directory:
        checkpoint.save(Path(directory), training.bare, training.optimiser, epochs_done)
        training.fabric.report(metrics, Path(directory))


def _plain(usage: dict[Phase, Usage]) -> dict[str, dict[str, Any]]:
    """Usage as plain values, for the driver."""
    return {
        phase: {"energy_uj": part.energy_uj, "carbon_ugco2e": part.carbon_ugco2e, "grade": part.grade}
        for phase, part in usage.items()
    }
