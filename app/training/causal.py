"""Language models to be trained: where module and tokenizer come from, new or with weights to go on from.

Knows nothing of texts, steps or workers. A checkpoint has the configuration and the tokenizer, so that a resumed run
asks neither its source nor the texts again. Code that comes with a model is never run. Importing this file imports
torch.

    origin = open_causal(model, checkpoint_directory)
    origin.build(), origin.tokenizer                  # None: it has to be trained, with origin.vocabulary tokens

Raises InvalidInput for a source that is no language model, or whose tokens nobody can count in bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from app.config import settings
from app.errors import InvalidInput
from app.models.architectures import build
from app.models.blueprint import END_TOKEN, LanguageModel, Llama, Pretrained
from app.models.sources import opened, texts_of
from app.training.tokenizer import is_byte_level

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"


_OF_RUNS = frozenset({"manifest.json", "history.json"})
"""What else a checkpoint has in words."""


@dataclass(frozen=True, slots=True)
class CausalOrigin:
    """What is known of a language model before it is trained."""

    build: Callable[[], nn.Module]
    """The module, on the CPU in float32: from torch's seed, or with its weights."""
    vocabulary: int
    tokenizer: Tokenizer | None
    end: int = END_TOKEN
    """The token between texts."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What belongs beside its weights, by name."""


def open_causal(model: LanguageModel, checkpoint: Path | None) -> CausalOrigin:
    """What `model` names; a checkpoint has what was made of it."""
    if isinstance(model, Llama):
        return CausalOrigin(lambda: build(model), model.vocabulary, _tokenizer(checkpoint))
    if checkpoint is not None:
        return _of_directory(checkpoint, weights=False)
    if model.source:
        with opened(model.source, settings().repository) as directory:
            return _of_directory(directory, weights=True)
    return _of_config(model)


def without_run_files(texts: Mapping[str, str]) -> dict[str, str]:
    """What belongs to the model, of texts that may come from a checkpoint."""
    return {name: text for name, text in texts.items() if name not in _OF_RUNS}


def _of_config(model: Pretrained) -> CausalOrigin:
    from transformers import AutoConfig

    told = {"bos_token_id": END_TOKEN, "eos_token_id": END_TOKEN, "pad_token_id": None, **model.config}
    try:
        config = AutoConfig.for_model(**told)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"model.config is none of the transformers library: {error}") from error
    files = {CONFIG_FILE: config.to_json_string(use_diff=False)}
    return CausalOrigin(lambda: _new(config), int(config.vocab_size), None, files=files)


def _of_directory(directory: Path, *, weights: bool) -> CausalOrigin:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    tokenizer = _tokenizer(directory)
    if tokenizer is None or not is_byte_level(tokenizer):
        raise InvalidInput(
            f"{directory} has no byte-level tokenizer, so bits per byte of its tokens cannot be told; use a model "
            f"whose {TOKENIZER_FILE} has the decoder ByteLevel"
        )
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    files = without_run_files(texts_of(directory))
    if not weights:
        return CausalOrigin(lambda: _new(config), int(config.vocab_size), tokenizer, int(end or 0), files)
    try:
        module: nn.Module = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{directory} is no language model that transformers can load: {error}") from error
    return CausalOrigin(lambda: module, int(config.vocab_size), tokenizer, int(end or 0), files)


def _new(config: Any) -> nn.Module:
    from transformers import AutoModelForCausalLM

    try:
        module: nn.Module = AutoModelForCausalLM.from_config(config).float()
    except ValueError as error:
        raise InvalidInput(f"model_type {config.model_type!r} is no language model: {error}") from error
    return module


def _tokenizer(directory: Path | None) -> Tokenizer | None:
    path = directory / TOKENIZER_FILE if directory else None
    return Tokenizer.from_file(str(path)) if path and path.is_file() else None
