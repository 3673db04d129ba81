"""What a batch emitted and what it would have emitted at once, by the grid as it is known now.

Pure: energy by stretches of time and a series come in. Energy is what the receipts say; at once the same energy would
have been used without a wait from the moment the batch came, for as long as its requests took. Knows nothing of plans.

    came_of_it = outcome(store.used(batch_id, bucket_s), grid.average(), created_s, lanes=4, pue=1.2)
    came_of_it.carbon_ug, came_of_it.at_once_ug
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.carbon.intensity import IntensityGrade, LocationAverageSeries
from app.console.batches.records import Used
from app.units import NS_PER_S, exact_carbon_ug

_HOUR_S = 3600.0
_COARSE_S = 60
_LEAST_BUSY_S = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the requests that were answered."""

    energy_uj: int
    carbon_ug: float
    at_once_ug: float
    """Micrograms of CO2e, exact: of a few small requests they are fractions."""
    busy_s: float
    """Of the whole lane."""
    provisional: bool
    grade: str
    """The weakest of the grid's figures that this takes."""


def bucket_of(lasted_s: float) -> int:
    """Seconds by which the energy of a batch is added up: shorter than any slot that a grid tells for its length."""
    return _COARSE_S if lasted_s > _HOUR_S else 1


def outcome(
    used: Sequence[Used], series: LocationAverageSeries, created_s: float, *, lanes: int, pue: float, bucket_s: int
) -> Outcome:
    """Carbon of both ways, PUE included."""
    busy_s = max(_LEAST_BUSY_S, sum(each.took_s for each in used) / lanes)
    at_once = series.mean_between(_ns(created_s), _ns(created_s + busy_s))
    energy_uj, carbon_ug, grades = 0, 0.0, [at_once.grade]
    for each in used:
        held = series.mean_between(_ns(each.start_s), _ns(each.start_s + bucket_s))
        energy_uj += each.energy_uj
        carbon_ug += exact_carbon_ug(each.energy_uj, held.g_per_kwh)
        grades.append(held.grade)
    return Outcome(
        energy_uj=energy_uj,
        carbon_ug=carbon_ug * pue,
        at_once_ug=exact_carbon_ug(energy_uj, at_once.g_per_kwh) * pue,
        busy_s=busy_s,
        provisional=any(each.provisional for each in used),
        grade=str(IntensityGrade.worst(grades)),
    )


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
