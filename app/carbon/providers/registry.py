"""Which providers there are, what each one's figures mean, and how one is built from settings.

Knows nothing of caches. `PROVIDERS` is the only list of their names.

    spec = parsed_source("electricitymaps:FR")
    provider = PROVIDERS[spec.provider].make(spec, access, factors, spend)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, SecretStr

from app.carbon.intensity import LocationAverage, Marginal, MarketBased
from app.carbon.providers import eia, electricity_maps, entsoe, neso, watttime
from app.carbon.providers.base import Provider, Quota
from app.carbon.providers.file import FileOfIntensity
from app.carbon.providers.wire import Wire
from app.carbon.zones import Zone, ZoneKind
from app.errors import InvalidInput

ANY_MEANING = frozenset({LocationAverage, Marginal, MarketBased})
_AVERAGE = frozenset({LocationAverage})

Spend = Callable[[], None]
"""Called before each request; raises Busy when the quota is spent."""


class Access(BaseModel):
    """Address and keys of one provider."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = ""
    """Empty: the provider's own."""
    user: str = ""
    key: SecretStr = SecretStr("")
    """Key, token or password. Never shown."""


@dataclass(frozen=True, slots=True)
class Source:
    """One provider for one of its zones."""

    provider: str
    zone: str
    """As the provider names it; a path for `file`, a figure for `constant`."""

    @property
    def label(self) -> str:
        """As it is configured."""
        return f"{self.provider}:{self.zone}"


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """What there is to know of a provider before one is built."""

    meanings: frozenset[type]
    make: Callable[[Source, Access, Mapping[str, float], Spend], Provider]
    url: str = ""
    quota: Quota | None = None
    """None: nothing is asked over a network."""
    needs: tuple[str, ...] = ()
    """Settings without which it cannot be asked, as they end: `KEY` is JOULEKEEPER_INTENSITY_<PROVIDER>_KEY."""
    zone_of: Callable[[Zone], str] = lambda zone: ""
    """Its name for a zone of ours; empty where that cannot be told."""


def parsed_source(text: str, zone: Zone) -> Source:
    """PROVIDER[:ZONE] as a source; without ZONE the provider's name for `zone`. Raises InvalidInput."""
    name, _, told = text.strip().partition(":")
    kind = PROVIDERS.get(name)
    if kind is None:
        raise InvalidInput(f"provider must be one of {', '.join(PROVIDERS)}, got {name!r}")
    found = told.strip() or kind.zone_of(zone)
    if not found:
        raise InvalidInput(f"{name} does not know {zone.label}: name its own zone, as {name}:{_EXAMPLES[name]}")
    if name == CONSTANT:
        _figure(found)
    return Source(name, found)


def constant_of(source: Source) -> float:
    """The figure of a `constant` source, in gCO2e per kWh."""
    return _figure(source.zone)


def _figure(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InvalidInput(f"{CONSTANT} must be followed by a figure >= 0 in gCO2e/kWh, got {text!r}")
    return value


def _wire(
    name: str, source: Source, access: Access, spend: Spend, query: str = "", header: str = "", needs: str = "KEY"
) -> Wire:
    key = access.key.get_secret_value()
    return Wire(
        name,
        access.url or PROVIDERS[name].url,
        spend,
        keys={query: key} if query else {},
        headers={header: key} if header else {},
        hint=f"see JOULEKEEPER_INTENSITY_{name.upper()}_{needs}",
    )


def _electricity_maps(source: Source, access: Access, factors: Mapping[str, float], spend: Spend) -> Provider:
    wire = _wire("electricitymaps", source, access, spend, header="auth-token")
    return electricity_maps.ElectricityMaps(source.zone, wire)


def _watttime(source: Source, access: Access, factors: Mapping[str, float], spend: Spend) -> Provider:
    wire = _wire("watttime", source, access, spend, needs="PASSWORD")
    return watttime.WattTime(source.zone, wire, access.user, access.key.get_secret_value())


def _neso(source: Source, access: Access, factors: Mapping[str, float], spend: Spend) -> Provider:
    return neso.Neso(source.zone, _wire("neso", source, access, spend, needs="URL"))


def _entsoe(source: Source, access: Access, factors: Mapping[str, float], spend: Spend) -> Provider:
    return entsoe.Entsoe(source.zone, _wire("entsoe", source, access, spend, query="securityToken"), factors)


def _eia(source: Source, access: Access, factors: Mapping[str, float], spend: Spend) -> Provider:
    return eia.Eia(source.zone, _wire("eia", source, access, spend, query="api_key"), factors)


def _file(source: Source, access: Access, factors: Mapping[str, float], spend: Spend) -> Provider:
    return FileOfIntensity(source.zone)


def _nobody(source: Source, access: Access, factors: Mapping[str, float], spend: Spend) -> Provider:
    raise InvalidInput(f"{source.label} is asked of nobody")


def _country(zone: Zone) -> str:
    """Electricity Maps names whole countries by their alpha-2 code."""
    return zone.alias if zone.kind is ZoneKind.COUNTRY else ""


def _britain(zone: Zone) -> str:
    return neso.NATION if zone.id == "GBR" else ""


CONSTANT = "constant"

PROVIDERS: dict[str, ProviderKind] = {
    "electricitymaps": ProviderKind(
        _AVERAGE, _electricity_maps, electricity_maps.URL, electricity_maps.QUOTA, ("KEY",), _country
    ),
    "watttime": ProviderKind(frozenset({Marginal}), _watttime, watttime.URL, watttime.QUOTA, ("USER", "PASSWORD")),
    "neso": ProviderKind(_AVERAGE, _neso, neso.URL, neso.QUOTA, zone_of=_britain),
    "entsoe": ProviderKind(_AVERAGE, _entsoe, entsoe.URL, entsoe.QUOTA, ("KEY",)),
    "eia": ProviderKind(_AVERAGE, _eia, eia.URL, eia.QUOTA, ("KEY",)),
    "file": ProviderKind(ANY_MEANING, _file),
    CONSTANT: ProviderKind(ANY_MEANING, _nobody),
}

_EXAMPLES = {
    "electricitymaps": "US-CAL-CISO",
    "watttime": "CAISO_NORTH",
    "neso": "13",
    "entsoe": "10YFR-RTE------C",
    "eia": "CISO",
    "file": "/srv/grid.csv",
    CONSTANT: "12.5",
}
