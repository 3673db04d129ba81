"""Energy to carbon: E x PUE x I. Pure; knows nothing of accounts, zones' data or when the energy was used.

Energy times the emission factor of the grid where it was used is the location-based method of the GHG
Protocol Scope 2 Guidance (World Resources Institute, 2015). PUE, total facility energy over IT energy (The
Green Grid, white paper 49, 2012; ISO/IEC 30134-2), turns what the devices drew into what the building drew.

    >>> average = LocationAverage(480.0, "world", "Ember", 2023)
    >>> carbon_of(3_600_000_000_000, average, pue=1.25)
    600000000
"""

import math

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from app.carbon.intensity import ConstantSeries, LocationAverage, constant_series
from app.carbon.zones import WORLD, find_zone
from app.errors import InvalidInput
from app.units import carbon_ug


class CarbonSettings(BaseModel):
    """How energy is priced in carbon. `carbon_settings` builds it and names all faults at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zone: str = WORLD
    """Grid zone of the cluster; stored as the table spells it. The default, the world's average, only keeps
    reports from being empty: name your zone."""
    pue: float = Field(default=1.0, ge=1.0, le=5.0)
    """Total energy of the building over that of its IT equipment. 1: the devices alone."""
    intensity_g_per_kwh: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    """The grid's figure where you know it better than the table, in gCO2e/kWh. None: the table's."""

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            return find_zone(value).id
        except InvalidInput as error:
            raise ValueError(str(error)) from error

    def series(self) -> ConstantSeries:
        """The intensity that these settings mean."""
        if self.intensity_g_per_kwh is None:
            return constant_series(find_zone(self.zone))
        return ConstantSeries(LocationAverage(self.intensity_g_per_kwh, self.zone, source="configured"))


def carbon_settings(**values: object) -> CarbonSettings:
    """Validated CarbonSettings. Raises InvalidInput naming every fault."""
    try:
        return CarbonSettings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_sentence(fault) for fault in error.errors())
        raise InvalidInput(f"carbon settings: {faults}") from error


def _sentence(fault: ErrorDetails) -> str:
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "value_error":
        return f"{name}: {fault['ctx']['error']}"
    return f"{name}: {fault['msg']}, got {fault['input']!r}"


def carbon_of(energy_uj: int, intensity: LocationAverage, pue: float = 1.0) -> int:
    """Micrograms of CO2e of `energy_uj` >= 0 drawn by devices, rounded to the nearest. Raises InvalidInput.

    Rounding happens here, once per call: the carbon of n parts differs from that of their sum by at most
    (n + 1) / 2 ug.
    """
    if energy_uj < 0:
        raise InvalidInput(f"energy_uj must be >= 0, got {energy_uj}")
    if not (math.isfinite(pue) and pue >= 1):
        raise InvalidInput(f"pue must be >= 1 (total over IT energy), got {pue}; 1 if unknown")
    return carbon_ug(energy_uj, intensity.g_per_kwh * pue)
