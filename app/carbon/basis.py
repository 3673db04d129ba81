"""With which grid data energy was priced: what a report or receipt says of it. Knows nothing of how prices are made."""

from pydantic import BaseModel, ConfigDict


class PriceBasis(BaseModel):
    """With which data energy was priced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intensity_g_per_kwh: float
    """Mean over the energy; of none, what holds now."""
    source: str
    """Of the data, those of most energy first."""
    market_source: str = ""
    """Of the market-based figure; empty without contracts. Hours that they leave out have the zone's average."""
    grades: dict[str, float]
    """Share of the energy by how well its hours are known: actual, estimated, forecast, stale, yearly."""
    revision: int
    """Of the series; grows whenever a figure of the past comes in or changes."""
    revised_share: float
    """Of the energy: priced again with figures that were revised after they first came."""
    first_carbon_ugco2e: int
    """What the same energy came to with the figures as they first came."""
    notes: tuple[str, ...]
    """For people: whether it was priced again, and what is still to come."""
