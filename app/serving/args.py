"""The arguments of one served model: the `args` of an application in a Serve config.

Knows nothing of replicas. How many replicas there are and what they may use is Serve's own business and is said in
Serve's own words, under `deployments:` of the same application.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput

MIB = 1024 * 1024


class ModelArgs(BaseModel):
    """One model version to serve. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """What clients call the model; the application and its route `/v2/models/<name>` carry the same name."""
    source: str
    """Where the model comes from: `package:NAME`, `repository:NAME` (latest) or `repository:NAME@VERSION`."""
    version: str = ""
    """Version that clients see. Empty: the repository's, fixed when the application is built; `1` for a package."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: cuda where the replica was given an accelerator that torch can use, else cpu."""
    tenant: str = "default"
    """Who is charged for requests."""
    max_body_bytes: int = Field(default=16 * MIB, gt=0)
    """Largest request that is read, over HTTP and gRPC alike; beyond it the answer is 413, RESOURCE_EXHAUSTED."""
    torch_threads: int = Field(default=0, ge=0)
    """Threads of one inference. 0: as many as the replica has whole CPUs, at least one, as Ray sees to."""


def pinned(args: ModelArgs, models_root: str) -> ModelArgs:
    """`args` with source and version spelt out, so that all replicas serve the same one while newer are published.

    Raises InvalidInput if two versions are asked for, NotFound if the repository does not have the model.
    """
    kind, _, reference = args.source.partition(":")
    if kind != "repository":
        return args.model_copy(update={"version": args.version or "1"})
    name, _, wanted = reference.partition("@")
    if wanted and args.version and wanted != args.version:
        raise InvalidInput(f"source {args.source!r} and version {args.version!r} disagree; remove one of the two")
    version = wanted or args.version or _latest(name, models_root)
    return args.model_copy(update={"source": f"repository:{name}@{version}", "version": version})


def _latest(name: str, models_root: str) -> str:
    from app.models.repository import ModelRepository

    return ModelRepository(models_root).latest(name)
