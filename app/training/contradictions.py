"""Fields of a job that are right by themselves but contradict one another.

Knows nothing of files or YAML; what a field may be alone is said in job.py.
"""

import math
from collections.abc import Mapping
from typing import Any

from app.models.blueprint import Cnn, Llama, Mlp
from app.training.data import SOURCES, Source
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
    if data is None:
        return faults
    if data.source in TEXT_SOURCES:
        return faults + _text_mismatches(job, data.source)
    source = SOURCES[data.source]
    if isinstance(model, Llama):
        faults.append(f"model: {data.source} gives rows of numbers; a llama takes one of {', '.join(TEXT_SOURCES)}")
        model = None
    faults += _wrong_loss_and_metric(job, data.source, source.loss, source.metric)
    if job.get("epoch_steps"):
        faults.append(f"epoch_steps: {data.source} is learned in whole passes, got {job['epoch_steps']}; remove it")
    return faults + (_misfits(model, data.source, source) if model else [])


def _text_mismatches(job: Mapping[str, Any], name: str) -> list[str]:
    faults = []
    model, publication = job.get("model"), job.get("publish")
    if model is not None and not isinstance(model, Llama):
        faults.append(f"model: {name} gives texts, which a {model.architecture} cannot read; use architecture llama")
    if publication and publication.format != "safetensors":
        faults.append(f"publish.format: a language model is published as safetensors, got {publication.format!r}")
    return faults + _wrong_loss_and_metric(job, name, "next_token", "bits_per_byte")


def _wrong_loss_and_metric(job: Mapping[str, Any], name: str, loss: str, metric: str) -> list[str]:
    faults, target = [], job.get("target")
    if job.get("loss", loss) != loss:
        faults.append(f"loss: {name} needs {loss}, got {job['loss']!r}")
    if target and target.metric != metric:
        faults.append(f"target.metric: {name} is measured by {metric}, got {target.metric!r}")
    return faults


def _misfits(model: Mlp | Cnn, name: str, source: Source) -> list[str]:
    columns = math.prod(model.input_shape)
    faults = []
    if columns != source.columns:
        faults.append(f"model: {name} has {source.columns} values per row, the model takes {columns}")
    if model.output_size != source.outputs:
        faults.append(f"model: {name} needs {source.outputs} outputs, the model gives {model.output_size}")
    return faults
