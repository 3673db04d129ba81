"""The parts of a job file: data, optimiser, workers, budget, target, publication. Each says what it may be alone.

Knows nothing of Ray or torch, nor of what contradicts another part (contradictions.py). job.py puts them together.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.training.data import SOURCES
from app.training.pairs import PAIR_SOURCES
from app.training.texts import TEXT_SOURCES
from app.units import UJ_PER_J

PARQUET = "parquet:"
"""A source that begins so is the URL of a data set that `joulekeeper data prepare` wrote."""
Metric = Literal["accuracy", "r2", "bits_per_byte", "recall_at_1"]
Loss = Literal["cross_entropy", "mse", "next_token", "contrastive"]
_MOST_WORKERS = 1024
_UJ_PER_KWH = 3_600_000 * UJ_PER_J


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_source(name: str) -> str:
    known = (*SOURCES, *TEXT_SOURCES, *PAIR_SOURCES)
    if name not in known and not (name.startswith(PARQUET) and len(name) > len(PARQUET)):
        raise ValueError(f"must be one of {', '.join(known)}, or {PARQUET}URL")
    return name


class DataSource(Part):
    """Where rows, texts or pairs of texts come from and how they are split."""

    source: Annotated[str, AfterValidator(_known_source)]
    """One of data.SOURCES, texts.TEXT_SOURCES (language models) or pairs.PAIR_SOURCES (encoders), or `parquet:URL`."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the rows held out for the test; of texts about that share of their number."""
    seed: int = Field(default=0, ge=0)
    """Decides which rows or texts are held out."""


class Optimiser(Part):
    """How weights are moved."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """`adamw` decays weights apart from the gradient, and vectors (norms) not at all."""
    lr: float = Field(default=1e-3, gt=0, le=10)
    """Learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """How much of a weight is taken away in a step, times the learning rate."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Of sgd: how much of the last step goes into the next."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """How slowly adam and adamw forget the squares of gradients; 0.95 is usual for language models."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Gradients whose norm is larger are scaled down to it; 0: as they are."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises to its course; 0: it begins there."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes over the epochs: as it is, or down to nothing along half a cosine or a line."""


class Workers(Part):
    """How many workers share a step: a number in the file is both bounds."""

    min: int = Field(ge=1, le=_MOST_WORKERS)
    """With so many the job starts and goes on."""
    max: int = Field(ge=1, le=_MOST_WORKERS)
    """So many are used where there is room; a step learns from `batch_size` rows for each of these."""
    resize_every_s: float = Field(default=30.0, gt=0)
    """Seconds between looks for more room, and after a start before the first: growing costs a restart."""

    @model_validator(mode="before")
    @classmethod
    def _of_number(cls, given: Any) -> Any:
        if isinstance(given, Mapping | Workers):
            return given
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _MOST_WORKERS:
            raise ValueError(f"must be a number from 1 to {_MOST_WORKERS}, or min and max")
        return {"min": given, "max": given}

    @model_validator(mode="after")
    def _are_ordered(self) -> "Workers":
        if self.min > self.max:
            raise ValueError(f"min = {self.min} must be <= max = {self.max}")
        return self

    @property
    def elastic(self) -> bool:
        """Whether their number may change."""
        return self.min < self.max

    def __str__(self) -> str:
        count = f"{self.min} to {self.max}" if self.elastic else str(self.max)
        return f"{count} worker{'s' if self.max > 1 else ''}"


class Resources(Part):
    """What one worker reserves on its node."""

    cpu: float = Field(default=0.5, ge=0)
    """CPUs per worker."""
    gpu: float = Field(default=0.0, ge=0)
    """Accelerators per worker; fractions share one."""
    power_limit_w: float = Field(default=0.0, ge=0)
    """Power limit of each accelerator while the job runs, where it may be set; 0: as it is. `joulekeeper tune` finds
    the one that costs least."""

    @model_validator(mode="after")
    def _limit_what_is_theirs_alone(self) -> "Resources":
        if self.power_limit_w and (self.gpu < 1 or self.gpu % 1):
            raise ValueError(
                f"power_limit_w = {self.power_limit_w:g} needs whole accelerators, got gpu = {self.gpu:g}; "
                "others would be slowed down too"
            )
        return self


class Budget(Part):
    """What a job may use in all its attempts; it ends, with a checkpoint, when the first of these is used up."""

    kwh: float | None = Field(default=None, gt=0)
    """Kilowatt hours of its workers, as the ledger books them; 1 J is 2.78e-7."""
    gco2e: float | None = Field(default=None, gt=0)
    """Grams of CO2 equivalent, location average, at the time of use."""
    hours: float | None = Field(default=None, gt=0)
    """From the first step on, waiting between attempts left out."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> "Budget":
        if self.kwh is None and self.gco2e is None and self.hours is None:
            raise ValueError("needs one of kwh, gco2e and hours; remove it to train without a bound")
        return self

    @property
    def energy_uj(self) -> int | None:
        """Microjoules; None: no bound."""
        return None if self.kwh is None else round(self.kwh * _UJ_PER_KWH)


class Target(Part):
    """What must be reached on what is held out for the job to succeed and its model to be published."""

    metric: Metric
    """What is measured: `accuracy` of classes, `r2` of values, `bits_per_byte` of texts, `recall_at_1` of pairs."""
    at_least: float | None = None
    """The least that will do."""
    at_most: float | None = None
    """The most that will do."""
    below: Literal["", "gzip_9", "zstd_19"] = ""
    """Bits per byte of the same held-out text, packed by `gzip -9` or `zstd -19`, that must be undercut."""
    stop: bool = False
    """End the job with the first epoch that reaches it; what is held out is then scored whole after every epoch."""

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


class Publication(Part):
    """Where the result goes in the model repository."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Of the model; a result is its next version."""
    format: Literal["safetensors", "torch_export"] = "safetensors"
    """`safetensors`: weights for the built-in network, the language model or the encoder. `torch_export`: a program
    with a free batch size, of a network."""
    max_rows: int = Field(default=4096, ge=1, le=1_000_000)
    """Rows that the served network accepts in one request; a language model has its context instead."""


class Report(Part):
    """What the driver prints at the end."""

    formulas: bool = False
    """Show E = P x t and E = sum over servers of P_server x t with measured figures."""
    every_s: float = Field(default=10.0, gt=0)
    """Seconds between two lines within an epoch; on a terminal there is a bar instead."""


class Tracking(Part):
    """Where figures of every epoch go, beside the job's own lines and report."""

    tensorboard: str = ""
    """Directory, on a disk that worker 0 and you can see, or a URL that tensorboardX writes; each run has its own below
    it. Empty: none."""
    mlflow: str = ""
    """Tracking URI of MLflow, `http://host:5000` or `sqlite:///path`; needs the extra `mlflow`. Empty: none."""
    experiment: str = Field(default="", max_length=200)
    """MLflow's experiment. Empty: the job's name."""
