"""Distillation without data: a generator invents inputs, a student learns from them to answer as the original does.

Knows nothing of data; it reads none. The generator seeks inputs on which the two disagree (Fang et al., Data-Free
Adversarial Distillation, arXiv 1912.11006, with its logarithm), of all the original's classes alike (Chen et al., DAFL,
arXiv 1904.01186, equation 6). Importing this file imports torch.

    learn_without_data(original, student, step, seed=0, phases=phases, tell=print)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from app.compression.job import DistilDataFree
from app.compression.subject import Subject
from app.errors import InvalidInput
from app.models.blueprint import Cnn, Mlp
from app.training.phases import Phases

_NOISE = 64
_WIDTH = 32
_STUDENT_STEPS = 5
"""For one of the generator: the student must be able to follow."""
_CONTRAST = 3.0
"""Of what is invented: inputs are nothing or full rather than in between."""
_ALIKE = 1.0
"""Weight of classes being alike beside disagreement, tried on digits. That the original be sure, which DAFL asks for
too, made students worse there: what they lack is where it is not."""
_TOLD_ROUNDS = 100


class Generator(nn.Module):
    """Noise to inputs in [0, `highest`] of `shape`: for images, through a small grid that is enlarged twice."""

    def __init__(self, shape: tuple[int, ...], highest: float) -> None:
        super().__init__()
        self._shape, self._highest = shape, highest
        if len(shape) == 3:
            side = -(-shape[1] // 4)
            self.body = nn.Sequential(
                nn.Linear(_NOISE, _WIDTH * side**2),
                nn.Unflatten(1, (_WIDTH, side, side)),
                nn.BatchNorm2d(_WIDTH),
                *_enlarge(_WIDTH, _WIDTH),
                *_enlarge(_WIDTH, _WIDTH // 2),
                nn.Conv2d(_WIDTH // 2, shape[0], 3, padding=1),
                nn.BatchNorm2d(shape[0]),
            )
        else:
            self.body = nn.Sequential(
                nn.Linear(_NOISE, 4 * _WIDTH),
                nn.BatchNorm1d(4 * _WIDTH),
                nn.LeakyReLU(0.2),
                nn.Linear(4 * _WIDTH, math.prod(shape)),
                nn.BatchNorm1d(math.prod(shape)),
            )

    def forward(self, noise: Tensor) -> Tensor:
        found: Tensor = self.body(noise)
        if len(self._shape) == 3:
            found = found[:, :, : self._shape[1], : self._shape[2]]
        return self._highest * (_CONTRAST * found.reshape(len(noise), *self._shape)).sigmoid()


def _enlarge(channels: int, to: int) -> list[nn.Module]:
    return [
        nn.Upsample(scale_factor=2),
        nn.Conv2d(channels, to, 3, padding=1),
        nn.BatchNorm2d(to),
        nn.LeakyReLU(0.2),
    ]


def learn_without_data(
    original: Subject, student: Subject, step: DistilDataFree, *, seed: int, phases: Phases, tell: Callable[[str], None]
) -> None:
    """Train the student's weights. Raises InvalidInput for a model that gives no classes."""
    blueprint = original.blueprint
    if not isinstance(blueprint, Mlp | Cnn) or blueprint.output_size < 2:
        raise InvalidInput("distil-data-free needs a network that tells classes apart; use distil-logits")
    teacher = original.module.eval()
    device = next(teacher.parameters()).device
    torch.manual_seed(seed)
    # What clients send lies between nothing and the scale that the network divides by.
    generator = Generator(blueprint.input_shape, blueprint.input_scale).to(device)
    optimisers = Adam(generator.parameters(), lr=step.lr), Adam(student.module.parameters(), lr=step.lr)
    for number in range(step.rounds):
        rate = step.lr * (1 + math.cos(math.pi * number / step.rounds)) / 2
        for group in (*optimisers[0].param_groups, *optimisers[1].param_groups):
            group["lr"] = rate
        phases.enter("step", weight=float(step.batch_size), epoch=1)
        apart = _round(teacher, student.module, generator, optimisers, step.batch_size, device)
        if number % _TOLD_ROUNDS == _TOLD_ROUNDS - 1:
            tell(f"  round {number + 1}/{step.rounds}: student and original are {apart:.3f} apart")
    phases.enter("setup")
    student.module.eval()


def _round(
    teacher: nn.Module,
    student: nn.Module,
    generator: Generator,
    optimisers: tuple[Adam, Adam],
    rows: int,
    device: torch.device,
) -> float:
    """Some steps of the student, one of the generator; returns how far the answers were apart at last."""
    student.train()
    apart = torch.zeros(())
    for _ in range(_STUDENT_STEPS):
        with torch.no_grad():
            inputs = generator(torch.randn(rows, _NOISE, device=device))
            taught = teacher(inputs)
        apart = functional.l1_loss(student(inputs), taught)
        _step(optimisers[1], apart)
    student.eval()
    inputs = generator(torch.randn(rows, _NOISE, device=device))
    taught, answer = teacher(inputs), student(inputs)
    classes = taught.softmax(1).mean(0)
    alike = (classes * classes.clamp(min=1e-8).log()).sum()
    _step(optimisers[0], _ALIKE * alike - (functional.l1_loss(answer, taught) + 1).log())
    return float(apart.detach())


def _step(optimiser: Adam, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
