"""What a deployment may spend in a day, and what its answers must be worth: the rules that a config states.

Knows nothing of variants, books or grids. In the `args` of a model or a pool:

    spending: {gco2e_per_day: 5, mean_quality: 0.95, least_quality: 0.9}
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_HOUR_S = 3600.0
SLOTS = 24
"""Of a day, however long it is: hours."""


class SpendingRules(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gco2e_per_day: float | None = Field(default=None, gt=0)
    """Grams of all that is charged to the model since midnight, UTC: requests, loads and warm time, PUE included,
    location-based. Beyond it the answer is 429 with the seconds to midnight in `retry-after`, RESOURCE_EXHAUSTED."""
    joules_per_day: float | None = Field(default=None, gt=0)
    """The same in joules. With both the scarcer one decides."""
    mean_quality: float | None = None
    """What all answers of a day are worth on average, at least. Kept before the budget, which then ends sooner.
    Without a budget it is kept with the least carbon."""
    least_quality: float | None = None
    """A variant that is worth less answers only those who ask for it by name."""
    period_hours: float = Field(default=24.0, gt=0, le=24 * 366)
    """Length of the "day", counted from the epoch: 24 begins at midnight, UTC. Others are for rehearsals."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.gco2e_per_day is None and self.joules_per_day is None and self.mean_quality is None:
            raise ValueError(
                "spending needs gco2e_per_day, joules_per_day or mean_quality; remove it to answer as ever"
            )
        return self

    @property
    def period_s(self) -> float:
        return self.period_hours * _HOUR_S

    @property
    def slot_s(self) -> float:
        return self.period_s / SLOTS

    @property
    def budget(self) -> str:
        """In words, for people: `5 gCO2e a day`."""
        day = "a day" if self.period_hours == SLOTS else f"in {self.period_hours:g} h"
        parts = []
        if self.gco2e_per_day is not None:
            parts.append(f"{self.gco2e_per_day:g} gCO2e {day}")
        if self.joules_per_day is not None:
            parts.append(f"{self.joules_per_day:g} joules {day}")
        return " and ".join(parts)

    def start_s(self, wall_s: float) -> float:
        """When the day of `wall_s` began; Unix seconds."""
        return wall_s // self.period_s * self.period_s
