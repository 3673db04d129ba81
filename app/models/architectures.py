"""The built-in networks as torch modules, built from a blueprint.

Knows nothing of files, jobs or cards. Importing this file imports torch; language models are the transformers
library's own, which is imported only for them.

    module = build(Mlp(sizes=(1000, 500, 100, 1)))
    module(torch.zeros(4, 1000)).shape                # (4, 1)
"""

import torch
from torch import Tensor, nn

from app.errors import InvalidInput
from app.models.blueprint import Activation, Cnn, Llama, Mlp

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


class _Scaled(nn.Module):
    """Divides by the blueprint's scale, then runs `body`; the scale is configuration, not a weight."""

    def __init__(self, body: nn.Sequential, scale: float) -> None:
        super().__init__()
        self.body = body
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x / self.scale)
        return result


def build(blueprint: Mlp | Cnn | Llama) -> nn.Module:
    """The module of a blueprint, initialised from torch's current seed.

    Takes [rows, *input_shape], gives [rows, output_size]; a language model is what llama.py says. Raises InvalidInput
    when the image is too small for the number of convolutions.
    """
    if isinstance(blueprint, Llama):
        from app.models.llama import build_llama

        return build_llama(blueprint)
    body = _mlp(blueprint) if isinstance(blueprint, Mlp) else _cnn(blueprint)
    return _Scaled(body, blueprint.input_scale)


def build_empty(blueprint: Mlp | Cnn) -> nn.Module:
    """The module without storage, for weights that are about to be assigned: no time lost on initialising."""
    with torch.device("meta"):
        return build(blueprint)


def _mlp(blueprint: Mlp) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(blueprint.sizes, blueprint.sizes[1:], strict=False):
        layers += [nn.Linear(fan_in, fan_out), _ACTIVATIONS[blueprint.activation]()]
    return nn.Sequential(*layers[:-1])


def _cnn(blueprint: Cnn) -> nn.Sequential:
    if blueprint.feature_size < 1:
        raise InvalidInput(
            f"model.channels asks for {len(blueprint.channels)} convolutions, but an image of "
            f"{blueprint.image_size} pixels can be halved {blueprint.image_size.bit_length() - 1} times; "
            "remove channels or raise image_size"
        )
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip((1, *blueprint.channels), blueprint.channels, strict=False):
        layers += [
            nn.Conv2d(fan_in, fan_out, 3, padding=1),
            _ACTIVATIONS[blueprint.activation](),
            nn.MaxPool2d(2),
        ]
    features = blueprint.channels[-1] * blueprint.feature_size**2
    layers += [nn.Flatten(), nn.Linear(features, blueprint.hidden), _ACTIVATIONS[blueprint.activation]()]
    return nn.Sequential(*layers, nn.Dropout(blueprint.dropout), nn.Linear(blueprint.hidden, blueprint.classes))
