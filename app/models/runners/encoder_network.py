"""The network of a transformers checkpoint: our own BERT where it is one, else what the transformers library builds.

Knows nothing of text. Our own costs nothing to import (bert.py says why); the library costs seconds at every cold
start, so it is asked only for what we have not. It builds its own classes only: code that comes with a checkpoint is
never run, and weights are read from safetensors alone. Importing this file imports torch.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from app.errors import InvalidInput
from app.models.bert import Bert, BertConfig
from app.models.runners.encoder_layout import read_json
from app.models.stored_layers import read_forms, restore


def load_network(directory: Path, device: torch.device) -> tuple[nn.Module, int]:
    """The module, called with tokens and mask (None: no padding) [rows, length], and the width of its hidden states."""
    try:
        config = BertConfig.model_validate(read_json(directory / "config.json"))
    except ValidationError:
        return _load_by_library(directory, device)
    return _load_bert(directory, config, device), config.hidden_size


def _load_bert(directory: Path, config: BertConfig, device: torch.device) -> Bert:
    with torch.device("meta"):
        module = Bert(config)
    try:
        weights = load_file(directory / "model.safetensors", device=str(device))
    except (OSError, SafetensorError) as error:
        raise InvalidInput(f"{directory / 'model.safetensors'} cannot be read: {error}") from error
    # A checkpoint of a model with a head on top has the encoder under its name.
    weights = {name.removeprefix("bert."): tensor for name, tensor in weights.items()}
    weights = restore(module, weights, read_forms(directory))
    wanted = module.state_dict().keys()
    missing = sorted(wanted - weights.keys())
    if missing:
        raise InvalidInput(f"{directory / 'model.safetensors'} lacks {missing[0]} and {len(missing) - 1} more tensors")
    module.load_state_dict({name: weights[name] for name in wanted}, assign=True)
    return module.eval().requires_grad_(False)


def untrained_network(directory: Path) -> nn.Module:
    """The module that `load_network` fills, without weights: for those that a checkpoint of a training run has."""
    told = read_json(directory / "config.json")
    try:
        return Bert(BertConfig.model_validate(told))
    except ValidationError:
        from transformers import AutoConfig, AutoModel

        model: Any = AutoModel.from_config(AutoConfig.from_pretrained(directory, local_files_only=True))
        return LibraryEncoder(model.float())


class LibraryEncoder(nn.Module):
    """A model of the library with the call of ours."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        attended = torch.ones_like(tokens) if mask is None else mask.long()
        hidden: Tensor = self.model(input_ids=tokens, attention_mask=attended).last_hidden_state
        return hidden


def _load_by_library(directory: Path, device: torch.device) -> tuple[nn.Module, int]:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise InvalidInput(
            f"{directory / 'config.json'} is no BERT of the plain kind; for others: pip install transformers"
        ) from error
    try:
        model = AutoModel.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{directory} is no encoder that transformers can load: {error}") from error
    if getattr(model.config, "is_encoder_decoder", False):
        raise InvalidInput(f"{directory} is an encoder and a decoder; this runner serves encoders alone")
    return LibraryEncoder(model.to(device)).eval().requires_grad_(False), int(model.config.hidden_size)
