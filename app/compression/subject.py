"""A model version opened for compression: its network as a torch module, how to ask it, and how to write it again.

Knows nothing of repositories, jobs or data. Two families: the built-in perceptron and convolutional network, and the
BERT encoder. Steps change the module or put another in its place, and say in `forms` how layers are to be stored.
Importing this file imports torch. Raises InvalidInput for versions of another kind.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from app.errors import InvalidInput
from app.models.architectures import build
from app.models.bert import Bert, BertConfig
from app.models.blueprint import Cnn, Mlp
from app.models.card import ModelCard
from app.models.runners.base import Runner
from app.models.runners.builtin import WEIGHTS_FILE, BuiltinRunner
from app.models.runners.encoder import EncoderRunner
from app.models.runners.encoder_layout import read_json
from app.models.runners.encoder_network import load_network
from app.models.stored_layers import FORMS_FILE, StoredLayer, store, write_forms
from app.models.weights import own_tensors

CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is being compressed, as far as it has come."""

    blueprint: Mlp | Cnn | BertConfig
    module: nn.Module
    forms: Mapping[str, StoredLayer] = field(default_factory=dict)
    """Of layers that are not stored as they are, by name."""

    def with_forms(self, forms: Mapping[str, StoredLayer]) -> "Subject":
        """The same with more of them; of a layer the last counts."""
        return replace(self, forms={**self.forms, **forms})

    @property
    def is_encoder(self) -> bool:
        """Texts in, embeddings out."""
        return isinstance(self.blueprint, BertConfig)


def open_subject(card: ModelCard, directory: Path, device: torch.device) -> Subject:
    """The network of a version, ready to be trained on."""
    if (directory / FORMS_FILE).exists() or card.variant:
        raise InvalidInput(
            f"{card.name}@{card.version} is compressed already; compress {card.name}, the version that it was made "
            "from, and give all steps in one job"
        )
    blueprint = _blueprint(card, directory)
    if isinstance(blueprint, BertConfig):
        module: nn.Module = load_network(directory, device)[0]
    else:
        module = build(blueprint).to(device)
        module.load_state_dict(load_file(directory / WEIGHTS_FILE, device=str(device)))
    return Subject(blueprint, module.eval().requires_grad_(True))


def _blueprint(card: ModelCard, directory: Path) -> Mlp | Cnn | BertConfig:
    if card.runner == "builtin" and isinstance(card.architecture, Mlp | Cnn):
        if isinstance(card.architecture, Cnn) and card.architecture.exit_confidence:
            raise InvalidInput(f"{card.name}@{card.version} has early exits; compress the version without them")
        return card.architecture
    if card.runner == "encoder":
        with suppress(ValidationError):
            return BertConfig.model_validate(read_json(directory / CONFIG_FILE))
    raise InvalidInput(
        f"{card.name}@{card.version} is of runner {card.runner}; what can be compressed so: a perceptron or a "
        "convolutional network published as safetensors, and a BERT encoder. For language models: "
        "joulekeeper models quantize"
    )


def write_subject(subject: Subject, base: Path, files: Mapping[str, str], target: Path) -> None:
    """Write weights, forms and shape into `target`, and every other of the base's `files` as it is."""
    for relative in files.keys() - {WEIGHTS_FILE, FORMS_FILE}:
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / relative, target / relative)
    if isinstance(subject.blueprint, BertConfig):
        told = read_json(base / CONFIG_FILE) | {
            "intermediate_size": subject.blueprint.intermediate_size,
            "num_hidden_layers": subject.blueprint.num_hidden_layers,
        }
        (target / CONFIG_FILE).write_text(json.dumps(told, indent=2), encoding="utf-8")
    tensors = {name: tensor.detach().cpu() for name, tensor in own_tensors(subject.module).items()}
    stored = store(tensors, subject.forms)
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, target / WEIGHTS_FILE, {"format": "pt"})
    write_forms(target, subject.forms)


def card_of(subject: Subject, base: ModelCard) -> ModelCard:
    """The base's card with the shape of `subject`, as a runner needs it."""
    names = dict.fromkeys([WEIGHTS_FILE, *base.files, *([FORMS_FILE] if subject.forms else [])], "0" * 64)
    shape = {} if isinstance(subject.blueprint, BertConfig) else {"architecture": subject.blueprint}
    return base.model_copy(update={**shape, "files": names})


def open_runner(card: ModelCard, directory: Path, device: str) -> Runner:
    """What serves such a version."""
    if card.runner == "encoder":
        return EncoderRunner(directory, card.name, card.version, device=device, max_rows=card.max_rows)
    return BuiltinRunner(card, directory, device=device)


def weights_bytes(directory: Path) -> int:
    """Bytes of the weights and of what says how to read them."""
    paths = (directory / name for name in (WEIGHTS_FILE, FORMS_FILE))
    return sum(path.stat().st_size for path in paths if path.exists())


def products(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Linear layers and convolutions by name, inputs first."""
    return {name: each for name, each in module.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)}


def tables(module: nn.Module) -> dict[str, nn.Embedding]:
    """Embeddings by name."""
    return {name: each for name, each in module.named_modules() if isinstance(each, nn.Embedding)}


def hidden_outputs(subject: Subject) -> list[str]:
    """Names of the modules whose outputs are what a network thinks, inputs first: of an encoder each of its layers."""
    if isinstance(subject.module, Bert):
        return [f"encoder.layer.{number}" for number in range(len(subject.module.encoder.layer))]
    *_, last = products(subject.module)
    names = [name for name, _ in subject.module.named_modules()]
    return [names[names.index(last) - 1]]
