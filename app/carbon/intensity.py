"""Carbon intensity of electricity, one type per meaning, and the series that gives it for an instant.

Knows nothing of energy. Only the location-based average exists so far: what the grid of a place emits per kWh
on average (GHG Protocol Scope 2 Guidance, 2015). Marginal and market-based intensities answer other questions
and will be other types; a function that takes one of them cannot be handed another.

    series = constant_series(find_zone("FRA"))
    series.intensity_at(wall_ns).g_per_kwh
"""

import math
from dataclasses import dataclass
from typing import Protocol

from app.carbon.zones import Zone
from app.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class LocationAverage:
    """Average emissions of the electricity used in a place, in gCO2e per kWh >= 0. Raises InvalidInput."""

    g_per_kwh: float
    zone: str
    source: str
    year: int | None = None
    """Of the data. None: the source does not say, as when the user configured the figure."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.g_per_kwh) and self.g_per_kwh >= 0):
            raise InvalidInput(f"intensity of {self.zone} must be >= 0 gCO2e/kWh, got {self.g_per_kwh}")


class LocationAverageSeries(Protocol):
    """A location-based average that may change with time."""

    def intensity_at(self, wall_ns: int) -> LocationAverage:
        """What held at `wall_ns` nanoseconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class ConstantSeries:
    """One yearly figure for all time."""

    intensity: LocationAverage

    def intensity_at(self, wall_ns: int) -> LocationAverage:
        return self.intensity


def constant_series(zone: Zone) -> ConstantSeries:
    """The yearly average of `zone`, at every instant."""
    return ConstantSeries(LocationAverage(zone.intensity_g_per_kwh, zone.id, zone.source, zone.year))
