"""One optimiser step: passes and shares change nothing, places in the run decide what is drawn."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from app.training.fabric import SoloFabric
from app.training.job import TrainJob
from app.training.optimiser import build_optimiser
from app.training.rows_task import RowsTask
from app.training.step import Stepper
from app.training.strategy import Divided, divide
from app.training.task import open_task
from tests.unit.training.test_worker_loop import job


class OneOf:
    """A group of `world`, whose members are tried one after the other."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world, self.device = rank, world, torch.device("cpu")

    def gather(self, value: Any) -> list[Any]:
        raise AssertionError("a step asks nobody")


def gradients(training: TrainJob, rows: np.ndarray, rank: int = 0, world: int = 1) -> list[torch.Tensor]:
    """Of one member, as it has them before the group averages."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = _Double(training, training.model, OneOf(0, 1))  # type: ignore[arg-type]
    module = task.build().double()
    divided = Divided(module, module, OneOf(rank, world), mixed=False)
    before: list[torch.Tensor] = []
    optimiser = build_optimiser(training.optimiser, module)
    optimiser.register_step_pre_hook(lambda *_: before.extend(each.grad.clone() for each in module.parameters()))  # type: ignore[union-attr]
    Stepper(training, task, divided, optimiser).step(rows, 0, 0)
    return before


class _Double(RowsTask):
    """In double precision, so that what is equal is so to many digits."""

    def _tensors(self, x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        values, labels = super()._tensors(x, y)
        return values.double(), labels


ROWS = np.arange(50)


@pytest.mark.parametrize("accumulation", [3, 7, 50])
def test_passes_add_up_to_the_gradient_of_all_rows_at_once(accumulation: int) -> None:
    whole = gradients(job(batch_size=50), ROWS)
    parts = gradients(job(batch_size=50, accumulation=accumulation), ROWS)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_average_of_unequal_shares_is_the_gradient_of_all_rows(world: int) -> None:
    whole = gradients(job(batch_size=50), ROWS)
    shares = [gradients(job(batch_size=50), ROWS, rank, world) for rank in range(world)]
    for one, *others in zip(whole, *shares, strict=True):
        torch.testing.assert_close(one, sum(others) / world, rtol=1e-10, atol=1e-12)


def test_workers_with_nothing_left_make_as_many_passes_as_the_others() -> None:
    # 5 rows for 4 workers, one row a pass: the first worker makes two passes, so all do.
    calls: list[int] = []

    class Counting(_Double):
        def loss(self, module: nn.Module, rows: np.ndarray) -> torch.Tensor:
            calls.append(len(rows))
            return super().loss(module, rows)

    training = job(batch_size=4, accumulation=4)
    task = Counting(training, training.model, OneOf(3, 4))  # type: ignore[arg-type]
    module = task.build().double()
    stepper = Stepper(
        training, task, Divided(module, module, OneOf(3, 4), mixed=False), build_optimiser(training.optimiser, module)
    )
    stepper.step(np.arange(5), 0, 0)
    assert calls == [1, 1]


def test_what_is_drawn_depends_on_the_place_in_the_run_alone() -> None:
    torch.set_num_threads(1)
    training = job(model={"architecture": "cnn", "channels": [4], "hidden": 8, "dropout": 0.5, "input_scale": 16})

    def loss_of(epoch: int, step: int) -> float:
        torch.manual_seed(0)
        task = RowsTask(training, training.model, OneOf(0, 1))  # type: ignore[arg-type]
        module = task.build()
        stepper = Stepper(
            training,
            task,
            Divided(module, module, OneOf(0, 1), mixed=False),
            build_optimiser(training.optimiser, module),
        )
        torch.rand(epoch + 7)  # whatever was drawn before
        return float(stepper.step(ROWS, epoch, step))

    assert loss_of(1, 3) == loss_of(1, 3)
    assert loss_of(1, 3) != loss_of(1, 4)


def test_float16_scales_its_loss_and_still_learns(tmp_path: Any) -> None:
    torch.set_num_threads(1)
    training = job(precision="float16", optimiser={"name": "sgd", "lr": 0.1, "momentum": 0.9, "clip_norm": 1.0})
    fabric = SoloFabric(tmp_path)
    task = open_task(training, fabric, None)
    divided = divide(training, task.build(), fabric)
    stepper = Stepper(training, task, divided, build_optimiser(training.optimiser, divided.plain))
    assert stepper.scaler is not None
    losses = [float(stepper.step(rows, 0, step)) for step, rows in enumerate(task.batches(0))]
    assert losses[-1] < losses[0] - 0.3
    assert stepper.scaler.get_scale() > 1
