"""Layers of a compressed network: how each lies in the weights file, and what takes its place when it is loaded.

Knows nothing of what network it is or why it was compressed. `layers.json` beside the weights names the layers that
are not stored as they are, each with its form; a version without that file is stored as it is. Tensors of layer L:

| form | in the file | in memory |
|---|---|---|
| sparse | `L.weight_kept`: values that are not zero; `L.weight_mask`: a bit for every weight | as it was |
| binary | `L.weight_signs`: a bit for every weight; `L.weight_scale`: a size for each output | as it was |
| int8, int4 | `L.weight`, `L.weight_scale` as in linear.py | integers; of a convolution as it was |
| int8_dynamic, int8_static | the same integers | integers, and products of integers (integer_layers.py) |

Importing this file imports torch. Raises InvalidInput for a file that does not fit the network.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from app.errors import InvalidInput
from app.models.integer_layers import DynamicInt8Linear, IntegerEmbedding, StaticInt8Conv2d, StaticInt8Linear
from app.models.linear import GROUP, Bits, WeightOnlyLinear, pack_weight, unpack_weight

FORMS_FILE = "layers.json"
Form = Literal["sparse", "binary", "int8", "int4", "int8_dynamic", "int8_static"]
Tensors = dict[str, Tensor]


class StoredLayer(BaseModel):
    """How one layer lies in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form
    input_scale: float = 0.0
    input_zero: int = 0
    """Of int8_static: what 8 bits of its activations stand for."""


Forms = Mapping[str, StoredLayer]
_FORMS = TypeAdapter(dict[str, StoredLayer])


def form_for(layer: nn.Module, wanted: Form) -> Form:
    """`wanted`, or what comes nearest: int4 needs whole groups, embeddings take int8, convolutions have no ranges."""
    inputs = weight_of(layer)[0].numel()
    if isinstance(layer, nn.Embedding) and wanted in ("int4", "int8_dynamic", "int8_static"):
        return "int8"
    if wanted == "int4" and inputs % GROUP:
        return "int8"
    return "int8" if wanted == "int8_dynamic" and isinstance(layer, nn.Conv2d) else wanted


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a linear layer, a convolution or an embedding."""
    return cast(Tensor, layer.weight)


def store(tensors: Tensors, forms: Forms) -> Tensors:
    """The tensors of a file: `tensors`, a whole network, with the layers of `forms` as these say."""
    found = dict(tensors)
    for name, layer in forms.items():
        weight = found.pop(f"{name}.weight")
        found |= {f"{name}.{key}": tensor for key, tensor in _stored(weight.detach(), layer.form).items()}
    return found


def write_forms(directory: Path, forms: Forms) -> None:
    """Leave `layers.json` in `directory`, where there is anything to tell."""
    if forms:
        text = json.dumps({name: layer.model_dump(exclude_defaults=True) for name, layer in forms.items()}, indent=1)
        (directory / FORMS_FILE).write_text(text, encoding="utf-8")


def read_forms(directory: Path) -> Forms:
    """What `layers.json` in `directory` says; nothing where there is none."""
    path = directory / FORMS_FILE
    if not path.is_file():
        return {}
    try:
        return _FORMS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidInput(f"{path} is not readable: {error}; publish the version again") from error


def restore(module: nn.Module, tensors: Tensors, forms: Forms) -> Tensors:
    """Put integer layers in their places in `module`, which may be without storage; returns the tensors to load."""
    found = dict(tensors)
    for name, stored in forms.items():
        try:
            layer = module.get_submodule(name)
            place = _integer_layer(layer, stored)
            if place is None:
                found[f"{name}.weight"] = _expanded(found, name, weight_of(layer).shape, stored.form)
            else:
                module.set_submodule(name, place)
        except (AttributeError, KeyError, RuntimeError) as error:
            raise InvalidInput(f"layer {name!r} of form {stored.form} does not fit the network: {error}") from error
    return found


def _stored(weight: Tensor, form: Form) -> Tensors:
    rows = weight.flatten(1)
    if form == "sparse":
        kept = weight != 0
        return {"weight_kept": weight[kept], "weight_mask": _bits(kept)}
    if form == "binary":
        return {"weight_signs": _bits(weight > 0), "weight_scale": rows.abs().amax(1)}
    packed, scale = pack_weight(rows, 4 if form == "int4" else 8)
    return {"weight": packed if form == "int4" else packed.view(weight.shape), "weight_scale": scale}


def _expanded(tensors: Tensors, name: str, shape: torch.Size, form: Form) -> Tensor:
    """The whole weight; takes what stood for it out of `tensors`."""
    if form == "sparse":
        kept = _flags(tensors.pop(f"{name}.weight_mask"), shape)
        values = tensors.pop(f"{name}.weight_kept")
        return torch.zeros(shape, device=values.device).masked_scatter_(kept, values)
    scale = tensors.pop(f"{name}.weight_scale")
    if form == "binary":
        signs = _flags(tensors.pop(f"{name}.weight_signs"), shape).float() * 2 - 1
        return signs * scale.view(-1, *[1] * (len(shape) - 1))
    bits: Bits = 4 if form == "int4" else 8
    return unpack_weight(tensors[f"{name}.weight"].flatten(1), scale, bits).view(shape)


def _integer_layer(layer: nn.Module, stored: StoredLayer) -> nn.Module | None:
    """What takes the place of `layer`, without storage; None where it stays and its weight is expanded."""
    told = stored.input_scale, stored.input_zero
    with torch.device("meta"):
        match layer, stored.form:
            case nn.Embedding(), "int8":
                return IntegerEmbedding(layer.num_embeddings, layer.embedding_dim)
            case nn.Linear(), "int8" | "int4":
                bits: Bits = 4 if stored.form == "int4" else 8
                return WeightOnlyLinear(layer.in_features, layer.out_features, bits, bias=layer.bias is not None)
            case nn.Linear(), "int8_dynamic":
                return DynamicInt8Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            case nn.Linear(), "int8_static":
                bias = layer.bias is not None
                return StaticInt8Linear(layer.in_features, layer.out_features, bias=bias, told=told)
            case nn.Conv2d(), "int8_static":
                return StaticInt8Conv2d(layer, told=told)
    return None


def _bits(flags: Tensor) -> Tensor:
    """One bit for each of `flags`, eight to a byte, the first in the lowest; UINT8."""
    flat = flags.flatten().to(torch.uint8)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8, device=flags.device)).sum(1, dtype=torch.uint8)


def _flags(bits: Tensor, shape: torch.Size) -> Tensor:
    single = bits[:, None] >> torch.arange(8, dtype=torch.uint8, device=bits.device) & 1
    return single.flatten()[: shape.numel()].view(shape).bool()
