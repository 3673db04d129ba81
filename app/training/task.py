"""What a job teaches: the protocol between the loop (worker.py) and what is learned, and who makes which.

Knows nothing of optimisers, workers' shares or energy. Rows are numbers that mean something to the task alone; seed,
epoch and step decide them, never the number of workers, so that a job goes on as it was with fewer or more of them.

    task = open_task(job, group, checkpoint_directory)
    module = task.build()
    for rows in itertools.islice(task.batches(epoch=0), 10):
        task.loss(module, rows).backward()
    task.evaluate(module, whole=True)                 # {"loss": ..., "accuracy": ...}
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from app.models.blueprint import LanguageModel, Network, Pretrained
from app.models.card import DataCard
from app.training.fabric import Group
from app.training.job import TrainJob
from app.training.pairs import PAIR_SOURCES

RowNumbers = npt.NDArray[np.int64]


class Task(Protocol):
    """What a job learns from and is measured on."""

    epoch_steps: int
    """Optimiser steps of an epoch, the same on every worker and for any number of them."""
    files: Mapping[str, str]
    """Texts that belong beside the weights in a checkpoint, by name; names may hold `/`."""
    card: DataCard
    """What is learned from."""

    def build(self) -> nn.Module:
        """The module, on the CPU, from torch's current seed or from the weights that the job names."""

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[RowNumbers]:
        """The rows of each step of an epoch, of all workers together (`job.step_rows`, at its end perhaps fewer).

        The same on every worker, which takes its share; from `first_step` on where a job resumes within an epoch.
        """

    def loss(self, module: nn.Module, rows: RowNumbers) -> Tensor:
        """The mean loss of `rows`, to be minimised. All workers must call it equally often."""

    def evaluate(self, module: nn.Module, *, whole: bool) -> dict[str, float]:
        """Metrics on what is held out. Unless `whole`, a task may take a part of it.

        All workers must call it. The module may be divided among them: each calls it equally often.
        """


def open_task(job: TrainJob, group: Group, checkpoint: Path | None) -> Task:
    """The task of a job; what a checkpoint has of it is not made again. All workers must call it.

    `group` are those who share the rows of a step (`Divided.data` of strategy.py).
    """
    if job.data.source in PAIR_SOURCES:
        from app.training.pairs_task import PairsTask

        assert isinstance(job.model, Pretrained)  # noqa: S101 -- contradictions.py has seen to it
        return PairsTask(job, job.model, group, checkpoint)
    if isinstance(job.model, LanguageModel):
        from app.training.text_task import TextTask

        return TextTask(job, job.model, group, checkpoint)
    from app.training.rows_task import RowsTask

    assert isinstance(job.model, Network)  # noqa: S101 -- contradictions.py has seen to it
    return RowsTask(job, job.model, group)
