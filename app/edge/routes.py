"""From what is deployed and how traffic is to be divided, to the entries that HAProxy looks up. Pure.

Knows nothing of HAProxy's language. `applications` is what Serve's HTTP door tells at /-/routes: prefix to
application. Four kinds of keys:

    minilm        ->  minilm                          a model is an application
    minilm@prod   ->  minilm@2                        a version, deployed or by another name
    minilm#7      ->  minilm@2                        of a thousand equal parts of the traffic, part 7
    /minilm@2     ->  /v2/models/minilm/versions/2    where an application answers over HTTP
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from app.edge.config import read_mapping
from app.errors import InvalidInput

PARTS = 1000

_NAME = re.compile(r"[A-Za-z0-9._+-]+(@[A-Za-z0-9._+-]+)?")
_ROUTE = re.compile(r"/v2/models/[A-Za-z0-9._+@/-]+")

Weight = Annotated[int, Field(ge=0, le=1_000_000)]


class ModelTraffic(BaseModel):
    """How calls that name a model, and no version of it, are divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: dict[str, Weight] = {}
    """Application (`minilm`, `minilm@2`) to its share, in any unit. Those not deployed lose theirs to the others."""
    aliases: dict[str, str] = {}
    """Version as clients say it to the application that answers, `prod: minilm@2`."""


class Traffic(RootModel[dict[str, ModelTraffic]]):
    """By model."""

    model_config = ConfigDict(frozen=True)


def read_traffic(path: Path) -> Traffic:
    """Raises InvalidInput naming every fault of the file."""
    try:
        return Traffic.model_validate(read_mapping(path))
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}" for fault in error.errors()
        )
        raise InvalidInput(f"{path}: {'; '.join(faults)}") from error


def build_entries(applications: Mapping[str, str], traffic: Traffic) -> dict[str, str]:
    """The map of an edge in front of `applications`; what is no model, or has a name for no URL, is left out."""
    routes = {
        name: prefix
        for prefix, name in sorted(applications.items())
        if _ROUTE.fullmatch(prefix) and _NAME.fullmatch(name)
    }
    entries = {name: name for name in routes}
    entries |= {f"/{name}": prefix for name, prefix in routes.items()}
    for model, told in traffic.root.items():
        present = {name: share for name, share in told.split.items() if name in routes and share}
        entries |= {f"{model}#{part}": name for part, name in enumerate(_parts(present))}
        entries |= {
            f"{model}@{alias}": name
            for alias, name in told.aliases.items()
            if name in routes and _NAME.fullmatch(f"{model}@{alias}")
        }
    return entries


def _parts(shares: Mapping[str, int]) -> Iterator[str]:
    """A thousand parts in proportion, by the largest remainder; none where nothing is to be divided."""
    total = sum(shares.values())
    if not total:
        return
    whole = {name: share * PARTS // total for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (-(shares[name] * PARTS % total), name))
    for name in by_remainder[: PARTS - sum(whole.values())]:
        whole[name] += 1
    for name, count in whole.items():
        yield from [name] * count
