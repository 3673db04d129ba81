"""What a compressed version learns from, is taught by and is measured on.

Knows nothing of how anything is compressed. Rows are those that the version itself was trained on and measured by, as
its card names them. Importing this file imports torch.

    material = open_material(card, directory, torch.device("cpu"))
    for batch in material.batches(32, seed=0, epoch=0):
        material.loss(material.answer(module, batch), batch, taught=None).backward()
    material.score(runner)                            # {"accuracy": 0.98}

Raises InvalidInput where the data of a version cannot be had again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.domain.tensor import Datatype
from app.errors import InvalidInput
from app.models.blueprint import Network
from app.models.card import DataCard, ModelCard
from app.models.runners.base import Arrays, Runner
from app.training.data import SOURCES, Dataset, load_data

Batch = Any
"""One batch, as the material that gave it knows it."""


class Lessons(Protocol):
    """What there is to learn from."""

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """All that there is to learn from, in an order of its own for every epoch."""

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        """What `module` makes of a batch, [rows, ...]."""

    def loss(self, answer: Tensor, batch: Batch, taught: Tensor | None, temperature: float = 1.0) -> Tensor:
        """The mean loss of an answer; `taught` is the original's."""


class Material(Lessons, Protocol):
    """Data of one version."""

    metric: str
    """What says how good a result is, in [0, 1]; one of what `score` gives."""

    def score(self, runner: Runner) -> dict[str, float]:
        """Metrics of what is served, on what is held out."""

    def questions(self, rows: int, count: int) -> list[Arrays]:
        """`count` requests of `rows` rows, from what is held out."""


def open_material(card: ModelCard, directory: Path, device: torch.device) -> Material:
    """The data of a version."""
    if card.runner == "encoder":
        from app.compression.passages import PassagesMaterial

        return PassagesMaterial(card, directory, device)
    return RowsMaterial(card, device)


class RowsMaterial:
    """`Material` of classification and regression."""

    def __init__(self, card: ModelCard, device: torch.device) -> None:
        assert isinstance(card.architecture, Network)  # noqa: S101
        self._shape, self._device = card.architecture.input_shape, device
        self.data = _same_data(card)
        self._input = card.inputs[0].name
        self._is_class = self.data.train_y.ndim == 1
        self.metric = "accuracy" if self._is_class else "r2"

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng((seed, epoch)).permutation(len(self.data.train_x))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield self.tensors(self.data.train_x[rows], self.data.train_y[rows])

    def tensors(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        """Rows as a network takes them, and what they are."""
        shaped = np.ascontiguousarray(x).reshape(len(x), *self._shape)
        return torch.from_numpy(shaped).to(self._device), torch.from_numpy(np.ascontiguousarray(y)).to(self._device)

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        result: Tensor = module(batch[0])
        return result

    def loss(self, answer: Tensor, batch: Batch, taught: Tensor | None, temperature: float = 1.0) -> Tensor:
        """Of what the rows are, and, where the original teaches, nine parts of ten of what it says of them.

        Soft targets at a temperature: Hinton, Vinyals, Dean, arXiv 1503.02531, equation 1 and section 2.
        """
        if not self._is_class:
            own = functional.mse_loss(answer, batch[1])
            return own if taught is None else 0.1 * own + 0.9 * functional.mse_loss(answer, taught)
        own = functional.cross_entropy(answer, batch[1])
        return own if taught is None else 0.1 * own + 0.9 * soft_loss(answer, taught, temperature)

    def score(self, runner: Runner) -> dict[str, float]:
        data, most = self.data, runner.max_rows
        asked = ({self._input: data.test_x[start : start + most]} for start in range(0, len(data.test_x), most))
        found = np.concatenate([runner.run(each)[_logits(runner)] for each in asked])
        if self._is_class:
            return {"accuracy": float((found.argmax(1) == data.test_y).mean())}
        return {"r2": 1 - float(((found - data.test_y) ** 2).mean()) / float(data.test_y.var())}

    def questions(self, rows: int, count: int) -> list[Arrays]:
        picked = np.random.default_rng(0).integers(len(self.data.test_x), size=(count, rows))
        return [{self._input: self.data.test_x[each]} for each in picked]


def soft_loss(answer: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far the softened classes of `answer` are from those of `taught`, scaled as gradients of hard ones are."""
    of_answer, of_taught = (functional.log_softmax(logits / temperature, 1) for logits in (answer, taught))
    return temperature**2 * functional.kl_div(of_answer, of_taught, reduction="batchmean", log_target=True)


def _logits(runner: Runner) -> str:
    return next(spec.name for spec in runner.outputs if spec.datatype is Datatype.FP32)


def _same_data(card: ModelCard) -> Dataset:
    """The very rows that the version was trained on and measured by."""
    named: DataCard | None = next((each for each in card.data if each.name in SOURCES), None)
    if named is None or named.test_share is None or named.seed is None:
        raise InvalidInput(
            f"the card of {card.name}@{card.version} names no data that could be read again, so that nothing could be "
            f"tuned or measured; train it by a job file, on one of {', '.join(SOURCES)}"
        )
    data = load_data(named.name, test_share=named.test_share, seed=named.seed)
    if data.card.digest != named.digest:
        raise InvalidInput(
            f"{card.name}@{card.version} was trained on the {named.origin}; here is the {data.card.origin}, whose rows "
            "differ; install what the card names"
        )
    return data
