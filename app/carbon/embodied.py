"""Embodied carbon: the share that some work carries of the making of the hardware that was reserved for it.

    M = TE x (TiR / EL) x (RR / ToR)                          ISO/IEC 21031:2024

TE: emissions of making; TiR: time reserved; EL: expected lifespan; RR of ToR: resources reserved of all there are. By
reservation, not by use: a GPU that waits for its owner is nobody else's. Pure; knows nothing of ledgers or prices.

    >>> Hardware(making_kgco2e=1000, lifetime_years=4).share_ug(3600)      # the standard's own example: about 28 g
    28519279
"""

import math
from dataclasses import dataclass

from app.carbon.coefficients import Coefficients
from app.errors import InvalidInput

SECONDS_PER_YEAR = 365.25 * 86_400
UG_PER_KG = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was made, and for how long it is used. Raises InvalidInput."""

    making_kgco2e: float
    """TE of all of it, > = 0."""
    lifetime_years: float
    """EL, > 0."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.making_kgco2e) and self.making_kgco2e >= 0):
            raise InvalidInput(f"making must be >= 0 kgCO2e, got {self.making_kgco2e}")
        if not (math.isfinite(self.lifetime_years) and self.lifetime_years > 0):
            raise InvalidInput(f"lifetime must be > 0 years, got {self.lifetime_years}")

    def share_ug(self, reserved_s: float, share: float = 1.0) -> int:
        """M in ugCO2e of `reserved_s` >= 0 seconds of a `share` (RR / ToR, 0..1) of it. Raises InvalidInput.

        Of several servers at once `reserved_s` is the sum over them.
        """
        if not (math.isfinite(reserved_s) and reserved_s >= 0 and 0 <= share <= 1):
            raise InvalidInput(f"reserved time must be >= 0 s and its share 0 to 1, got {reserved_s} s and {share}")
        lifetime_s = self.lifetime_years * SECONDS_PER_YEAR
        return round(self.making_kgco2e * UG_PER_KG * reserved_s / lifetime_s * share)


def hardware_of(table: Coefficients, parts: str, lifetime_years: float | None = None) -> Hardware:
    """Hardware by its parts: `server`, `gpu-server+8*h100`, `1300` (kg), each a `making:` key or a number of kg.

    The lifetime is the table's `lifetime:server` unless it is given. Raises InvalidInput.
    """
    total_kg = 0.0
    for part in parts.split("+"):
        count, _, name = part.rpartition("*")
        total_kg += _count(count, parts) * _making_kg(table, name.strip())
    years = table.value("lifetime:server") if lifetime_years is None else lifetime_years
    return Hardware(total_kg, years)


def _count(text: str, whole: str) -> float:
    try:
        count = float(text) if text.strip() else 1.0
    except ValueError:
        raise InvalidInput(f"hardware is written like gpu-server+8*h100, got {whole!r}") from None
    return count


def _making_kg(table: Coefficients, name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return table.value(f"making:{name}")
