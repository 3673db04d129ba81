"""What a job teaches: the protocol between the loop (worker.py) and what is learned, and who makes which.

Knows nothing of steps, epochs or energy. A task owns the data of one worker; rows are numbers that mean something to
the task alone.

    task = open_task(job, fabric, checkpoint_directory)
    for rows in itertools.islice(task.batches(step=0), 10):
        task.loss(module, rows).backward()
    task.evaluate(module, whole=True)                 # {"loss": ..., "accuracy": ...}
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from app.models.blueprint import Llama
from app.training.fabric import Fabric
from app.training.job import TrainJob

RowNumbers = npt.NDArray[np.int64]


class Task(Protocol):
    """What one worker learns from and is measured on."""

    epoch_steps: int
    """Optimiser steps of an epoch, the same on every worker."""
    files: Mapping[str, str]
    """What belongs beside the weights in a checkpoint, by name."""

    def batches(self, epoch: int) -> Iterator[RowNumbers]:
        """This worker's rows of an epoch, batch by batch: `epoch_steps` of them."""

    def loss(self, module: nn.Module, rows: RowNumbers) -> Tensor:
        """The mean loss of `rows`, to be minimised."""

    def evaluate(self, module: nn.Module, *, whole: bool) -> dict[str, float]:
        """Metrics on what is held out. All workers must call it. Unless `whole`, a task may take a part of it."""


def open_task(job: TrainJob, fabric: Fabric, checkpoint: Path | None) -> Task:
    """The task of a job; what a checkpoint has of it is not made again. All workers must call it."""
    if isinstance(job.model, Llama):
        from app.training.text_task import TextTask

        return TextTask(job, job.model, fabric, checkpoint)
    from app.training.rows_task import RowsTask

    return RowsTask(job, job.model, fabric)
