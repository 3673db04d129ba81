"""The part `place` of a job file: in which zone its workers may run, and what moves if they do.

Knows nothing of grids or Ray; placing.py decides.

    place: {}                                         # any zone that nodes of the cluster are in
    place: {zones: [FRA, DEU], home: FRA, data_gb: 40}
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from app.carbon.zones import find_zone
from app.errors import InvalidInput
from app.training.parts import Part


def _known(name: str) -> str:
    try:
        return find_zone(name).id
    except InvalidInput as error:
        raise ValueError(str(error)) from error


Zone = Annotated[str, AfterValidator(_known)]


class Where(Part):
    """Where the job runs; without this part anywhere on the cluster."""

    zones: tuple[Zone, ...] = ()
    """Zones in which its data may lie; empty: all."""
    home: Zone | None = None
    """Where its data lies now. None: the zone of the cluster (JOULEKEEPER_ZONE)."""
    data_gb: float = Field(default=0.0, ge=0)
    """That moves if it runs elsewhere: its energy is counted, and the run begins when it has arrived."""
    latency_ms: float | None = Field(default=None, ge=0)
    """Zones that are farther away, or whose distance nobody knows, are ruled out. None: none is."""


PLACE_FILE = "place.json"


class Chosen(Part):
    """Where a run was placed; kept, so that going on with it does not move it without need."""

    zone: str
    moved_gb: float
    record: int
    """Number of the decision."""
