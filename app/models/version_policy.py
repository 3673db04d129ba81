"""Which versions of a repository's model are served: the newest, named ones, or all. Pure."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.errors import NotFound


class Latest(BaseModel):
    """The newest `latest` versions: `{latest: 2}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latest: int = Field(ge=1)


class Specific(BaseModel):
    """Exactly these: `{specific: ["3", "5"]}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    specific: Annotated[tuple[str, ...], Field(min_length=1)]


VersionPolicy = Literal["latest", "all"] | Latest | Specific


def select_versions(policy: VersionPolicy, versions: Sequence[str]) -> tuple[str, ...]:
    """Those of `versions`, oldest first, that `policy` serves. Raises NotFound for a specific one that is not there."""
    if isinstance(policy, Specific):
        missing = [version for version in policy.specific if version not in versions]
        if missing:
            raise NotFound(f"version {missing[0]!r} is not in the repository; there are {', '.join(versions[-10:])}")
        return policy.specific
    if isinstance(policy, Latest):
        return tuple(versions[-policy.latest :])
    return tuple(versions) if policy == "all" else tuple(versions[-1:])
