"""Pruning: which weights become zero and stay so while the others are tuned, and which channels go altogether.

Knows nothing of data. Single weights are torch's own pruning; removing channels gives a smaller network of the same
kind, whose weights are the rows and columns that were kept. Importing this file imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from app.compression.job import Prune, PruneTwoOfFour
from app.compression.subject import Subject, products
from app.models.architectures import build
from app.models.bert import Bert, BertConfig
from app.models.blueprint import Cnn, Mlp
from app.models.stored_layers import StoredLayer

Layer = nn.Linear | nn.Conv2d
_GROUP, _KEPT = 4, 2


@contextmanager
def pruned(module: nn.Module, step: Prune | PruneTwoOfFour, seed: int) -> Iterator[list[str]]:
    """Zeros in `module`, held for as long as the context lasts and left in its weights; gives the layers' names."""
    layers = products(module)
    if isinstance(step, PruneTwoOfFour):
        layers = {name: layer for name, layer in layers.items() if layer.weight[0].numel() % _GROUP == 0}
    places = [(layer, "weight") for layer in layers.values()]
    torch.manual_seed(seed)
    if isinstance(step, PruneTwoOfFour):
        for layer, name in places:
            prune.custom_from_mask(layer, name, two_of_four(layer.weight))
    elif step.method == "prune-global":
        prune.global_unstructured(places, pruning_method=prune.L1Unstructured, amount=step.rate)
    else:
        cut = prune.random_unstructured if step.method == "prune-random" else prune.l1_unstructured
        for layer, name in places:
            cut(layer, name, amount=step.rate)
    try:
        yield list(layers)
    finally:
        for layer, name in places:
            prune.remove(layer, name)


def as_sparse(subject: Subject, names: list[str]) -> Subject:
    """The same, whose layers `names` are stored without their zeros."""
    return subject.with_forms(dict.fromkeys(names, StoredLayer(form="sparse")))


def two_of_four(weight: Tensor) -> Tensor:
    """1 for the two largest of every four neighbouring inputs of an output, 0 for the others; the weight's shape."""
    groups = weight.detach().abs().flatten(1).unflatten(1, (-1, _GROUP))
    kept = torch.zeros_like(groups).scatter_(2, groups.topk(_KEPT, dim=2).indices, 1.0)
    return kept.view(weight.shape)


def without_channels(subject: Subject, rate: float) -> Subject:
    """A smaller network of what weighs most; of every layer at least one channel or unit stays.

    What a channel weighs is the norm of its filter, what a hidden unit weighs that of its inputs times its outputs' (Li
    et al., Pruning Filters for Efficient ConvNets, arXiv 1608.08710, section 3.1, with the L2 norm).
    """
    if isinstance(subject.module, Bert) and isinstance(subject.blueprint, BertConfig):
        return _thinner_encoder(subject.module, subject.blueprint, rate)
    if isinstance(subject.blueprint, Mlp):
        return _thinner_mlp(subject, subject.blueprint, rate)
    assert isinstance(subject.blueprint, Cnn)  # noqa: S101
    return _thinner_cnn(subject, subject.blueprint, rate)


def _heaviest(weights: Tensor, rate: float) -> Tensor:
    """Numbers of those that stay, in order."""
    count = max(1, round(len(weights) * (1 - rate)))
    return weights.topk(count).indices.sort().values


def _unit_weights(before: Layer, after: Layer) -> Tensor:
    return before.weight.detach().norm(dim=1) * after.weight.detach().norm(dim=0)


def _thinner_mlp(subject: Subject, blueprint: Mlp, rate: float) -> Subject:
    layers = [layer for layer in products(subject.module).values() if isinstance(layer, nn.Linear)]
    kept = [_heaviest(_unit_weights(*pair), rate) for pair in pairwise(layers)]
    smaller = blueprint.model_copy(update={"sizes": (blueprint.sizes[0], *map(len, kept), blueprint.sizes[-1])})
    inputs = torch.arange(blueprint.sizes[0])
    found = build(smaller).to(layers[0].weight.device)
    for layer, old, rows, columns in zip(
        products(found).values(), layers, [*kept, torch.arange(blueprint.sizes[-1])], [inputs, *kept], strict=True
    ):
        _fill(layer, old.weight[rows][:, columns], old.bias, rows)
    return Subject(smaller, found.eval())


def _thinner_cnn(subject: Subject, blueprint: Cnn, rate: float) -> Subject:
    old = list(products(subject.module).values())
    filters, dense = old[: len(blueprint.channels)], old[len(blueprint.channels) :]
    kept = [_heaviest(layer.weight.detach().flatten(1).norm(dim=1), rate) for layer in filters]
    pixels = blueprint.feature_size**2
    features = (kept[-1][:, None] * pixels + torch.arange(pixels, device=kept[-1].device)).flatten()
    hidden = [_heaviest(_unit_weights(*dense), rate)] if blueprint.hidden else []
    smaller = blueprint.model_copy(
        update={"channels": tuple(map(len, kept)), "hidden": len(hidden[0]) if hidden else 0}
    )
    rows = [*kept, *hidden, torch.arange(blueprint.classes)]
    columns = [torch.arange(1), *kept[:-1], features, *hidden]
    found = build(smaller).to(filters[0].weight.device)
    for layer, before, into, out_of in zip(products(found).values(), old, rows, columns, strict=True):
        _fill(layer, before.weight[into][:, out_of], before.bias, into)
    return Subject(smaller, found.eval())


def _thinner_encoder(module: Bert, config: BertConfig, rate: float) -> Subject:
    """Units of the feed-forward layers go, as many of each; the width of what passes between layers stays."""
    smaller = config.model_copy(update={"intermediate_size": max(1, round(config.intermediate_size * (1 - rate)))})
    found = Bert(smaller).to(next(module.parameters()).device)
    state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    layers = products(module)
    for number in range(config.num_hidden_layers):
        name = f"encoder.layer.{number}"
        before, after = layers[f"{name}.intermediate.dense"], layers[f"{name}.output.dense"]
        kept = _heaviest(_unit_weights(before, after), rate)
        state[f"{name}.intermediate.dense.weight"] = before.weight.detach()[kept]
        state[f"{name}.intermediate.dense.bias"] = state[f"{name}.intermediate.dense.bias"][kept]
        state[f"{name}.output.dense.weight"] = after.weight.detach()[:, kept]
    found.load_state_dict(state)
    return Subject(smaller, found.eval().requires_grad_(True))


def _fill(layer: Layer, weight: Tensor, bias: Tensor | None, rows: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias[rows])
