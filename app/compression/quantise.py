"""Quantisation: which layers are stored as integers, in which range activations lie, and weights of one bit.

Knows nothing of how integers lie in a file (stored_layers.py) or are multiplied (integer_layers.py, linear.py).
Importing this file imports torch.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from app.compression.material import Batch, Material
from app.compression.subject import Subject, products, tables
from app.errors import InvalidInput
from app.models.integer_layers import activation_range
from app.models.stored_layers import Form, StoredLayer, form_for

_FORMS: dict[str, Form] = {"int8": "int8", "int4": "int4", "int8-dynamic": "int8_dynamic"}
_CALIBRATION_BATCH = 32
_OUTLIERS = 1e-4
"""Share of a layer's activations, at either end, that may lie outside the range that is kept."""


def with_integers(subject: Subject, method: str) -> Subject:
    """Every layer as integers, weights alone or, with int8-dynamic, activations too."""
    layers: dict[str, nn.Module] = {**products(subject.module), **tables(subject.module)}
    wanted = _FORMS[method]
    return subject.with_forms({name: StoredLayer(form=form_for(layer, wanted)) for name, layer in layers.items()})


def with_ranges(subject: Subject, material: Material, rows: int, seed: int) -> Subject:
    """Every layer as integers, its activations in the range that `rows` rows to learn from gave them."""
    batches = material.batches(min(rows, _CALIBRATION_BATCH), seed, 0)
    chosen = (batch for _, batch in zip(range(-(-rows // _CALIBRATION_BATCH)), batches, strict=False))
    forms = {
        name: StoredLayer(form="int8_static", input_scale=scale, input_zero=zero)
        for name, (scale, zero) in _ranges(subject.module, material, chosen).items()
    }
    return subject.with_forms(forms | {name: StoredLayer(form="int8") for name in tables(subject.module)})


def _ranges(module: nn.Module, material: Material, batches: Iterable[Batch]) -> dict[str, tuple[float, int]]:
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in products(module)}
    with ExitStack() as hooks, torch.no_grad():
        for name, layer in products(module).items():
            handle = layer.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(_range(given[0])))
            hooks.callback(handle.remove)
        for batch in batches:
            material.answer(module, batch)
    silent = [name for name, ranges in seen.items() if not ranges]
    if silent:
        raise InvalidInput(f"layer {silent[0]} saw no activations; calibrate with more rows")
    return {name: activation_range(*_typical(ranges)) for name, ranges in seen.items()}


def _range(x: Tensor) -> tuple[float, float]:
    flat = x.detach().flatten().float()
    outside = int(len(flat) * _OUTLIERS)
    return float(flat.kthvalue(outside + 1).values), float(flat.kthvalue(len(flat) - outside).values)


def _typical(ranges: list[tuple[float, float]]) -> tuple[float, float]:
    """From the lowest to the highest that any batch needed."""
    return min(low for low, _ in ranges), max(high for _, high in ranges)


class _Binary(nn.Module):
    """Plus or minus the mean size of an output's weights; gradients pass as if nothing had been done.

    Rastegari et al., XNOR-Net, arXiv 1603.05279, equation 6; straight through: Bengio et al., arXiv 1308.3432.
    """

    def forward(self, weight: Tensor) -> Tensor:
        size = weight.detach().abs().flatten(1).mean(1).view(-1, *[1] * (weight.ndim - 1))
        rounded = torch.where(weight.detach() > 0, size, -size)
        return weight + (rounded - weight.detach())


@contextmanager
def binary(module: nn.Module) -> Iterator[list[str]]:
    """Weights of all layers but the first and the last are binary in this context and afterwards; gives their names."""
    names = list(products(module))[1:-1]
    if not names:
        raise InvalidInput("binary keeps the first and the last layer as they are, and there is none between them")
    for name in names:
        parametrize.register_parametrization(module.get_submodule(name), "weight", _Binary())
    try:
        yield names
    finally:
        for name in names:
            parametrize.remove_parametrizations(module.get_submodule(name), "weight", leave_parametrized=True)


def as_bits(subject: Subject, names: list[str]) -> Subject:
    """The same, whose layers `names` are stored as signs."""
    return subject.with_forms(dict.fromkeys(names, StoredLayer(form="binary")))
