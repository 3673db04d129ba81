"""SCI, the Software Carbon Intensity: carbon per functional unit, and what the score was made of.

    SCI = ((E x I) + M) / R                                   ISO/IEC 21031:2024

E: energy with the building's (PUE); I: location-based intensity, hour by hour; M: embodied; R: functional units.
Market-based figures and offsets are no part of it. SCI for AI (Green Software Foundation, draft of 2025) asks for two
scores of one model: the consumer's (running it, per token or inference) and the provider's (data and training, per
parameter, training token or FLOP); they have different units and are never added. What one use carries with training
spread over all uses of the model's life is a third figure, the amortised one. Pure; knows nothing of ledgers.
"""

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput


class Sci(BaseModel):
    """One score with everything it was made of: `score_ugco2e` can be worked by hand from the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    """What was scored, for people."""
    boundary: tuple[str, ...]
    """What is inside, a sentence each."""
    energy_uj: int = Field(ge=0)
    """Of the devices, without the building."""
    pue: float = Field(ge=1)
    g_per_kwh: float = Field(ge=0)
    """Mean over the energy's hours."""
    operational_ugco2e: int = Field(ge=0)
    """E x I."""
    embodied_ugco2e: int = Field(ge=0)
    """M; 0 where no hardware was named."""
    unit: str
    """R, one of it: request, 1k tokens, epoch, inference."""
    units: float = Field(gt=0)
    score_ugco2e: float = Field(ge=0)


def sci(operational_ugco2e: float, embodied_ugco2e: float, units: float) -> float | None:
    """SCI in ugCO2e per functional unit; None for no unit."""
    return (operational_ugco2e + embodied_ugco2e) / units if units > 0 else None


def amortised(consumer_ugco2e: float, provider_total_ugco2e: float, life_units: float) -> float:
    """What one unit of use carries when the model's making is spread evenly over the units of its whole life.

    `consumer_ugco2e`: SCI of running it, per unit; `provider_total_ugco2e`: all carbon of its making; `life_units`:
    units that it is expected to serve, > 0. Raises InvalidInput.
    """
    if not life_units > 0:
        raise InvalidInput(f"a model's life must be > 0 units, got {life_units}")
    return consumer_ugco2e + provider_total_ugco2e / life_units
