"""Job files: what a training job is, read from YAML with every mistake named at once.

Knows nothing of Ray or torch. `deployments/jobs/digits.yaml` is the example to start from.

    job = load_job(Path("deployments/jobs/digits.yaml"))
    job.name, job.workers, job.epochs                 # ("digits", 2, 14)

Raises InvalidInput listing all mistakes, each with its path, its value, the bound and what to do.
"""

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from app.errors import InvalidInput
from app.models.blueprint import Blueprint
from app.training.contradictions import mismatches
from app.training.data import SOURCES
from app.training.faults import describe
from app.training.texts import TEXT_SOURCES
from app.units import NS_PER_S


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_source(name: str) -> str:
    known = (*SOURCES, *TEXT_SOURCES)
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return name


class DataSource(_Part):
    """Where rows or texts come from and how they are split."""

    source: Annotated[str, AfterValidator(_known_source)]
    """One of data.SOURCES or, for a language model, of texts.TEXT_SOURCES."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the rows held out for the test; of texts about that share of their number."""
    seed: int = Field(default=0, ge=0)
    """Decides which rows or texts are held out."""


class Optimiser(_Part):
    """How weights are moved."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """`adamw` decays weights apart from the gradient, and vectors (norms) not at all."""
    lr: float = Field(default=1e-3, gt=0, le=10)
    """Learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """How slowly adam and adamw forget the squares of gradients; 0.95 is usual for language models."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Gradients whose norm is larger are scaled down to it; 0: as they are."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises to its course; 0: it begins there."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes over the epochs: as it is, or down to nothing along half a cosine."""


class Resources(_Part):
    """What one worker reserves on its node."""

    cpu: float = Field(default=0.5, ge=0)
    gpu: float = Field(default=0.0, ge=0)
    """Accelerators per worker; fractions share one."""


class Target(_Part):
    """What must be reached on what is held out for the job to succeed and its model to be published."""

    metric: Literal["accuracy", "r2", "bits_per_byte"]
    at_least: float | None = None
    at_most: float | None = None
    below: Literal["", "gzip_9", "zstd_19"] = ""
    """Bits per byte of the same held-out text, packed by `gzip -9` or `zstd -19`, that must be undercut."""

    @model_validator(mode="after")
    def _is_one_bound(self) -> "Target":
        given = [name for name in ("at_least", "at_most", "below") if getattr(self, name) not in (None, "")]
        if len(given) != 1:
            raise ValueError("needs one of at_least, at_most and below, and no more")
        if self.below and self.metric != "bits_per_byte":
            raise ValueError(f"below = {self.below} is a bound for bits_per_byte alone")
        return self

    def reached(self, metrics: Mapping[str, float]) -> bool:
        """Whether `metrics` are within the bound."""
        value = metrics[self.metric]
        if self.at_least is not None:
            return value >= self.at_least
        return value < metrics[self.below] if self.below else value <= float(self.at_most or 0)

    def __str__(self) -> str:
        if self.below:
            return f"{self.metric} < {self.below}"
        return f"{self.metric} >= {self.at_least}" if self.at_most is None else f"{self.metric} <= {self.at_most}"


class Publication(_Part):
    """Where the result goes in the model repository."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    format: Literal["safetensors", "torch_export"] = "safetensors"
    """`safetensors`: weights for the built-in network or the language model. `torch_export`: a program with a free
    batch size, of a network."""
    max_rows: int = Field(default=4096, ge=1, le=1_000_000)
    """Rows that the served network accepts in one request; a language model has its context instead."""


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
    loss: Literal["cross_entropy", "mse", "next_token"]
    epochs: int = Field(ge=1, le=100_000)
    epoch_steps: int = Field(default=0, ge=0)
    """Optimiser steps of an epoch of a language model, whose texts may be too many for one; 0: a pass over them."""
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Rows per worker and optimiser step; of texts, windows of `model.context` tokens."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In what a step multiplies; weights, their sums and the optimiser stay in float32."""
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
        faults = mismatches(dict(self))
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
        lines = describe(error, TrainJob, raw) + mismatches(_valid_fields(raw, wrong))
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
