"""Job files: what a training job is, read from YAML with every mistake named at once.

Knows nothing of Ray or torch. `deployments/jobs/digits.yaml` is the example to start from.

    job = load_job(Path("deployments/jobs/digits.yaml"))
    job.name, job.workers, job.epochs                 # ("digits", 2, 14)

Raises InvalidInput listing all mistakes, each with its path, its value, the bound and what to do.
"""

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from app.models.blueprint import Blueprint
from app.training.contradictions import mismatches
from app.training.faults import checked, read_yaml
from app.training.parts import (
    Budget,
    DataSource,
    Loss,
    Optimiser,
    Part,
    Publication,
    Report,
    Resources,
    Target,
    Tracking,
    Workers,
)
from app.training.place import Where
from app.training.start import Start
from app.units import NS_PER_S


class TrainJob(Part):
    """One training job."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    """For people and the ledger; a run is `<name>-<UTC time>`."""
    kind: Literal["train"] = "train"
    """Other kinds have schemas of their own."""
    tenant: str = Field(default="default", min_length=1, max_length=64)
    """Who is charged."""
    model: Blueprint
    data: DataSource
    optimiser: Optimiser = Optimiser()
    loss: Loss
    """What is made smaller: `cross_entropy` of classes, `mse` of values, `next_token` of texts, `contrastive` of
    pairs."""
    epochs: int = Field(ge=1, le=100_000)
    """Rounds of steps, each followed by an evaluation."""
    epoch_steps: int = Field(default=0, ge=0)
    """Optimiser steps of an epoch over texts or pairs of texts, which may be too many for one; 0: a pass over them."""
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Rows per worker and optimiser step when all `workers.max` are there; of texts, windows of `model.context`
    tokens. Fewer workers take larger shares: what a step learns from does not depend on how many share it."""
    accumulation: int = Field(default=1, ge=1, le=100_000)
    """Passes in which a worker takes its `batch_size` rows, gradients added up: less memory, the same step. A larger
    share takes more passes, so that memory does not grow when workers go."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """In what a step multiplies; weights, their sums and the optimiser stay in float32."""
    compile: Literal["", "static", "dynamic"] = ""
    """Whether steps are compiled by torch.compile: for each shape that comes, or once for all of them."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """`ddp`: every worker holds the whole model. `fsdp`: each holds a part of weights, gradients and optimiser."""
    tensor_parallel: int = Field(default=1, ge=1, le=1024)
    """Workers that divide the layers of one copy of the model among them; a divisor of `workers`."""
    workers: Workers = Workers(min=1, max=1)
    resources: Resources = Resources()
    checkpoint_epochs: int = Field(default=1, ge=1)
    """Epochs between checkpoints: what a lost worker can cost."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Optimiser steps of an epoch after which there is a checkpoint, too; 0: at the end of epochs alone."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Of the newest checkpoints so many are kept."""
    max_failures: int = Field(default=3, ge=0)
    """Losses of a worker that are survived."""
    seed: int = Field(default=0, ge=0)
    """Decides initial weights and the order of rows."""
    start: Start | None = None
    """When it runs, if not at once: by a deadline, at the hours with least carbon."""
    place: Where | None = None
    """In which zone it runs, if it matters: the one with least carbon that may have it."""
    target: Target | None = None
    budget: Budget | None = None
    publish: Publication | None = None
    report: Report = Report()
    tracking: Tracking = Tracking()
    storage: str = ""
    """Where checkpoints go: a path or URL every node can write. Empty: `jobs` below the state directory."""

    @property
    def step_rows(self) -> int:
        """Rows that an optimiser step learns from, over all workers."""
        return self.batch_size * self.workers.max // self.tensor_parallel

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainJob":
        faults = mismatches(dict(self))
        if faults:
            raise ValueError("; ".join(faults))
        return self


def load_job(path: Path) -> TrainJob:
    """The job in the file at `path`. Raises InvalidInput naming all mistakes."""
    return parse_job(read_yaml(path, "job file"), str(path))


def parse_job(raw: Any, where: str) -> TrainJob:
    """The job in `raw`, a mapping as YAML gives it. Raises InvalidInput naming `where` and all mistakes."""

    def contradictions(error: ValidationError) -> list[str]:
        wrong = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
        return mismatches(_valid_fields(raw, wrong))

    return checked(TrainJob, raw, f"job file {where}", contradictions)


def run_name(job: str, wall_ns: int) -> str:
    """`<job>-<UTC time>`: under which the ledger and the storage know one run of a job."""
    return f"{job}-{datetime.fromtimestamp(wall_ns / NS_PER_S, UTC):%Y%m%d-%H%M%S}"


def _valid_fields(raw: Mapping[str, Any], wrong: Set[str]) -> dict[str, Any]:
    """The fields of `raw` that are right by themselves, so that what they contradict can be named too."""
    kinds = get_type_hints(TrainJob, include_extras=True)
    names = raw.keys() & TrainJob.model_fields.keys() - wrong
    return {name: TypeAdapter(kinds[name]).validate_python(raw[name]) for name in names}
