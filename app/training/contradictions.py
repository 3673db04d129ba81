"""Fields of a job that are right by themselves but contradict one another.

Knows nothing of files or YAML; what a field may be alone is said in parts.py and blueprint.py.
"""

import math
from collections.abc import Mapping
from typing import Any

from app.models.blueprint import Cnn, LanguageModel, Llama, Network, Pretrained, UserModule
from app.training.data import SOURCES, Source
from app.training.pairs import PAIR_SOURCES
from app.training.parallel_rules import parallel_faults
from app.training.parts import PARQUET
from app.training.texts import TEXT_SOURCES


def mismatches(job: Mapping[str, Any]) -> list[str]:
    """One sentence for each contradiction among the fields of a TrainJob by name; missing fields are skipped."""
    faults = []
    model, data = job.get("model"), job.get("data")
    if isinstance(model, Cnn) and model.feature_size < 1:
        most = model.image_size.bit_length() - 1
        faults.append(
            f"model.channels: {len(model.channels)} convolutions, but an image of {model.image_size} pixels "
            f"can be halved {most} times; use at most {most} channels"
        )
    if data is not None:
        faults += _misuse_of_data(job, model, data)
    return faults + _unpublishable(job, model) + _impossible_steps(job) + _unplannable(job) + parallel_faults(job)


def _misuse_of_data(job: Mapping[str, Any], model: Any, data: Any) -> list[str]:
    if data.source.startswith(PARQUET):
        return _parquet_mismatches(job, model, data.source)
    if data.source in TEXT_SOURCES:
        return _text_mismatches(job, model, data.source)
    if data.source in PAIR_SOURCES:
        return _pair_mismatches(job, model, data.source)
    source, faults = SOURCES[data.source], []
    if isinstance(model, LanguageModel):
        faults.append(
            f"model: {data.source} gives rows of numbers; a {model.architecture} takes one of "
            f"{', '.join((*TEXT_SOURCES, *PAIR_SOURCES))}"
        )
        model = None
    faults += _wrong_loss_and_metric(job, data.source, source.loss, source.metric)
    faults += _whole_passes(job, data.source)
    return faults + (_misfits(model, data.source, source) if model else [])


def _text_mismatches(job: Mapping[str, Any], model: Any, name: str) -> list[str]:
    faults = []
    if model is not None and not isinstance(model, LanguageModel):
        faults.append(
            f"model: {name} gives texts, which a {model.architecture} cannot read; use architecture llama or "
            "transformers"
        )
    return faults + _wrong_loss_and_metric(job, name, "next_token", "bits_per_byte")


def _pair_mismatches(job: Mapping[str, Any], model: Any, name: str) -> list[str]:
    faults = []
    if model is not None and not (isinstance(model, Pretrained) and model.source):
        faults.append(
            f"model: {name} gives pairs of texts, which a {model.architecture} without weights cannot compare; use "
            "architecture transformers with the source of an encoder"
        )
    return faults + _wrong_loss_and_metric(job, name, "contrastive", "recall_at_1")


def _parquet_mismatches(job: Mapping[str, Any], model: Any, name: str) -> list[str]:
    """What the files hold is known only when they are opened; the model says what it needs of them."""
    if isinstance(model, LanguageModel):
        return _wrong_loss_and_metric(job, name, "next_token", "bits_per_byte")
    loss = job.get("loss", "cross_entropy")
    if loss not in ("cross_entropy", "mse"):
        return [f"loss: rows of numbers need cross_entropy or mse, got {loss!r}"]
    metric = "accuracy" if loss == "cross_entropy" else "r2"
    return _wrong_loss_and_metric(job, name, loss, metric) + _whole_passes(job, name)


def _wrong_loss_and_metric(job: Mapping[str, Any], name: str, loss: str, metric: str) -> list[str]:
    faults, target = [], job.get("target")
    if job.get("loss", loss) != loss:
        faults.append(f"loss: {name} needs {loss}, got {job['loss']!r}")
    if target and target.metric != metric:
        faults.append(f"target.metric: {name} is measured by {metric}, got {target.metric!r}")
    return faults


def _whole_passes(job: Mapping[str, Any], name: str) -> list[str]:
    if not job.get("epoch_steps"):
        return []
    return [f"epoch_steps: {name} is learned in whole passes, got {job['epoch_steps']}; remove it"]


def _misfits(model: Network, name: str, source: Source) -> list[str]:
    columns = math.prod(model.input_shape)
    faults = []
    if columns != source.columns:
        faults.append(f"model: {name} has {source.columns} values per row, the model takes {columns}")
    if model.output_size != source.outputs:
        faults.append(f"model: {name} needs {source.outputs} outputs, the model gives {model.output_size}")
    return faults


def _unpublishable(job: Mapping[str, Any], model: Any) -> list[str]:
    publication = job.get("publish")
    if publication is None or model is None:
        return []
    if isinstance(model, LanguageModel) and publication.format != "safetensors":
        kind = "language model" if isinstance(model, Llama) else "transformers model"
        return [f"publish.format: a {kind} is published as safetensors, got {publication.format!r}"]
    if isinstance(model, UserModule) and publication.format != "torch_export":
        return [
            f"publish.format: code of yours is published as torch_export, which needs none of it to be served, got "
            f"{publication.format!r}"
        ]
    return []


def _impossible_steps(job: Mapping[str, Any]) -> list[str]:
    faults = []
    passes, rows = job.get("accumulation", 1), job.get("batch_size", 32)
    if passes > rows:
        faults.append(f"accumulation: {passes} passes of a batch of {rows} rows; use at most {rows}")
    optimiser = job.get("optimiser")
    if optimiser and optimiser.momentum and optimiser.name != "sgd":
        faults.append(
            f"optimiser.momentum: {optimiser.name} has its own, got {optimiser.momentum}; remove it or use sgd"
        )
    return faults


def _unplannable(job: Mapping[str, Any]) -> list[str]:
    start, workers = job.get("start"), job.get("workers")
    if start is None or workers is None or not start.speeds:
        return []
    faults = []
    strange = sorted(world for world in start.speeds if not workers.min <= world <= workers.max)
    if strange:
        faults.append(f"start.speeds: {strange[0]} workers are not within workers = {workers.min} to {workers.max}")
    if workers.max not in start.speeds:
        faults.append(f"start.speeds: says nothing of workers.max = {workers.max}; add it")
    return faults
