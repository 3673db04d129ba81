"""From what generated an hour's electricity to its intensity: the mean of the fuels' factors, weighted by energy.

Pure. Knows no provider's names of fuels. The mix of production of a zone: no imports, no losses, not flow-traced.
Factors are gCO2e per kWh, life cycle, from the table of coefficients (`fuel:*`), each with its source.

    >>> intensity_of_mix({"gas": 3.0, "wind": 1.0}, {"gas": 490.0, "wind": 11.0})
    370.25
"""

from collections.abc import Iterable, Mapping, Sequence

from app.carbon.coefficients import Coefficients
from app.carbon.intensity import IntensityGrade, Slot

Mix = Mapping[str, float]
"""Energy or power by fuel, any one unit."""

_MATTERS = 0.01
"""A fuel that makes more than this share of the whole answer and is missing in a slot makes its mix unknown: without
its coal an hour looks clean."""


def fuel_factors(table: Coefficients) -> dict[str, float]:
    """gCO2e per kWh by fuel, the user's own figures included."""
    return {key.partition(":")[2]: table.value(key) for key in table.keys("fuel:")}


def intensity_of_mix(mix: Mix, factors: Mapping[str, float]) -> float | None:
    """gCO2e per kWh, or None where nothing was generated. What a fuel draws (< 0: pumping, a plant's own use) is not
    generation. Raises KeyError for a fuel without factor."""
    made = {fuel: amount for fuel, amount in mix.items() if amount > 0}
    total = sum(made.values())
    return sum(amount * factors[fuel] for fuel, amount in made.items()) / total if total else None


def slots_of_mixes(
    mixes: Iterable[tuple[int, int, Mix]], factors: Mapping[str, float], source: str
) -> tuple[list[Slot], int]:
    """A slot for each (start, end, mix) whose mix is whole, and how many are not."""
    known = list(mixes)
    needed = _fuels_that_matter([mix for _, _, mix in known])
    slots, left_out = [], 0
    for start_ns, end_ns, mix in known:
        g_per_kwh = intensity_of_mix(mix, factors) if needed <= mix.keys() else None
        if g_per_kwh is None:
            left_out += 1
        else:
            slots.append(Slot(start_ns, end_ns, g_per_kwh, IntensityGrade.ACTUAL, source))
    return slots, left_out


def _fuels_that_matter(mixes: Sequence[Mix]) -> set[str]:
    totals: dict[str, float] = {}
    for mix in mixes:
        for fuel, amount in mix.items():
            totals[fuel] = totals.get(fuel, 0.0) + max(0.0, amount)
    whole = sum(totals.values())
    return {fuel for fuel, total in totals.items() if whole and total / whole > _MATTERS}
