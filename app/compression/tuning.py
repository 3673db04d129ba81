"""Training on of a compressed network, by itself or taught by the original.

Knows nothing of methods: what must stay as it is, as zeros do, is the module's own affair. Importing this file imports
torch.

    tune(subject.module, material, Lesson(epochs=5, lr=1e-3, batch_size=32, seed=0), phases=phases, tell=print)
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from app.compression.material import Batch, Lessons
from app.training.phases import Phases


@dataclass(frozen=True, slots=True)
class Lesson:
    """How long and how fast."""

    epochs: int
    lr: float
    batch_size: int
    seed: int
    epoch_steps: int = 0
    """At most; 0: a whole pass."""
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Teacher:
    """The original, and which of its hidden outputs are to be like which of the student's."""

    module: nn.Module
    hidden: Sequence[tuple[str, str]] = ()
    """Names of modules: the student's, the teacher's."""


def tune(
    module: nn.Module,
    material: Lessons,
    lesson: Lesson,
    *,
    phases: Phases,
    tell: Callable[[str], None],
    teacher: Teacher | None = None,
) -> None:
    """Train the weights of `module` that ask for gradients; it is in evaluation mode afterwards."""
    if not lesson.epochs:
        return
    torch.manual_seed(lesson.seed)
    likeness = _Likeness(module, teacher, material, lesson)
    weights = [each for each in [*module.parameters(), *likeness.parameters()] if each.requires_grad]
    optimiser = Adam(weights, lr=lesson.lr)
    for epoch in range(lesson.epochs):
        for group in optimiser.param_groups:
            group["lr"] = lesson.lr * (1 + math.cos(math.pi * epoch / lesson.epochs)) / 2
        losses = []
        for number, batch in enumerate(_some(material, lesson, epoch)):
            phases.enter("step", weight=float(lesson.batch_size), epoch=epoch + 1)
            module.train()
            loss = likeness.loss(batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            if number % 50 == 49:
                tell(f"  epoch {epoch + 1}, step {number + 1}: loss {sum(losses[-50:]) / 50:.4f}")
        tell(f"  epoch {epoch + 1}/{lesson.epochs}: loss {sum(losses) / max(1, len(losses)):.4f}")
    phases.enter("setup")
    module.eval()


def _some(material: Lessons, lesson: Lesson, epoch: int) -> Iterator[Batch]:
    batches = material.batches(lesson.batch_size, lesson.seed, epoch)
    return itertools.islice(batches, lesson.epoch_steps) if lesson.epoch_steps else batches


class _Likeness(nn.Module):
    """The loss of a batch: of its answer, and of how unlike the hidden outputs are.

    Hidden outputs of different widths are compared through a linear map that is learned beside (Romero et al., FitNets,
    arXiv 1412.6550, equation 3).
    """

    def __init__(self, module: nn.Module, teacher: Teacher | None, material: Lessons, lesson: Lesson) -> None:
        super().__init__()
        # Kept out of this module's own parameters, which are the maps alone.
        self._told = (module, teacher, material, lesson)
        self.maps = nn.ModuleList()
        if teacher and teacher.hidden:
            sample = next(material.batches(2, lesson.seed, 0))
            with torch.no_grad(), _listening(module, teacher) as heard:
                material.answer(module.eval(), sample)
                material.answer(teacher.module, sample)
            self.maps.extend(_map(ours, theirs) for ours, theirs in heard())

    def loss(self, batch: Batch) -> Tensor:
        module, teacher, material, lesson = self._told
        if teacher is None:
            return material.loss(material.answer(module, batch), batch, None)
        with _listening(module, teacher) as heard:
            answer = material.answer(module, batch)
            with torch.no_grad():
                taught = material.answer(teacher.module, batch)
            loss = material.loss(answer, batch, taught, lesson.temperature)
            for translate, (ours, theirs) in zip(self.maps, heard(), strict=True):
                loss = loss + functional.mse_loss(translate(ours), theirs) / theirs.var().clamp(min=1e-6)
        return loss


def _map(ours: Tensor, theirs: Tensor) -> nn.Module:
    same = ours.shape[-1] == theirs.shape[-1]
    return nn.Identity() if same else nn.Linear(ours.shape[-1], theirs.shape[-1]).to(ours.device)


@contextmanager
def _listening(module: nn.Module, teacher: Teacher) -> Iterator[Callable[[], list[tuple[Tensor, Tensor]]]]:
    """Gives what tells the hidden outputs of the last answers of both, pair by pair."""
    kept: dict[tuple[int, str], Tensor] = {}

    def keep(key: tuple[int, str]) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _, __, output: kept.__setitem__(key, output)

    pairs = [((0, ours), (1, theirs)) for ours, theirs in teacher.hidden]
    hooks = [
        (teacher.module if side else module).get_submodule(name).register_forward_hook(keep((side, name)))
        for pair in pairs
        for side, name in pair
    ]
    try:
        yield lambda: [(kept[ours], kept[theirs]) for ours, theirs in pairs]
    finally:
        for hook in hooks:
            hook.remove()
