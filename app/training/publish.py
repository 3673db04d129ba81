"""From the last checkpoint of a run to a version in the model repository, with its card.

Knows nothing of Ray. torch is imported only to export a program; plain weights are copied as they are.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from app.clock import Clock
from app.domain.tensor import Datatype, TensorSpec
from app.models.card import DataCard, EnergyCard, ModelCard
from app.models.repository import ModelRepository
from app.product import version_of
from app.training.data import SOURCES
from app.training.job import Publication, TrainJob
from app.units import NS_PER_S

_WEIGHTS_FILE, _PROGRAM_FILE = "model.safetensors", "model.pt2"


def publish(
    repository: ModelRepository,
    publication: Publication,
    job: TrainJob,
    checkpoint: Path,
    card: ModelCard,
) -> str:
    """Publish the weights in `checkpoint` under `card`; returns the version. Raises InvalidInput."""
    writers: dict[str, Callable[[Path], None]] = {
        "safetensors": lambda target: _copy_weights(checkpoint, target),
        "torch_export": lambda target: export_program(job, checkpoint / _WEIGHTS_FILE, target, publication.max_rows),
    }
    return repository.publish(publication.name, writers[publication.format], card)


def card_of(
    job: TrainJob,
    publication: Publication,
    *,
    run: str,
    metrics: Mapping[str, float],
    data: DataCard,
    energy: EnergyCard,
    clock: Clock,
) -> ModelCard:
    """The card of what `run` made; version and files are the repository's to fill in."""
    columns = SOURCES[job.data.source].columns
    builtin = publication.format == "safetensors"
    return ModelCard(
        name=publication.name,
        created=datetime.fromtimestamp(clock.wall_ns() / NS_PER_S, UTC).isoformat(timespec="seconds"),
        runner="builtin" if builtin else "exported",
        architecture=job.model,
        inputs=(TensorSpec(SOURCES[job.data.source].input_name, Datatype.FP32, (-1, columns)),),
        outputs=_outputs(job, builtin),
        max_rows=publication.max_rows,
        metrics=dict(metrics),
        data=(data,),
        energy=energy,
        code_version=code_version(),
        framework={name: version_of(name) for name in ("torch", "ray", "safetensors", "numpy")},
        job=run,
    )


def _outputs(job: TrainJob, builtin: bool) -> tuple[TensorSpec, ...]:
    size = job.model.output_size
    if job.loss == "mse":
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


def _copy_weights(checkpoint: Path, target: Path) -> None:
    shutil.copyfile(checkpoint / _WEIGHTS_FILE, target / _WEIGHTS_FILE)


def export_program(job: TrainJob, weights: Path, target: Path, max_rows: int) -> None:
    """Write the network with `weights` as a torch.export program whose number of rows is free up to `max_rows`."""
    import torch
    from safetensors.torch import load_file

    from app.models.architectures import build

    module = build(job.model)
    module.load_state_dict(load_file(weights))
    # An image network takes rows as clients send them, flat.
    flat = torch.nn.Sequential(torch.nn.Unflatten(1, job.model.input_shape), module).eval()
    columns = SOURCES[job.data.source].columns
    rows = torch.export.Dim("rows", min=1, max=max_rows)
    program = torch.export.export(flat, (torch.zeros(2, columns),), dynamic_shapes=({0: rows},))
    torch.export.save(program, target / _PROGRAM_FILE)
