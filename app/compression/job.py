"""Compression jobs: what is made smaller and how, from a job file or the command line, every mistake named at once.

Knows nothing of Ray or torch. `deployments/jobs/digits-small.yaml` is the example to start from.

    job = load_job(Path("deployments/jobs/digits-small.yaml"))
    job.model, [str(step) for step in job.steps]      # "digits", ["prune-channels rate=0.5 epochs=8", "int8"]

Raises InvalidInput listing all mistakes, each with its path, its value, the bound and what to do.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.training.faults import checked, read_yaml
from app.training.parts import Resources


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Step(_Part):
    def __str__(self) -> str:
        """The method, and what was set otherwise than by default."""
        said = self.model_dump(exclude_defaults=True, exclude={"method"})
        return " ".join([str(getattr(self, "method", "")), *(f"{name}={value}" for name, value in said.items())])


class _Tuned(_Step):
    """A step after which weights are trained on."""

    epochs: int = Field(default=8, ge=0, le=100_000)
    """Passes over the data that the model was trained on, or `epoch_steps` of it. 0: as the step leaves them."""
    epoch_steps: int = Field(default=0, ge=0)
    """Optimiser steps of an epoch at most; 0: a whole pass."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    lr: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate of Adam, falling to nothing along half a cosine."""


Rate = Annotated[float, Field(gt=0, lt=1)]


class Prune(_Tuned):
    """Zeros in place of single weights of linear layers and convolutions; they stay zero while the others are tuned."""

    method: Literal["prune-random", "prune-global", "prune-layerwise"]
    """Which go: any; the smallest of all layers together; the smallest of each layer."""
    rate: Rate = 0.5
    """Share of the weights that goes."""


class PruneTwoOfFour(_Tuned):
    """Of every four weights in a row of inputs the two smallest become zero: what sparse tensor cores can use."""

    method: Literal["prune-2-4"]


class PruneChannels(_Tuned):
    """Whole channels and hidden units go, so that what is left is a smaller network of the same kind."""

    method: Literal["prune-channels"]
    rate: Rate = 0.5
    """Share of the channels of each convolution, and of the units of each hidden layer, that goes."""


class Quantise(_Step):
    """Weights become integers; activations, too, with int8-dynamic, in the range that they have at the moment."""

    method: Literal["int8", "int4", "int8-dynamic"]


class QuantiseStatic(_Step):
    """Weights and activations become 8 bits wide; ranges of activations are found beforehand."""

    method: Literal["int8-static"]
    calibration_rows: int = Field(default=256, ge=1, le=1_000_000)
    """Rows or texts, of those to learn from, whose activations are looked at."""


class Binarise(_Tuned):
    """Weights become plus or minus one size for each output; gradients pass straight through the rounding.

    The first and the last layer, and embeddings, stay as they are.
    """

    method: Literal["binary"]


class Distil(_Tuned):
    """A smaller network learns to answer as the original does; with `features` also to think as it does."""

    method: Literal["distil-logits", "distil-features"]
    epochs: int = Field(default=20, ge=1, le=100_000)
    width: Rate = 0.5
    """Of a network: share of channels and hidden units that the smaller one has."""
    layers: int = Field(default=0, ge=0)
    """Of an encoder: layers that the smaller one has, taken from the original's; 0: half of them."""
    temperature: float = Field(default=4.0, gt=0)
    """Logits of both are divided by it."""


class DistilDataFree(_Step):
    """A smaller network learns from inputs that a generator invents; no training data is read.

    The generator is trained beside it, to find inputs of all classes on which the two disagree.
    """

    method: Literal["distil-data-free"]
    width: Rate = 0.5
    """As above."""
    rounds: int = Field(default=600, ge=1, le=1_000_000)
    """Of one step of the generator and some of the student."""
    batch_size: int = Field(default=64, ge=8, le=65_536)
    lr: float = Field(default=4e-3, gt=0, le=1)


class EarlyExit(_Tuned):
    """Exits after every pooling of a convolutional network: rows that it is sure of leave early."""

    method: Literal["early-exit"]
    confidence: float = Field(default=0.0, ge=0, lt=1)
    """How sure. 0: the least at which what was kept back of the training data loses no more than `tolerance`."""
    tolerance: float = Field(default=0.005, ge=0, lt=1)
    """Accuracy that may be lost by leaving early."""


_KINDS: tuple[type[_Step], ...] = (
    Prune,
    PruneTwoOfFour,
    PruneChannels,
    Quantise,
    QuantiseStatic,
    Binarise,
    Distil,
    DistilDataFree,
    EarlyExit,
)
STEPS: dict[str, type[_Step]] = {
    method: kind for kind in _KINDS for method in get_args(kind.model_fields["method"].annotation)
}
"""By method."""
METHODS = tuple(STEPS)
Step = Annotated[
    Prune | PruneTwoOfFour | PruneChannels | Quantise | QuantiseStatic | Binarise | Distil | DistilDataFree | EarlyExit,
    Field(discriminator="method"),
]
INTEGERS = ("int8", "int4", "int8-dynamic", "int8-static", "binary")
"""Methods that end a chain: what they leave is no longer trained."""


class Search(_Part):
    """Many chains of steps are tried, and the best compromises are published."""

    min_accuracy: float = Field(gt=0, le=1)
    """What a result must reach, of the metric that the model was measured by."""


class CompressJob(_Part):
    """One compression job."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    """For people and the ledger; a run is `<name>-<UTC time>`."""
    kind: Literal["compress"] = "compress"
    tenant: str = Field(default="default", min_length=1, max_length=64)
    """Who is charged."""
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[1-9][0-9]*)?$")
    """`NAME`, its latest version, or `NAME@VERSION` of the model repository."""
    steps: tuple[Step, ...] = ()
    """What is done, in turn."""
    search: Search | None = None
    """In place of `steps`."""
    variant: str = Field(default="", pattern=r"^([a-z][a-z0-9]{0,31})?$")
    """What the result is called: `digits@<variant>`. Empty: the methods' names in one word."""
    at_least: float | None = None
    """Of the metric, below which nothing is published."""
    resources: Resources = Resources(cpu=1)
    seed: int = Field(default=0, ge=0)
    measure: bool = True
    """Whether latency and energy are measured, in turns with the original."""

    @model_validator(mode="after")
    def _fits_together(self) -> "CompressJob":
        faults = _mismatches(self.steps, self.search)
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def word(self) -> str:
        """The variant's name."""
        return self.variant or "".join(step.method for step in self.steps).replace("-", "")[:32]


def _mismatches(steps: tuple[Any, ...], search: Search | None) -> list[str]:
    if bool(steps) == bool(search):
        return ["steps: a job needs steps or search, and not both"]
    return [
        f"steps: {step.method} ends a chain, its weights are trained no more; move it behind {after.method}"
        for step, after in pairwise(steps)
        if step.method in INTEGERS
    ]


def load_job(path: Path) -> CompressJob:
    """The job in the file at `path`. Raises InvalidInput naming all mistakes."""
    return parse_job(read_yaml(path, "job file"), f"job file {path}")


def parse_job(raw: Any, where: str) -> CompressJob:
    """The job in `raw`, a mapping as YAML gives it. Raises InvalidInput naming `where` and all mistakes."""
    return checked(CompressJob, raw, where)
