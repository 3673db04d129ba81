"""Learning from rows: a network that gives every row a class or a value.

Knows nothing of steps or energy. Every worker can read all rows.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.models.architectures import build
from app.models.blueprint import Network
from app.training.data import Dataset, load_data
from app.training.fabric import Group
from app.training.job import TrainJob
from app.training.parts import PARQUET, DataSource
from app.training.task import RowNumbers

if TYPE_CHECKING:
    from app.training.parquet_rows import StreamedRows


class RowsTask:
    """`Task` of classification (cross_entropy) and regression (mse)."""

    files: Mapping[str, str] = {}

    def __init__(self, job: TrainJob, model: Network, group: Group) -> None:
        self._job, self._group, self._model = job, group, model
        self._data = open_rows_of(job.data)
        self.card = self._data.card
        self.epoch_steps = -(-len(self._data.train_x) // job.step_rows)

    def build(self) -> nn.Module:
        return build(self._model)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[RowNumbers]:
        """All rows in the order of the epoch; the last step has what is left, at least one row for each worker."""
        order, rows = self._data.order(self._job.seed, epoch), self._job.step_rows
        for start in range(first_step * rows, len(order), rows):
            some = order[start : start + rows]
            yield some if len(some) >= self._group.world else np.resize(some, self._group.world)

    def loss(self, module: nn.Module, rows: RowNumbers) -> Tensor:
        x, y = self._tensors(self._data.train_x[rows], self._data.train_y[rows])
        return self._loss(module(x), y)

    def evaluate(self, module: nn.Module, *, whole: bool) -> dict[str, float]:
        """Always on all held-out rows, of which every worker takes its part."""
        data = self._data
        mine = slice(self._group.rank, None, self._group.world)
        x, y = self._tensors(data.test_x[mine], data.test_y[mine])
        result = module(x)
        loss = float(self._loss(result, y)) * len(y)
        right = float((result.argmax(1) == y).sum()) if self._job.loss == "cross_entropy" else 0.0
        losses, rights = (sum(values) for values in zip(*self._group.gather((loss, right)), strict=True))
        rows = len(data.test_y)
        if self._job.loss == "cross_entropy":
            return {"loss": losses / rows, "accuracy": rights / rows}
        return {"loss": losses / rows, "r2": 1 - losses / rows / float(data.test_y.var())}

    def _loss(self, result: Tensor, y: Tensor) -> Tensor:
        return (
            functional.cross_entropy(result, y) if self._job.loss == "cross_entropy" else functional.mse_loss(result, y)
        )

    def _tensors(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        shaped = np.ascontiguousarray(x).reshape(len(x), *self._model.input_shape)
        device = self._group.device
        return torch.from_numpy(shaped).to(device), torch.from_numpy(np.ascontiguousarray(y)).to(device)


def open_rows_of(data: DataSource) -> "Dataset | StreamedRows":
    """The rows that a job names: those that ship with the product, or a prepared data set, read as it is used."""
    if not data.source.startswith(PARQUET):
        return load_data(data.source, test_share=data.test_share, seed=data.seed)
    from app.training.parquet_rows import open_rows

    return open_rows(data.source.removeprefix(PARQUET), test_share=data.test_share, seed=data.seed)
