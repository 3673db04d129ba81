"""Carbon intensity of electricity, one type per meaning, and the series that gives it for an instant.

Knows nothing of energy, providers or clocks. Three questions, three types that cannot stand for each other:
- LocationAverage: what the grid of a place emits per kWh on average (GHG Protocol Scope 2 Guidance, 2015)
- Marginal: what one more kWh at this hour makes the grid emit (for decisions; never added to an inventory)
- MarketBased: what contracts say that one pays for (the same guidance: beside the first, never summed)

    series = constant_series(find_zone("FRA"))
    series.intensity_at(wall_ns).g_per_kwh
    series.slots_between(start_ns, end_ns)      # gapless

Instants are nanoseconds since the Unix epoch (UTC): an hour that a clock change doubles is two slots, and no local time
is ever computed with.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from app.carbon.zones import Zone
from app.errors import InvalidInput


class IntensityGrade(StrEnum):
    """How well a figure is known, best first."""

    ACTUAL = "actual"
    ESTIMATED = "estimated"
    """The provider says that it estimates, or we bridged a few missing slots between two known ones."""
    FORECAST = "forecast"
    """Said before the time it is for, and nothing better has come since."""
    STALE = "stale"
    """The last known figure, carried on."""
    YEARLY = "yearly"
    """A yearly average or a configured constant: blind to the hour."""

    @classmethod
    def worst(cls, grades: Iterable["IntensityGrade"]) -> "IntensityGrade":
        """The worst of `grades`; YEARLY of none."""
        order = list(cls)
        return max(grades, key=order.index, default=cls.YEARLY)


@dataclass(frozen=True, slots=True)
class Intensity:
    """What the three have in common. Nothing takes it: who needs a figure says which."""

    g_per_kwh: float
    """Grams of CO2 equivalent per kWh, >= 0."""
    zone: str
    source: str
    year: int | None = None
    """Of the data. None: hourly data, or the source does not say, as when the user configured the figure."""
    grade: IntensityGrade = IntensityGrade.YEARLY

    def __post_init__(self) -> None:
        if not (math.isfinite(self.g_per_kwh) and self.g_per_kwh >= 0):
            raise InvalidInput(f"intensity of {self.zone} must be >= 0 gCO2e/kWh, got {self.g_per_kwh}")


@dataclass(frozen=True, slots=True)
class LocationAverage(Intensity):
    """Average emissions of the electricity used in a place. Raises InvalidInput."""


@dataclass(frozen=True, slots=True)
class Marginal(Intensity):
    """Emissions of the generation that answers to one more kWh. Raises InvalidInput."""


@dataclass(frozen=True, slots=True)
class MarketBased(Intensity):
    """Emissions of the electricity as contracts, certificates or the residual mix attribute it. Raises InvalidInput."""


Meaning = TypeVar("Meaning", bound=Intensity)


@dataclass(frozen=True, slots=True)
class Slot:
    """One figure for one interval; `end_ns` is no part of it. Raises InvalidInput.

    An hour that a provider gave as null, or not at all, is no slot.
    """

    start_ns: int
    end_ns: int
    g_per_kwh: float
    grade: IntensityGrade
    source: str
    first_g_per_kwh: float | None = None
    """What was said at first where it has been revised since; None: never revised."""

    def __post_init__(self) -> None:
        if self.end_ns <= self.start_ns:
            raise InvalidInput(f"a slot must end after its start, got {self.start_ns} to {self.end_ns} ns")
        if not (math.isfinite(self.g_per_kwh) and self.g_per_kwh >= 0):
            raise InvalidInput(f"{self.source}: intensity must be >= 0 gCO2e/kWh, got {self.g_per_kwh}")


class LocationAverageSeries(Protocol):
    """A location-based average that changes with time. A snapshot: it neither changes, blocks nor raises."""

    @property
    def revision(self) -> int:
        """Grows whenever a figure of the past came in or changed."""

    def intensity_at(self, wall_ns: int) -> LocationAverage:
        """What held at `wall_ns`."""

    def mean_between(self, start_ns: int, end_ns: int) -> LocationAverage:
        """The mean over time, graded as its worst part; what held at `start_ns` where the interval is empty."""

    def slots_between(self, start_ns: int, end_ns: int) -> tuple[Slot, ...]:
        """What held from `start_ns` to `end_ns`, in order and without holes."""


@dataclass(frozen=True, slots=True)
class ConstantSeries:
    """One yearly figure for all time."""

    intensity: LocationAverage

    @property
    def revision(self) -> int:
        return 0

    def intensity_at(self, wall_ns: int) -> LocationAverage:
        return self.intensity

    def mean_between(self, start_ns: int, end_ns: int) -> LocationAverage:
        return self.intensity

    def slots_between(self, start_ns: int, end_ns: int) -> tuple[Slot, ...]:
        known = self.intensity
        return (Slot(start_ns, end_ns, known.g_per_kwh, known.grade, known.source),) if end_ns > start_ns else ()


def constant_series(zone: Zone) -> ConstantSeries:
    """The yearly average of `zone`, at every instant."""
    return ConstantSeries(LocationAverage(zone.intensity_g_per_kwh, zone.id, zone.source, zone.year))
