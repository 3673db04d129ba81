"""Early exits: classifiers along the way of a convolutional network, and how sure they must be.

Knows nothing of how rows are routed (models/early_exit.py). The confidence is chosen on rows that were held out of
those to learn from, never on the test's. Importing this file imports torch.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from app.compression.job import EarlyExit
from app.compression.material import Batch, RowsMaterial
from app.compression.subject import Subject
from app.compression.tuning import Lesson, tune
from app.errors import InvalidInput
from app.models.architectures import build
from app.models.blueprint import Cnn
from app.models.early_exit import EarlyExits
from app.training.phases import Phases

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_KEPT_BACK = 0.2
"""Share of the rows to learn from on which the confidence is chosen."""


class _ManyExits:
    """The rows of a material but those kept back, learned at all exits at once."""

    def __init__(self, material: RowsMaterial) -> None:
        self._material = material
        order = np.random.default_rng(0).permutation(len(material.data.train_x))
        kept = round(_KEPT_BACK * len(order))
        self._learned, self.kept_back = order[kept:], order[:kept]

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        rows = np.random.default_rng((seed, epoch)).permutation(self._learned)
        data = self._material.data
        for start in range(0, len(rows), size):
            each = rows[start : start + size]
            yield self._material.tensors(data.train_x[each], data.train_y[each])

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(module, EarlyExits)  # noqa: S101
        return torch.stack(module.every_exit(batch[0]))

    def loss(self, answer: Tensor, batch: Batch, taught: Tensor | None, temperature: float = 1.0) -> Tensor:
        """The mean over the exits."""
        losses = [self._material.loss(logits, batch, None) for logits in answer]
        return torch.stack(losses).mean()


def with_exits(
    subject: Subject, material: RowsMaterial, step: EarlyExit, *, seed: int, phases: Phases, tell: Callable[[str], None]
) -> Subject:
    """The network with exits, all of it trained on, and a confidence."""
    blueprint = subject.blueprint
    if not isinstance(blueprint, Cnn) or len(blueprint.channels) < 2:
        raise InvalidInput("early-exit needs a convolutional network of two convolutions or more")
    shape = blueprint.model_copy(update={"exit_confidence": step.confidence or 1.0})
    torch.manual_seed(seed)
    module = build(shape).to(next(subject.module.parameters()).device)
    module.load_state_dict(subject.module.state_dict(), strict=False)
    lessons = _ManyExits(material)
    lesson = Lesson(step.epochs, step.lr, step.batch_size, seed, step.epoch_steps)
    tune(module, lessons, lesson, phases=phases, tell=tell)
    if not step.confidence:
        assert isinstance(module, EarlyExits)  # noqa: S101
        kept = material.tensors(material.data.train_x[lessons.kept_back], material.data.train_y[lessons.kept_back])
        shape = shape.model_copy(update={"exit_confidence": chosen_confidence(module, kept, step.tolerance, tell)})
        module.confidence = shape.exit_confidence
    return replace(subject, blueprint=shape, module=module.eval())


@torch.no_grad()
def chosen_confidence(
    module: EarlyExits, rows: tuple[Tensor, Tensor], tolerance: float, tell: Callable[[str], None]
) -> float:
    """The least of CONFIDENCES whose accuracy is at most `tolerance` below that of never leaving early."""
    module.eval()
    whole = exit_accuracy(module, rows, math.inf)[0]
    for confidence in CONFIDENCES:
        accuracy, early = exit_accuracy(module, rows, confidence)
        tell(f"  confidence {confidence:g}: accuracy {accuracy:.4f} of {whole:.4f}, {early:.0%} of rows leave early")
        if accuracy >= whole - tolerance:
            return confidence
    return 1.0


@torch.no_grad()
def exit_accuracy(module: EarlyExits, rows: tuple[Tensor, Tensor], confidence: float) -> tuple[float, float]:
    """Accuracy when rows leave at `confidence`, and the share of them that leave before the end."""
    before, module.confidence = module.confidence, confidence
    try:
        right = float((module(rows[0]).argmax(1) == rows[1]).float().mean())
        early = float((module.leaving(rows[0]) < len(module.exits)).float().mean())
    finally:
        module.confidence = before
    return right, early
