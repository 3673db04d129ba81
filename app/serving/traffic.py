"""How the requests of one model are divided among its versions: declared once, with the default version's application.

Knows nothing of the edge that divides nor of Serve: pure. Declared in the `args` of application `<model>`; version `3`
is application `<model>@3`:

    args:
      name: digits
      source: repository:digits@2
      traffic: {"3": 0.1}            # a tenth of the calls that name no version; the rest stays here
      aliases: {prod: "2", next: "3"}
      shadow: {"4": 0.5}             # a copy of every second request; nobody waits for its answer

`declared(applications)` turns that into what the edge's map is made of.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MILLION = 1_000_000

Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
Share = Annotated[float, Field(gt=0, le=1)]


class TrafficArgs(BaseModel):
    """The part of a model's arguments that concerns its other versions."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    traffic: dict[Version, Share] = Field(default_factory=dict)
    """Version to the share, of 1, of calls that name the model and no version; this application keeps the rest. The
    edge divides them; without one every call stays here. A version that is not deployed has no share."""
    aliases: dict[Version, Version] = Field(default_factory=dict)
    """Other names of versions, for calls that name one: `prod` to `2`. Known to the edge."""
    shadow: dict[Version, Share] = Field(default_factory=dict)
    """Version to the share of answered requests of which it gets a copy. Its answers are dropped; its energy is charged
    to that version, tenant `shadow`."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        total = sum(self.traffic.values())
        if total > 1 + 1e-9:
            raise ValueError(f"the shares in traffic must not exceed 1 together, got {total:g}; lower one")
        return self


def application_of(model: str, version: str, default_version: str) -> str:
    """The application that serves `version` of `model`."""
    return model if version == default_version else f"{model}@{version}"


def declared(applications: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """From application name to its `args`, to `{model: {"split": {application: parts of a million}, "aliases": ...}}`.

    Only models that divide or rename anything are in it. What is no model, or has arguments that do not fit, is
    left out: Serve shows that error where it deploys the application.
    """
    found = {}
    for name, args in applications.items():
        wanted = _read(args) if "@" not in name else None
        if wanted is None or not (wanted.traffic or wanted.aliases):
            continue
        own = str(args.get("version", "")) or str(args.get("source", "")).partition("@")[2]
        found[name] = {"split": _split(name, own, wanted), "aliases": _aliases(name, own, wanted)}
    return found


def _read(args: Mapping[str, Any]) -> TrafficArgs | None:
    try:
        return TrafficArgs.model_validate({key: args[key] for key in TrafficArgs.model_fields if key in args})
    except ValidationError:
        return None


def _split(model: str, own: str, wanted: TrafficArgs) -> dict[str, int]:
    parts: dict[str, int] = {}
    for version, share in wanted.traffic.items():
        name = application_of(model, version, own)
        parts[name] = parts.get(name, 0) + round(share * MILLION)
    if parts:
        parts[model] = parts.get(model, 0) + max(0, MILLION - sum(parts.values()))
    return parts


def _aliases(model: str, own: str, wanted: TrafficArgs) -> dict[str, str]:
    return {alias: application_of(model, version, own) for alias, version in wanted.aliases.items()}
