"""/v1/models and /v1/models/{id}: what is served, in OpenAI's shape.

Knows nothing of who keeps the list. Bytes out, nothing in; raises nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model, or one version of it, that a request may name."""

    id: str
    created_s: int
    """Unix time."""
    owned_by: str
    joulekeeper: Mapping[str, Any] = field(default_factory=dict)
    """What we tell beside OpenAI's keys, such as the measured energy per token; absent when empty."""


def build_models(entries: Iterable[ModelEntry]) -> bytes:
    """The body of the whole list."""
    return orjson.dumps({"object": "list", "data": [_described(entry) for entry in entries]})


def build_model(entry: ModelEntry) -> bytes:
    """The body of one."""
    return orjson.dumps(_described(entry))


def _described(entry: ModelEntry) -> dict[str, Any]:
    told = {"id": entry.id, "object": "model", "created": entry.created_s, "owned_by": entry.owned_by}
    return told | ({"joulekeeper": dict(entry.joulekeeper)} if entry.joulekeeper else {})
