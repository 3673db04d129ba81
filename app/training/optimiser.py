"""The optimiser of a job and the course of its learning rate.

Knows nothing of data or workers. The rate is a function of the step alone, so that a resumed job goes on as if nothing
had been.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from app.training.parts import Optimiser

_COURSES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "linear": lambda done: 1 - done,
}


def build_optimiser(settings: Optimiser, module: nn.Module) -> Optimizer:
    """The optimiser over the weights of `module`."""
    parameters = list(module.parameters())
    given: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.name == "sgd":
        return SGD(parameters, momentum=settings.momentum, **given)
    given["betas"] = (0.9, settings.beta2)
    if settings.name == "adam":
        return Adam(parameters, **given)
    # Norms and other vectors are not decayed: they carry scales, not features.
    groups: list[dict[str, Any]] = [
        {"params": [each for each in parameters if each.ndim >= 2]},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], **given)


def set_rate(optimiser: Optimizer, settings: Optimiser, epoch: int, epochs: int, step: int) -> None:
    """Set the learning rate of `step`, counted from 0 over all epochs: by epoch along the course, less at the start."""
    course = _COURSES[settings.schedule](epoch / epochs)
    warmth = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    for group in optimiser.param_groups:
        group["lr"] = settings.lr * course * warmth
