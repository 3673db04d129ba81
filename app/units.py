"""Integers of microjoules and the few conversions out of them.

Knows nothing of devices, accounts or time. Every raw number carries its unit in its name:
`_uj` microjoules, `_mw` milliwatts, `_ns` nanoseconds, `_ugco2e` micrograms of CO2 equivalent.

    >>> split_exactly(10, [1, 1, 1])
    [4, 3, 3]
    >>> kwh(3_600_000_000_000)
    1.0
"""

import math
from collections.abc import Sequence

UJ_PER_MJ = 1_000  # microjoules in a millijoule
UJ_PER_J = 1_000_000
UJ_PER_KWH = 3_600_000_000_000
NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
MICROS = 1_000_000  # parts of a currency unit in which costs are counted

_UNIT_STEPS = ((3.6e12, "kWh"), (1e9, "kJ"), (1e6, "J"), (1e3, "mJ"))


def joules(energy_uj: int) -> float:
    """Joules in `energy_uj` microjoules."""
    return energy_uj / UJ_PER_J


def kwh(energy_uj: int) -> float:
    """Kilowatt hours in `energy_uj` microjoules."""
    return energy_uj / UJ_PER_KWH


def energy_of_power(power_mw: float, duration_ns: int) -> int:
    """Microjoules that `power_mw` milliwatts make in `duration_ns` nanoseconds, rounded to the nearest."""
    return round(power_mw * duration_ns / 1_000_000)


def power_of_energy(energy_uj: int, duration_ns: int) -> float:
    """Mean milliwatts of `energy_uj` over `duration_ns`; 0 for an empty duration."""
    return energy_uj * 1_000_000 / duration_ns if duration_ns > 0 else 0.0


def exact_carbon_ug(energy_uj: int, intensity_g_per_kwh: float) -> float:
    """Micrograms of CO2e of `energy_uj` at an intensity in gCO2e per kWh (1 g/kWh = 1/3.6e6 ug/uJ), to be added up."""
    return energy_uj * intensity_g_per_kwh / 3_600_000


def carbon_ug(energy_uj: int, intensity_g_per_kwh: float) -> int:
    """`exact_carbon_ug` rounded to the nearest, to be shown."""
    return round(exact_carbon_ug(energy_uj, intensity_g_per_kwh))


def split_exactly(total: int, weights: Sequence[float]) -> list[int]:
    """Divide `total` >= 0 by non-negative `weights` so that the parts add up to it (largest remainder).

    Ties go to the earlier part; a weight of zero gets nothing, unless all are zero: then the parts are equal. Exact
    for any total; weights below 2**-60 of the largest count as zero. An empty `weights` is allowed only for a
    `total` of zero. Raises ValueError otherwise.
    """
    if total < 0:
        raise ValueError(f"total must be >= 0, got {total}")
    if not weights:
        if total:
            raise ValueError(f"nobody to give {total} to: weights are empty")
        return []
    largest = max(weights)
    # Integers, because a float share of a month's microjoules can be off by more than one.
    scale = 60 - math.frexp(largest)[1]
    whole_weights = [int(math.ldexp(weight, scale)) for weight in weights] if largest > 0 else [1] * len(weights)
    whole = sum(whole_weights)
    parts = [total * weight // whole for weight in whole_weights]
    missing = total - sum(parts)
    if missing:
        by_remainder = sorted(range(len(parts)), key=lambda i: -(total * whole_weights[i] % whole))
        for i in by_remainder[:missing]:
            parts[i] += 1
    return parts


def format_energy(energy_uj: int) -> str:
    """`energy_uj` for people, three significant figures: 12.3 J, 4.56 kJ, 0 uJ."""
    for size, name in _UNIT_STEPS:
        if abs(energy_uj) >= size:
            return (
                f"{energy_uj / size:.3g} {name}" if abs(energy_uj) / size < 1000 else f"{energy_uj / size:,.0f} {name}"
            )
    return f"{energy_uj} uJ"


def format_carbon(carbon_ugco2e: int) -> str:
    """`carbon_ugco2e` for people: 1.2 ugCO2e, 3.4 mgCO2e, 5.6 gCO2e, 7.8 kgCO2e."""
    for size, name in ((1e9, "kg"), (1e6, "g"), (1e3, "mg")):
        if abs(carbon_ugco2e) >= size:
            return f"{carbon_ugco2e / size:.3g} {name}CO2e"
    return f"{carbon_ugco2e} ugCO2e"


def format_water(volume_ul: int) -> str:
    """`volume_ul` microlitres for people: 12 uL, 3.4 mL, 5.6 L, 7.8 m3."""
    for size, name in ((1e9, "m3"), (1e6, "L"), (1e3, "mL")):
        if abs(volume_ul) >= size:
            return f"{volume_ul / size:.3g} {name}"
    return f"{volume_ul} uL"
