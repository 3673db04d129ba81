"""From a version in the model repository to a language model that can be asked: engine, tokenizer, defaults.

Knows nothing of wires or servers. What a version of runner `generator` holds: `config.json` and `model.safetensors` as
transformers writes them, `tokenizer.json`, and if there are any `generation_config.json`, `chat_template.jinja` and
`tokenizer_config.json`. Importing this file imports torch and transformers.

    generator = load_generator("repository:pycoder", listener, repository=settings, options=EngineOptions())
    generator.engine.submit(Prompt("a", tuple(generator.tokenizer.encode("def ")), generator.defaults.sampling()))

Raises InvalidInput for a source or files it cannot read, NotFound for what is not there, BooksDamaged for altered
files.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.domain.generation import Sampling
from app.errors import InvalidInput
from app.models.card import ModelCard
from app.models.generation.continuous import ContinuousEngine
from app.models.generation.engine import GenerationEngine, Listener
from app.models.generation.network import Network
from app.models.generation.options import EngineOptions
from app.models.generation.tokenizer import ModelTokenizer
from app.models.repository import RepositorySettings, open_repository

_MAX_TOKENS = 16
"""New tokens where neither the request nor the publisher says; what OpenAI's completions do."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the publisher of a model recommends for a request that does not say."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int | None = None

    def sampling(self) -> Sampling:
        """For a request that says nothing at all."""
        return Sampling(self.max_tokens or _MAX_TOKENS, self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True, slots=True)
class Generator:
    """One loaded version."""

    card: ModelCard
    engine: GenerationEngine
    tokenizer: ModelTokenizer
    defaults: Defaults


def load_generator(
    source: str,
    listener: Listener,
    *,
    repository: RepositorySettings,
    device: str = "cpu",
    options: EngineOptions | None = None,
) -> Generator:
    """`repository:NAME` (its latest version) or `repository:NAME@VERSION`, loaded on `device`, its engine running."""
    kind, _, reference = source.partition(":")
    name, _, version = reference.partition("@")
    if kind != "repository" or not name:
        raise InvalidInput(f"source of a language model must be repository:NAME[@VERSION], got {source!r}")
    models = open_repository(repository)
    with models.open(name, models.resolve(name, version)) as (card, directory):
        if card.runner != "generator":
            raise InvalidInput(f"{name}@{card.version} has runner {card.runner}, not generator; serve it as a model")
        return open_generator(directory, card, listener, device=device, options=options)


def open_generator(
    directory: Path, card: ModelCard, listener: Listener, *, device: str = "cpu", options: EngineOptions | None = None
) -> Generator:
    """The version whose files are in `directory`."""
    chosen = options or EngineOptions()
    tokenizer = ModelTokenizer(directory)
    network = Network.load(directory, torch.device(device), chosen)
    if tokenizer.vocabulary > network.vocabulary:
        raise InvalidInput(
            f"{card.name}@{card.version}: its tokenizer has {tokenizer.vocabulary} tokens, its model "
            f"{network.vocabulary}; publish the tokenizer that the model was trained with"
        )
    return Generator(card, ContinuousEngine(network, listener, chosen), tokenizer, _defaults(directory))


def _defaults(directory: Path) -> Defaults:
    path = directory / "generation_config.json"
    try:
        told: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error
    greedy = told.get("do_sample") is False
    return Defaults(
        temperature=0.0 if greedy else float(told.get("temperature") or 1.0),
        top_p=float(told.get("top_p") or 1.0),
        top_k=int(told.get("top_k") or 0),
        max_tokens=told.get("max_new_tokens"),
    )
