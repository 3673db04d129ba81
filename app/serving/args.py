"""The arguments of one served model: the `args` of an application in a Serve config.

Knows nothing of replicas. How many replicas there are and what they may use is Serve's own business and is said in
Serve's own words, under `deployments:` of the same application.
"""

from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import InvalidInput
from app.policy.spending import SpendingRules
from app.serving.traffic import TrafficArgs

if TYPE_CHECKING:
    from app.models.repository import RepositorySettings

MIB = 1024 * 1024

Args = TypeVar("Args", bound="ServedArgs")


class Batching(BaseModel):
    """Requests that are run together. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rows: int = Field(default=64, ge=1)
    """Rows of one batch at most; the runner's own `max_rows` holds too. A larger request runs alone."""
    max_wait_ms: float = Field(default=0.0, ge=0, le=10_000)
    """How long a request waits for others at most. 0: for nobody; what came while the model was busy runs together."""
    max_queued: int = Field(default=1024, ge=1)
    """Requests that wait at most; beyond it the answer is 503, UNAVAILABLE."""
    objective_p95_ms: float | None = Field(default=None, gt=0)
    """From arrival to answer for 95 % of requests. Set, a governor looks for the rows and the wait that need the least
    energy and keep to it; `max_rows` is then its bound, and `max_wait_ms` must be left out."""

    @model_validator(mode="after")
    def _one_decides_on_the_wait(self) -> Self:
        if self.objective_p95_ms is not None and "max_wait_ms" in self.model_fields_set:
            raise ValueError(
                "max_wait_ms is the governor's to find once objective_p95_ms is set; remove one of the two"
            )
        return self


class Caching(BaseModel):
    """Answers that are kept for requests that come again. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_mb: float = Field(default=64.0, gt=0)
    """Megabytes (10^6 bytes) of kept answers in each replica, all tenants together."""
    ttl_s: float = Field(default=300.0, gt=0)
    """Seconds for which an answer is given again."""


class ServedArgs(TrafficArgs):
    """What every served model version is told, whatever it does. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """What clients call the model; the application and its route `/v2/models/<name>` carry the same name."""
    source: str
    """Where the model comes from: `package:NAME`, `repository:NAME` (latest), `repository:NAME@VERSION`, or a class of
    your own, `python:package.module:Class`."""
    version: str = ""
    """Version that clients see. Empty: the repository's, fixed when the application is built; `1` for a package."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: cuda where the replica was given an accelerator that torch can use, else cpu."""
    tenant: str = "default"
    """Who is charged for requests."""
    max_body_bytes: int = Field(default=16 * MIB, gt=0)
    """Largest request that is read, over HTTP and gRPC alike, compressed or not; beyond it the answer is 413,
    RESOURCE_EXHAUSTED."""
    body_timeout_s: float = Field(default=60.0, gt=0)
    """How long a client may take to send one request over HTTP; then 408. One that sends holds a request's place."""
    compress_over_bytes: int = Field(default=32 * 1024, ge=0)
    """HTTP answers larger than this are compressed for clients that accept gzip or zstd. 32 KiB take a third of a
    millisecond; below, what is saved does not show on a local network."""
    spending: SpendingRules | None = None
    """What it may spend in a day; unset: without bound. One version alone answers 429 when it is spent, a pool answers
    with cheaper variants before."""
    torch_threads: int = Field(default=0, ge=0)
    """Threads of one inference. 0: as many as the replica has whole CPUs, at least one, as Ray sees to."""

    @property
    def label(self) -> str:
        """Name and version for people: `minilm@1`."""
        return f"{self.name}@{self.version}"

    def is_meant(self, version: str) -> bool:
        """Whether a call that names `version` means this one: none, its own, or `int8` of `2-int8`."""
        return version in ("", self.version) or version == (self.version.partition("-")[2] or self.version)


class ModelArgs(ServedArgs):
    """One model version that answers tensors with tensors. Frozen; unknown keys are errors."""

    source_args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class's constructor, by name; only where the model is a Python class."""
    batching: Batching | None = None
    """Unset: where the runner allows it, requests that came while the model was busy run together, as
    `batching: {}` has it; a model that answers in under a millisecond answers each at once."""
    cache: Caching | None = None
    """Unset: every request is computed."""

    @model_validator(mode="after")
    def _source_takes_arguments(self) -> Self:
        if self.source_args and self.source.startswith("package:"):
            raise ValueError(f"source_args belong to a Python class, not to {self.source!r}; remove them")
        return self


def pinned(args: Args, repository: "RepositorySettings") -> Args:
    """`args` with source and version spelt out, so that all replicas serve the same one while newer are published.

    Raises InvalidInput if two versions are asked for, NotFound if the repository does not have the model.
    """
    kind, _, reference = args.source.partition(":")
    if kind != "repository":
        return args.model_copy(update={"version": args.version or "1"})
    name, _, wanted = reference.partition("@")
    if wanted and args.version and wanted != args.version:
        raise InvalidInput(f"source {args.source!r} and version {args.version!r} disagree; remove one of the two")
    version = _resolved(name, wanted or args.version, repository)
    return args.model_copy(update={"source": f"repository:{name}@{version}", "version": version})


def _resolved(name: str, wanted: str, repository: "RepositorySettings") -> str:
    """Nothing wanted is the latest version, `int8` the newest that there is of this variant."""
    from app.models.repository import open_repository

    return open_repository(repository).resolve(name, wanted)
