"""Distillation with data: a smaller network of the same kind, and what of it is compared with the original.

Knows nothing of data or training (tuning.py). Importing this file imports torch.
"""

import copy

import torch
from torch import nn

from app.compression.job import Distil, DistilDataFree
from app.compression.subject import Subject, hidden_outputs
from app.compression.tuning import Teacher
from app.errors import InvalidInput
from app.models.architectures import build
from app.models.bert import Bert, BertConfig
from app.models.blueprint import Cnn, Mlp


def smaller(subject: Subject, step: Distil | DistilDataFree, seed: int) -> Subject:
    """A student: a network of less width with weights of its own, an encoder of some of the original's layers."""
    blueprint = subject.blueprint
    if isinstance(subject.module, Bert) and isinstance(blueprint, BertConfig):
        return _fewer_layers(subject.module, blueprint, step.layers if isinstance(step, Distil) else 0)
    torch.manual_seed(seed)
    if isinstance(blueprint, Mlp):
        inner = (_part(size, step.width) for size in blueprint.sizes[1:-1])
        narrow: Mlp | Cnn = blueprint.model_copy(update={"sizes": (blueprint.sizes[0], *inner, blueprint.sizes[-1])})
    else:
        assert isinstance(blueprint, Cnn)  # noqa: S101
        narrow = blueprint.model_copy(
            update={
                "channels": tuple(_part(size, step.width) for size in blueprint.channels),
                "hidden": _part(blueprint.hidden, step.width) if blueprint.hidden else 0,
            }
        )
    device = next(subject.module.parameters()).device
    return Subject(narrow, build(narrow).to(device).eval())


def _part(size: int, share: float) -> int:
    return max(1, round(size * share))


def layers_kept(count: int, of: int) -> list[int]:
    """Numbers of `count` layers out of `of`, evenly spread, the last among them."""
    return [round((number + 1) * of / count) - 1 for number in range(count)]


def _fewer_layers(module: Bert, config: BertConfig, wanted: int) -> Subject:
    whole = config.num_hidden_layers
    count = wanted or max(1, whole // 2)
    if count >= whole:
        raise InvalidInput(f"layers must be < {whole}, as many as the original has, got {count}")
    student = copy.deepcopy(module)
    student.encoder.layer = nn.ModuleList(student.encoder.layer[number] for number in layers_kept(count, whole))
    return Subject(config.model_copy(update={"num_hidden_layers": count}), student.eval().requires_grad_(True))


def teacher_of(student: Subject, original: Subject, *, features: bool) -> Teacher:
    """The original as a teacher, of its answers alone or of what it thinks, too."""
    if not features:
        return Teacher(original.module)
    ours, theirs = hidden_outputs(student), hidden_outputs(original)
    return Teacher(original.module, [*zip(ours, (theirs[n] for n in layers_kept(len(ours), len(theirs))), strict=True)])
