"""Learning from rows: a network that gives every row a class or a value.

Knows nothing of steps or energy. Every worker holds all rows and takes its share of them.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.models.blueprint import Cnn, Mlp
from app.training.data import load_data
from app.training.fabric import Fabric
from app.training.job import TrainJob
from app.training.task import RowNumbers


class RowsTask:
    """`Task` of classification (cross_entropy) and regression (mse)."""

    files: Mapping[str, str] = {}

    def __init__(self, job: TrainJob, model: Mlp | Cnn, fabric: Fabric) -> None:
        self._job, self._fabric, self._shape = job, fabric, model.input_shape
        self._data = load_data(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
        self.epoch_steps = -(-self._share // job.batch_size)

    @property
    def _share(self) -> int:
        """Rows of this worker in an epoch."""
        return -(-len(self._data.train_x) // self._fabric.world)

    def batches(self, epoch: int) -> Iterator[RowNumbers]:
        """Every worker gets as many: a few rows are seen twice."""
        order = np.random.default_rng((self._job.seed, epoch)).permutation(len(self._data.train_x))
        mine = np.resize(order, self._share * self._fabric.world)[self._fabric.rank :: self._fabric.world]
        for start in range(0, len(mine), self._job.batch_size):
            yield mine[start : start + self._job.batch_size]

    def loss(self, module: nn.Module, rows: RowNumbers) -> Tensor:
        x, y = self._tensors(self._data.train_x[rows], self._data.train_y[rows])
        return self._loss(module(x), y)

    def evaluate(self, module: nn.Module, *, whole: bool) -> dict[str, float]:
        """Always on all held-out rows, of which every worker takes its part."""
        data = self._data
        mine = slice(self._fabric.rank, None, self._fabric.world)
        x, y = self._tensors(data.test_x[mine], data.test_y[mine])
        result = module(x)
        loss = float(self._loss(result, y)) * len(y)
        right = float((result.argmax(1) == y).sum()) if self._job.loss == "cross_entropy" else 0.0
        losses, rights = (sum(values) for values in zip(*self._fabric.gather((loss, right)), strict=True))
        rows = len(data.test_y)
        if self._job.loss == "cross_entropy":
            return {"loss": losses / rows, "accuracy": rights / rows}
        return {"loss": losses / rows, "r2": 1 - losses / rows / float(data.test_y.var())}

    def _loss(self, result: Tensor, y: Tensor) -> Tensor:
        return (
            functional.cross_entropy(result, y) if self._job.loss == "cross_entropy" else functional.mse_loss(result, y)
        )

    def _tensors(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        shaped = np.ascontiguousarray(x).reshape(len(x), *self._shape)
        device = self._fabric.device
        return torch.from_numpy(shaped).to(device), torch.from_numpy(np.ascontiguousarray(y)).to(device)
