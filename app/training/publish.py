"""From the last checkpoint of a run to a version in the model repository, with its card.

Knows nothing of Ray. torch is imported only where weights have to be read: to export a program, or to put those of a
model that was divided among workers together.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from app.clock import Clock
from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.models.blueprint import Blueprint, LanguageModel, Network
from app.models.card import DataCard, EnergyCard, ModelCard, RunnerKind
from app.models.repository import ModelRepository
from app.product import version_of
from app.training.data import SOURCES
from app.training.job import TrainJob
from app.training.parts import Publication
from app.units import NS_PER_S

Specs = tuple[TensorSpec, ...]

_WEIGHTS_FILE, _PROGRAM_FILE = "model.safetensors", "model.pt2"
_MADE_WITH, _MADE_TEXT_WITH = ("torch", "ray", "safetensors", "numpy"), ("transformers", "tokenizers")

_READERS = ("generator", "encoder")
_TEXT: Specs = (TensorSpec("text", Datatype.BYTES, (-1,)),)
"""What an encoder takes."""
_PROMPT: Specs = (TensorSpec("prompt", Datatype.BYTES, (-1,)),)
_CONTINUATION: Specs = (TensorSpec("text", Datatype.BYTES, (-1,)), TensorSpec("finish_reason", Datatype.BYTES, (-1,)))
"""What a language model is served with over the Open Inference Protocol."""


def publish(
    repository: ModelRepository,
    publication: Publication,
    job: TrainJob,
    checkpoint: Path,
    card: ModelCard,
    measured: Callable[[Path, ModelCard], ModelCard] = lambda _, card: card,
) -> str:
    """Publish the weights in `checkpoint` under `card`; returns the version. Raises InvalidInput.

    `measured` may add to the card what can be known of the written files alone.
    """
    writers: dict[str, Callable[[Path], None]] = {
        "safetensors": lambda target: _copy(job, checkpoint, target),
        "torch_export": lambda target: export_program(job, checkpoint, target, publication.max_rows),
    }
    cards: list[ModelCard] = []

    def write(target: Path) -> None:
        writers[publication.format](target)
        cards.append(measured(target, card))

    return repository.publish(publication.name, write, lambda: cards[0])


def card_of(
    job: TrainJob,
    publication: Publication,
    *,
    checkpoint: Path,
    run: str,
    metrics: Mapping[str, float],
    data: DataCard,
    energy: EnergyCard,
    clock: Clock,
) -> ModelCard:
    """The card of what `run` made; version and files are the repository's to fill in."""
    runner, inputs, outputs = _face(job, job.model, publication.format, checkpoint)
    return ModelCard(
        name=publication.name,
        created=datetime.fromtimestamp(clock.wall_ns() / NS_PER_S, UTC).isoformat(timespec="seconds"),
        runner=runner,
        architecture=None if runner == "encoder" else job.model,
        inputs=inputs,
        outputs=outputs,
        max_rows=publication.max_rows,
        metrics=dict(metrics),
        data=(data,),
        energy=energy,
        code_version=code_version(),
        framework={name: version_of(name) for name in _MADE_WITH + _MADE_TEXT_WITH * (runner in _READERS)},
        job=run,
    )


def _face(job: TrainJob, model: Blueprint, format: str, checkpoint: Path) -> tuple[RunnerKind, Specs, Specs]:
    """Who runs it, what it takes and what it gives."""
    if job.loss == "contrastive":
        return "encoder", _TEXT, _embedding(checkpoint)
    if not isinstance(model, Network):
        return "generator", _PROMPT, _CONTINUATION
    source = SOURCES.get(job.data.source)
    name = source.input_name if source else "features"
    inputs = (TensorSpec(name, Datatype.FP32, (-1, math.prod(model.input_shape))),)
    builtin = format == "safetensors"
    return ("builtin" if builtin else "exported"), inputs, _outputs(job.loss, model.output_size, builtin)


def _embedding(checkpoint: Path) -> Specs:
    width = int(json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    return (TensorSpec("embedding", Datatype.FP32, (-1, width)),)


def _outputs(loss: str, size: int, builtin: bool) -> Specs:
    if loss == "mse":
        return (TensorSpec("prediction", Datatype.FP32, (-1, size)),)
    logits = TensorSpec("logits", Datatype.FP32, (-1, size))
    # An exported program gives what the network gives; the runner of built-in networks adds the class.
    return (logits, TensorSpec("class", Datatype.INT64, (-1,))) if builtin else (logits,)


def code_version() -> str:
    """`<distribution version>+src.<digest>`: the digest is over our own sources, so it holds without a git checkout."""
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return f"{version_of()}+src.{digest.hexdigest()[:12]}"


def _copy(job: TrainJob, checkpoint: Path, target: Path) -> None:
    """The weights and, of a model that reads texts, what makes the version one that transformers could load."""
    from app.training.checkpoint import copy_weights

    copy_weights(checkpoint, target / _WEIGHTS_FILE)
    if isinstance(job.model, LanguageModel):
        from app.training.text_files import write_text_files

        write_text_files(job.model, checkpoint, target, encoder=job.loss == "contrastive")


def export_program(job: TrainJob, checkpoint: Path, target: Path, max_rows: int) -> None:
    """Write the network with its weights as a torch.export program whose number of rows is free up to `max_rows`."""
    import torch
    from safetensors.torch import load_file

    from app.models.architectures import build
    from app.training.checkpoint import copy_weights

    model = job.model
    if not isinstance(model, Network):
        raise InvalidInput(f"a {model.architecture} is not exported; publish it as safetensors")
    copy_weights(checkpoint, target / _WEIGHTS_FILE)
    module = build(model)
    module.load_state_dict(load_file(target / _WEIGHTS_FILE))
    (target / _WEIGHTS_FILE).unlink()
    # A network takes rows as clients send them, flat.
    flat = torch.nn.Sequential(torch.nn.Unflatten(1, model.input_shape), module).eval()
    rows = torch.export.Dim("rows", min=1, max=max_rows)
    program = torch.export.export(flat, (torch.zeros(2, math.prod(model.input_shape)),), dynamic_shapes=({0: rows},))
    torch.export.save(program, target / _PROGRAM_FILE)
