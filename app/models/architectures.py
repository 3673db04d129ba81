"""Blueprints as torch modules: the built-in networks, and what a user's code builds.

Knows nothing of files, jobs or cards. Importing this file imports torch; language models are the transformers
library's own, which is imported only for them. Weights that exist already are pretrained.py's.

    module = build(Mlp(sizes=(1000, 500, 100, 1)))
    module(torch.zeros(4, 1000)).shape                # (4, 1)
"""

import importlib

import torch
from torch import Tensor, nn

from app.errors import InvalidInput
from app.models.blueprint import Activation, Cnn, Llama, Mlp, Network, Recurrent, Transformer, UserModule
from app.models.early_exit import EarlyExits

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


class _Scaled(nn.Module):
    """Divides by the blueprint's scale, then runs `body`; the scale is configuration, not a weight."""

    def __init__(self, body: nn.Module, scale: float) -> None:
        super().__init__()
        self.body = body
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x / self.scale)
        return result


def build(blueprint: Network | Llama) -> nn.Module:
    """The module of a blueprint, initialised from torch's current seed.

    Takes [rows, *input_shape], gives [rows, output_size]; a language model is what llama.py says. Raises InvalidInput
    when the image is too small for the number of convolutions, and for code of a user's that gives no module.
    """
    if isinstance(blueprint, Llama):
        from app.models.llama import build_llama

        return build_llama(blueprint)
    if isinstance(blueprint, Cnn) and blueprint.exit_confidence:
        return EarlyExits(_cnn(blueprint), _exits(blueprint), blueprint.input_scale, blueprint.exit_confidence)
    return _Scaled(_body(blueprint), blueprint.input_scale)


def build_empty(blueprint: Network) -> nn.Module:
    """The module without storage, for weights that are about to be assigned: no time lost on initialising."""
    with torch.device("meta"):
        return build(blueprint)


def _body(blueprint: Network) -> nn.Module:
    if isinstance(blueprint, Recurrent | Transformer):
        from app.models.sequences import RecurrentNetwork, TransformerNetwork

        if isinstance(blueprint, Recurrent):
            return RecurrentNetwork(blueprint)
        return TransformerNetwork(blueprint, _ACTIVATIONS[blueprint.activation])
    if isinstance(blueprint, UserModule):
        return _call_user(blueprint)
    if isinstance(blueprint, Mlp):
        return _mlp(blueprint)
    if isinstance(blueprint, Cnn):
        return _cnn(blueprint)
    raise InvalidInput(f"nobody builds a {type(blueprint).__name__}; use a blueprint of app/models/blueprint.py")


def _call_user(blueprint: UserModule) -> nn.Module:
    module_name, _, name = blueprint.code.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), name)(**blueprint.arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise InvalidInput(
            f"model.code {blueprint.code!r} cannot be built with {blueprint.arguments}: {error}; it must be importable "
            "where the workers run (ray job submit --working-dir) and take these arguments by name"
        ) from error
    if not isinstance(made, nn.Module):
        raise InvalidInput(f"model.code {blueprint.code!r} gave a {type(made).__name__}, not a torch.nn.Module")
    return made


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
    layers.append(nn.Flatten())
    if blueprint.hidden:
        layers += [nn.Linear(features, blueprint.hidden), _ACTIVATIONS[blueprint.activation]()]
    layers += [nn.Dropout(blueprint.dropout), nn.Linear(blueprint.hidden or features, blueprint.classes)]
    return nn.Sequential(*layers)


def _exits(blueprint: Cnn) -> nn.ModuleList:
    """A classifier after every pooling but the last."""
    sizes = [channels * (blueprint.image_size >> stage) ** 2 for stage, channels in enumerate(blueprint.channels, 1)]
    return nn.ModuleList(nn.Sequential(nn.Flatten(), nn.Linear(size, blueprint.classes)) for size in sizes[:-1])
