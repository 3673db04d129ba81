"""Where the intensity of the grid comes from: sources in order of fallback, their keys, and how long to trust them.

    grid_settings(zone="FRA", average=("electricitymaps:FR", "entsoe:10YFR-RTE------C"), access={...})

`grid_settings` raises InvalidInput naming every fault.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.carbon.intensity import Intensity, LocationAverage, Marginal, MarketBased
from app.carbon.providers.registry import PROVIDERS, Access, Source, parsed_source
from app.carbon.zones import WORLD, find_zone
from app.errors import InvalidInput

VARIABLES: dict[type[Intensity], str] = {
    LocationAverage: "JOULEKEEPER_INTENSITY",
    Marginal: "JOULEKEEPER_INTENSITY_MARGINAL",
    MarketBased: "JOULEKEEPER_INTENSITY_MARKET",
}
"""The setting that names the sources of each meaning."""


class GridSettings(BaseModel):
    """Everything that a Grid needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    zone: str = WORLD
    average: tuple[str, ...] = ()
    """Sources PROVIDER[:ZONE] of the location-based average. The static table comes after the last of them."""
    marginal: tuple[str, ...] = ()
    market: tuple[str, ...] = ()
    access: dict[str, Access] = Field(default_factory=dict)
    """By provider."""
    cache: Path | None = None
    """SQLite file of what was said. None is only for no sources."""
    refresh_s: float = Field(default=300.0, gt=0)
    stale_hours: float = Field(default=6.0, ge=0)
    requests_per_hour: int = Field(default=0, ge=0)
    """For each provider; 0: what each one documents."""
    coefficients: str = ""
    """The user's file over the table of coefficients; empty: the table alone."""

    @model_validator(mode="after")
    def _sources_that_can_be_asked(self) -> "GridSettings":
        faults = [
            fault for meaning in VARIABLES for text in self._texts(meaning) if (fault := self._fault(meaning, text))
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def sources(self, meaning: type[Intensity]) -> tuple[Source, ...]:
        """Of one meaning, in order of fallback."""
        return tuple(parsed_source(text, find_zone(self.zone)) for text in self._texts(meaning))

    def access_of(self, provider: str) -> Access:
        """Address and keys of one provider."""
        return self.access.get(provider, Access())

    def _texts(self, meaning: type[Intensity]) -> tuple[str, ...]:
        return {LocationAverage: self.average, Marginal: self.marginal, MarketBased: self.market}[meaning]

    def _fault(self, meaning: type[Intensity], text: str) -> str:
        """Why a source cannot be asked; empty where it can."""
        variable = VARIABLES[meaning]
        try:
            source = parsed_source(text, find_zone(self.zone))
        except InvalidInput as error:
            return f"{variable}: {error}"
        kind = PROVIDERS[source.provider]
        if meaning not in kind.meanings:
            right = " or ".join(VARIABLES[each] for each in VARIABLES if each in kind.meanings)
            return f"{variable}: {source.provider} tells another kind of intensity, name it in {right}"
        access = self.access_of(source.provider)
        has = {"KEY": access.key, "PASSWORD": access.key, "USER": access.user}
        missing = [need for need in kind.needs if not _text_of(has[need])]
        prefix = f"JOULEKEEPER_INTENSITY_{source.provider.upper()}"
        return f"{source.provider} needs {' and '.join(f'{prefix}_{need}' for need in missing)}" if missing else ""


def grid_settings(**values: object) -> GridSettings:
    """Validated GridSettings. Raises InvalidInput naming every fault, and no key."""
    try:
        return GridSettings.model_validate(values)
    except ValidationError as error:
        told = (fault["msg"].removeprefix("Value error, ") for fault in error.errors(include_input=False))
        raise InvalidInput("; ".join(told)) from None


def _text_of(value: object) -> str:
    return str(getattr(value, "get_secret_value", lambda: value)())
