"""One optimiser step of one worker: its share of the rows, in passes, precision, gradients, the new weights.

Knows nothing of epochs' ends, energy or checkpoints. Whatever the number of workers and passes, the gradient is that of
the mean loss over all rows of the step: every pass counts by its rows. Random numbers (dropout) are drawn from seed,
epoch, step and the copy's rank, so that a step done again draws the same.

    stepper = Stepper(job, task, divided, optimiser)
    samples = stepper.step(rows, epoch=0, step=17)    # `rows` are those of all workers
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from app.training.job import TrainJob
from app.training.optimiser import set_rate
from app.training.strategy import Divided
from app.training.task import RowNumbers, Task

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Stepper:
    """Moves the weights of one worker's copy, in step with the others."""

    def __init__(
        self,
        job: TrainJob,
        task: Task,
        divided: Divided,
        optimiser: Optimizer,
        *,
        before_backward: Callable[[Tensor], None] = lambda loss: None,
    ) -> None:
        """`before_backward` is told every loss that is about to be differentiated."""
        self._job, self._task, self._divided, self._optimiser = job, task, divided, optimiser
        self._before_backward = before_backward
        self._pass_rows = -(-job.batch_size // job.accumulation)
        self._device, self._type = divided.data.device, _TYPES.get(job.precision)
        self.scaler = GradScaler(self._device.type) if job.precision == "float16" else None

    def share(self, rows: RowNumbers) -> RowNumbers:
        """This worker's part of the rows of a step: every `world`th."""
        return rows[self._divided.data.rank :: self._divided.data.world]

    def step(self, rows: RowNumbers, epoch: int, step: int) -> Tensor:
        """Learn from `rows`; returns this worker's mean loss, times its part of the mean over all workers."""
        job, optimiser = self._job, self._optimiser
        _seed(self._device, (job.seed, epoch, step, self._divided.data.rank))
        set_rate(optimiser, job.optimiser, epoch, job.epochs, epoch * self._task.epoch_steps + step)
        optimiser.zero_grad(set_to_none=True)
        loss = self._gradients(rows)
        if self.scaler:
            self.scaler.unscale_(optimiser)
        if job.optimiser.clip_norm:
            self._divided.clip(job.optimiser.clip_norm)
        if self.scaler:
            self.scaler.step(optimiser)
            self.scaler.update()
        else:
            optimiser.step()
        return loss

    def _gradients(self, rows: RowNumbers) -> Tensor:
        """Add up the gradients of all passes; as many on every worker, since workers wait for each other in them."""
        mine, world = self.share(rows), self._divided.data.world
        largest = -(-len(rows) // world)
        passes = max(1, -(-largest // self._pass_rows))
        total: Tensor | None = None
        for number, part in enumerate(np.array_split(mine, passes) if passes > 1 else [mine]):
            with self._divided.adding_up(last=number + 1 == passes):
                # A pass without rows of its own must be made all the same: it counts for nothing.
                loss = self._loss(part if len(part) else mine[:1])
                weight = len(part) * world / len(rows)
                loss = loss if weight == 1 else loss * weight
                self._before_backward(loss)
                (self.scaler.scale(loss) if self.scaler else loss).backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None  # noqa: S101 -- there is a pass at least
        return total

    def _loss(self, rows: RowNumbers) -> Tensor:
        if self._type is None:
            return self._task.loss(self._divided.trained, rows)
        with torch.autocast(self._device.type, self._type):
            return self._task.loss(self._divided.trained, rows)


def _seed(device: torch.device, place: tuple[int, ...]) -> None:
    """Seed the generators that a step on `device` draws from; the same for the same place, in any process."""
    number = hash(place) & (2**63 - 1)  # of a tuple of integers: no process salts it
    # Not torch.manual_seed: it tells every accelerator there could be, which takes longer than a small step.
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(number)
