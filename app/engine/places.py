"""The zones in which a cluster has nodes: how labels name them, what each one's grid does, who is how far away.

Knows nothing of Ray: labels come in as a mapping. What people know of zones beyond the table stands in one YAML file
(JOULEKEEPER_PLACES):

    zones:
      FRA: {intensity: ["electricitymaps:FR"], pue: 1.1, latency_ms: 12}
      "aws:eu-north-1": {latency_ms: 35, grows: true}       # no node yet: the autoscaler starts them
    kwh_per_gb: 0.001
    gbit_per_s: 10
    least_saving: 0.02

    places = read_places(settings().places)
    zone = zone_of_labels({"joulekeeper.io/zone": "aws.eu-north-1"})           # "aws:eu-north-1"; None: nobody says
    view = zone_view(zone, places, settings().grid, clock, until_s)

Raises InvalidInput for a file or a zone that cannot be meant.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.carbon.grid import open_grid
from app.carbon.grid_settings import GridSettings, grid_settings
from app.carbon.zones import find_zone, zones
from app.clock import Clock
from app.engine.outlook import View, look_ahead
from app.errors import InvalidInput
from app.policy.placement import PlacementSettings
from app.units import NS_PER_S

ZONE_LABEL = "joulekeeper.io/zone"
_REGION_LABELS = ("ray.io/availability-region", "ray.io/availability-zone")
"""Set by Ray itself and by KubeRay; a region of a cloud, or a zone of one: `eu-west-1`, `eu-west-1a`."""
_PAST_S = 28 * 86_400.0


class ZoneTerms(BaseModel):
    """What is known of one zone. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intensity: tuple[str, ...] = ()
    """Sources PROVIDER:ZONE as in JOULEKEEPER_INTENSITY. Empty: the yearly table, or for the cluster's own zone what
    the cluster uses."""
    pue: float | None = Field(default=None, ge=1.0, le=5.0)
    """Of the building there. None: the cluster's own."""
    latency_ms: float | None = Field(default=None, ge=0)
    """Between there and those who call. None: not known, which no limit lets pass."""
    grows: bool = False
    """Nodes can be had there that are not there yet, of an autoscaler."""


class Places(PlacementSettings):
    """The whole file: zones, and what moving to them costs."""

    zones: dict[str, ZoneTerms] = Field(default_factory=dict)

    @field_validator("zones")
    @classmethod
    def _known_zones(cls, value: dict[str, ZoneTerms]) -> dict[str, ZoneTerms]:
        try:
            return {find_zone(name).id: terms for name, terms in value.items()}
        except InvalidInput as error:
            raise ValueError(str(error)) from error

    def of(self, zone: str) -> ZoneTerms:
        """What the file says of a zone; nothing where it does not name it."""
        return self.zones.get(zone, ZoneTerms())

    @property
    def moving(self) -> PlacementSettings:
        """What moving costs."""
        return PlacementSettings.model_validate(self.model_dump(include=set(PlacementSettings.model_fields)))


def read_places(path: str) -> Places:
    """The file at `path`; an empty path is an empty file. Raises InvalidInput naming every fault."""
    if not path:
        return Places()
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return Places.model_validate(found or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise InvalidInput(f"{path}: {'; '.join(faults)}") from error


def zone_of_labels(labels: Mapping[str, str]) -> str | None:
    """The zone that a node's labels name; None: none that is known."""
    told = _telling(labels)
    return told[0] if told else None


def selector_of_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """A Ray label selector for nodes that name their zone as these labels do; empty: they name none."""
    told = _telling(labels)
    return {told[1]: labels[told[1]]} if told else {}


def label_of_zone(zone: str) -> str:
    """As a label's value, which may have no colon: `aws.eu-west-1`."""
    return zone.replace(":", ".")


def selector_of(zone: str) -> dict[str, str]:
    """A Ray label selector for nodes of a zone that has none yet."""
    return {ZONE_LABEL: label_of_zone(zone)}


def grid_of_zone(zone: str, places: Places, base: GridSettings) -> GridSettings:
    """Where the intensity of `zone` comes from, `base` being the cluster's. Raises InvalidInput."""
    own = places.of(zone).intensity
    if zone == base.zone and not own:
        return base
    # Location-based averages alone are compared: margins and contracts are other questions.
    return grid_settings(**base.model_dump() | {"zone": zone, "average": own, "marginal": (), "market": ()})


def zone_view(zone: str, places: Places, base: GridSettings, clock: Clock, until_s: float) -> View:
    """What is expected of a zone's grid from now on; asks its sources where that is due, and waits for them."""
    grid = open_grid(grid_of_zone(zone, places, base), clock)
    try:
        grid.refresh()
        now_s = clock.wall_ns() / NS_PER_S
        past = grid.past_forecasts(round((now_s - _PAST_S) * NS_PER_S), round(now_s * NS_PER_S))
        return look_ahead(grid.average(), now_s, until_s, past)
    finally:
        grid.close()


def _telling(labels: Mapping[str, str]) -> tuple[str, str] | None:
    """The zone that labels name, and which of them does."""
    found = _zone_of_label(labels.get(ZONE_LABEL, ""))
    if found is not None:
        return found, ZONE_LABEL
    for key in _REGION_LABELS:
        region = labels.get(key, "").lower()
        zone = _REGIONS.get(region) or _REGIONS.get(region.rstrip("abcdef"))
        if zone is not None:
            return zone, key
    return None


def _zone_of_label(value: str) -> str | None:
    cloud, dot, region = value.partition(".")
    for name in (value, f"{cloud}:{region}" if dot else value):
        try:
            return find_zone(name).id
        except InvalidInput:
            continue
    return None


_REGIONS = {zone.id.partition(":")[2].lower(): zone.id for zone in zones() if ":" in zone.id}
"""Of clouds whose regions have names of their own."""
