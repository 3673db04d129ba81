"""Job files: what a training job is, read from YAML with every mistake named at once.

Knows nothing of Ray or torch. `deployments/jobs/digits.yaml` is the example to start from.

    job = load_job(Path("deployments/jobs/digits.yaml"))
    job.name, job.workers, job.epochs                 # ("digits", 2, 14)

Raises InvalidInput listing all mistakes, each with its path, its value, the bound and what to do.
"""

import math
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from app.errors import InvalidInput
from app.models.blueprint import Blueprint, Cnn, Mlp
from app.training.data import SOURCES, Source
from app.training.faults import describe
from app.units import NS_PER_S


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_source(name: str) -> str:
    if name not in SOURCES:
        raise ValueError(f"must be one of {', '.join(SOURCES)}")
    return name


class DataSource(_Part):
    """Where rows come from and how they are split."""

    source: Annotated[str, AfterValidator(_known_source)]
    """One of data.SOURCES."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the rows held out for the test."""
    seed: int = Field(default=0, ge=0)
    """Decides which rows are held out."""


class Optimiser(_Part):
    """How weights are moved."""

    name: Literal["adam", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0, le=10)
    """Learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes over the epochs: as it is, or down to nothing along half a cosine."""


class Resources(_Part):
    """What one worker reserves on its node."""

    cpu: float = Field(default=0.5, ge=0)
    gpu: float = Field(default=0.0, ge=0)
    """Accelerators per worker; fractions share one."""


class Target(_Part):
    """What must be reached on held-out rows for the job to succeed and its model to be published."""

    metric: Literal["accuracy", "r2"]
    at_least: float


class Publication(_Part):
    """Where the result goes in the model repository."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    format: Literal["safetensors", "torch_export"] = "safetensors"
    """`safetensors`: weights for the built-in network. `torch_export`: a program with a free batch size."""
    max_rows: int = Field(default=4096, ge=1, le=1_000_000)
    """Rows that the served model accepts in one request."""


class Report(_Part):
    """What the driver prints at the end."""

    formulas: bool = False
    """Show E = P x t and E = sum over servers of P_server x t with measured figures."""


class TrainJob(_Part):
    """One training job."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    """For people and the ledger; a run is `<name>-<UTC time>`."""
    kind: Literal["train"] = "train"
    tenant: str = Field(default="default", min_length=1, max_length=64)
    """Who is charged."""
    model: Blueprint
    data: DataSource
    optimiser: Optimiser = Optimiser()
    loss: Literal["cross_entropy", "mse"]
    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Rows per worker and optimiser step."""
    workers: int = Field(default=1, ge=1, le=1024)
    resources: Resources = Resources()
    checkpoint_epochs: int = Field(default=1, ge=1)
    """Epochs between checkpoints: what a lost worker can cost."""
    max_failures: int = Field(default=3, ge=0)
    """Losses of a worker that are survived."""
    seed: int = Field(default=0, ge=0)
    """Decides initial weights and the order of rows."""
    target: Target | None = None
    publish: Publication | None = None
    report: Report = Report()
    storage: str = ""
    """Where checkpoints go: a path or URL every node can write. Empty: `jobs` below the state directory."""

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainJob":
        faults = _mismatches(dict(self))
        if faults:
            raise ValueError("; ".join(faults))
        return self


def load_job(path: Path) -> TrainJob:
    """The job in the file at `path`. Raises InvalidInput naming all mistakes."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"job file {path} cannot be read: {error.strerror}; give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"job file {path} is not YAML: {error}") from error
    return parse_job(raw, str(path))


def parse_job(raw: Any, where: str) -> TrainJob:
    """The job in `raw`, a mapping as YAML gives it. Raises InvalidInput naming `where` and all mistakes."""
    if not isinstance(raw, dict):
        raise InvalidInput(f"job file {where} must be a mapping of keys to values, got {type(raw).__name__}")
    try:
        return TrainJob.model_validate(raw)
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
        lines = describe(error, TrainJob, raw) + _mismatches(_valid_fields(raw, wrong))
        count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}"
        raise InvalidInput(f"job file {where} has {count}:\n" + "\n".join(f"  - {line}" for line in lines)) from error


def run_name(job: str, wall_ns: int) -> str:
    """`<job>-<UTC time>`: under which the ledger and the storage know one run of a job."""
    return f"{job}-{datetime.fromtimestamp(wall_ns / NS_PER_S, UTC):%Y%m%d-%H%M%S}"


def _valid_fields(raw: Mapping[str, Any], wrong: Set[str]) -> dict[str, Any]:
    """The fields of `raw` that are right by themselves, so that what they contradict can be named too."""
    kinds = get_type_hints(TrainJob, include_extras=True)
    names = raw.keys() & TrainJob.model_fields.keys() - wrong
    return {name: TypeAdapter(kinds[name]).validate_python(raw[name]) for name in names}


def _mismatches(job: Mapping[str, Any]) -> list[str]:
    """Fields that are right by themselves but contradict one another; missing fields are skipped."""
    faults = []
    model, data, target = job.get("model"), job.get("data"), job.get("target")
    if isinstance(model, Cnn) and model.feature_size < 1:
        most = model.image_size.bit_length() - 1
        faults.append(
            f"model.channels: {len(model.channels)} convolutions, but an image of {model.image_size} pixels "
            f"can be halved {most} times; use at most {most} channels"
        )
    if data is None:
        return faults
    source = SOURCES[data.source]
    if job.get("loss", source.loss) != source.loss:
        faults.append(f"loss: {data.source} needs {source.loss}, got {job['loss']!r}")
    if target and target.metric != source.metric:
        faults.append(f"target.metric: {data.source} is measured by {source.metric}, got {target.metric!r}")
    return faults + (_misfits(model, data.source, source) if model else [])


def _misfits(model: Mlp | Cnn, name: str, source: Source) -> list[str]:
    columns = math.prod(model.input_shape)
    faults = []
    if columns != source.columns:
        faults.append(f"model: {name} has {source.columns} values per row, the model takes {columns}")
    if model.output_size != source.outputs:
        faults.append(f"model: {name} needs {source.outputs} outputs, the model gives {model.output_size}")
    return faults
