"""The footprint of energy by the interval in which it was used: carbon, water and money under the terms of a place.

Pure; knows nothing of accounts or ledgers. Carbon is applied to intervals by a series, never one factor to a sum: a
ledger bucket is priced with the mean of the series over it, as if its energy was used evenly. What comes in late
or is revised prices the past anew when it is read again; energy never changes.

    prices = Prices(Terms("FRA", series, pue=1.2))
    prices.footprint({(start_ns, end_ns): energy_uj})
    prices.basis({(start_ns, end_ns): energy_uj}).notes          # with which data, and whether they were revised

The location-based figure is `carbon_ugco2e`; the market-based one stands beside it and is never added to it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from app.carbon.basis import PriceBasis
from app.carbon.footprint import CarbonSettings, carbon_of
from app.carbon.intensity import ConstantSeries, IntensityGrade, LocationAverage, LocationAverageSeries, MarketBased
from app.carbon.series import GridSeries
from app.carbon.tariff import Tariff, cost_micros
from app.carbon.water import Water
from app.units import exact_carbon_ug, format_carbon

Interval = tuple[int, int]
"""Begin and end, nanoseconds since the Unix epoch."""

Energy = Mapping[Interval, int]
"""Microjoules of devices by interval."""

_KEPT = 50_000
"""Intervals whose price is remembered: half a year of hours and a month of minutes."""


class MarketBasedSeries(Protocol):
    """What contracts attribute to each hour; another type than what the place emits."""

    def mean_between(self, start_ns: int, end_ns: int) -> MarketBased:
        """The mean over an interval."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything that a price depends on beside energy and time."""

    zone: str
    series: LocationAverageSeries
    pue: float = 1.0
    market: MarketBasedSeries | None = None
    """None: no contract is known, and there is no market-based figure."""
    water: Water = field(default_factory=Water)
    tariff: Tariff | None = None

    @property
    def is_constant(self) -> bool:
        """One yearly figure is all that is known."""
        series = self.series
        return isinstance(series, ConstantSeries) or (
            isinstance(series, GridSeries) and not series.observed and not series.forecast
        )

    def present(self, wall_ns: int) -> LocationAverage:
        """The intensity that holds at an instant, without the building."""
        return self.series.intensity_at(wall_ns)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What some energy comes to. None: its coefficient or contract is not known."""

    carbon_ugco2e: int
    """Operational, location-based: E x PUE x I."""
    market_ugco2e: int | None = None
    """The same by contract: beside it, never added."""
    water_site_ul: int | None = None
    water_source_ul: int | None = None
    """Microlitres at the site, and at the power stations."""
    cost_micros: int | None = None
    """Millionths of the tariff's currency."""


class _Price(NamedTuple):
    mean: LocationAverage
    first_g_per_kwh: float
    revised: float
    """Share of the interval."""
    grades: tuple[tuple[IntensityGrade, float], ...]
    """Share of the interval by grade."""
    market: MarketBased | None
    per_kwh: float
    """Money."""


class Prices:
    """Prices of intervals under fixed terms, worked out once each."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._known: dict[Interval, _Price] = {}

    def footprint(self, energy: Energy) -> Footprint:
        """Of energy by interval, each >= 0; rounded once an interval."""
        terms, total_uj = self.terms, sum(energy.values())
        carbon_ug, market_ug, cost = 0, 0.0, 0.0
        for interval, energy_uj in energy.items():
            price = self._price(interval)
            carbon_ug += carbon_of(energy_uj, price.mean, terms.pue)
            if price.market is not None:
                market_ug += exact_carbon_ug(energy_uj, price.market.g_per_kwh * terms.pue)
            if terms.tariff is not None:
                cost += cost_micros(energy_uj, price.per_kwh, terms.pue)
        return Footprint(
            carbon_ugco2e=carbon_ug,
            market_ugco2e=None if terms.market is None else round(market_ug),
            water_site_ul=terms.water.site_ul(total_uj),
            water_source_ul=terms.water.source_ul(total_uj, terms.pue),
            cost_micros=None if terms.tariff is None else round(cost),
        )

    def basis(self, energy: Energy, now_ns: int) -> PriceBasis:
        """The data behind the footprint of the same energy."""
        total_uj = sum(energy.values())
        grades: dict[IntensityGrade, float] = defaultdict(float)
        sources: dict[str, float] = defaultdict(float)
        market: dict[str, float] = defaultdict(float)
        carbon_ug = first_ug = revised_uj = weighted_g = 0.0
        for interval, energy_uj in energy.items():
            price = self._price(interval)
            sources[_named(price.mean)] += energy_uj
            if price.market is not None:
                market[_named(price.market)] += energy_uj
            for grade, share in price.grades:
                grades[grade] += share * energy_uj
            revised_uj += price.revised * energy_uj
            weighted_g += price.mean.g_per_kwh * energy_uj
            carbon_ug += exact_carbon_ug(energy_uj, price.mean.g_per_kwh * self.terms.pue)
            first_ug += exact_carbon_ug(energy_uj, price.first_g_per_kwh * self.terms.pue)
        present = self.terms.present(now_ns)
        shares = {grade.value: grades[grade] / total_uj for grade in IntensityGrade if grades[grade] and total_uj}
        revised = revised_uj / total_uj if total_uj else 0.0
        # The sum of rounded parts may differ from the rounded sum: the difference is what was re-priced.
        first = self.footprint(energy).carbon_ugco2e + round(first_ug - carbon_ug)
        return PriceBasis(
            intensity_g_per_kwh=weighted_g / total_uj if total_uj else present.g_per_kwh,
            source=_most_first(sources) or _named(present),
            market_source=_most_first(market),
            grades=shares,
            revision=self.terms.series.revision,
            revised_share=revised,
            first_carbon_ugco2e=first,
            notes=tuple(_notes(shares, revised, first, round(carbon_ug), self.terms.series.revision)),
        )

    def _price(self, interval: Interval) -> _Price:
        found = self._known.get(interval)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[interval] = _priced(self.terms, *interval)
        return found


def _priced(terms: Terms, start_ns: int, end_ns: int) -> _Price:
    mean, slots = terms.series.mean_between(start_ns, end_ns), terms.series.slots_between(start_ns, end_ns)
    width_ns = max(1, end_ns - start_ns)
    grades: dict[IntensityGrade, float] = defaultdict(float)
    revised, was_more_g = 0.0, 0.0
    for slot in slots:
        share = (slot.end_ns - slot.start_ns) / width_ns
        grades[slot.grade] += share
        if slot.first_g_per_kwh is not None:
            revised += share
            was_more_g += (slot.first_g_per_kwh - slot.g_per_kwh) * share
    return _Price(
        mean=mean,
        first_g_per_kwh=mean.g_per_kwh + was_more_g,
        revised=revised,
        grades=tuple(grades.items()) or ((mean.grade, 1.0),),
        market=None if terms.market is None else terms.market.mean_between(start_ns, end_ns),
        per_kwh=0.0 if terms.tariff is None else terms.tariff.mean_price(start_ns, end_ns),
    )


def _most_first(weights: Mapping[str, float]) -> str:
    return "; ".join(sorted(weights, key=lambda name: -weights[name]))


def _named(intensity: LocationAverage | MarketBased) -> str:
    return f"{intensity.source}, {intensity.year}" if intensity.year else intensity.source


def _notes(shares: Mapping[str, float], revised: float, first_ug: int, carbon_ug: int, revision: int) -> Iterable[str]:
    if revised:
        yield (
            f"re-priced: the grid data for {revised:.1%} of this energy were revised after they first came (revision "
            f"{revision}); with those it was {format_carbon(first_ug)}, now it is {format_carbon(carbon_ug)}"
        )
    waiting = [grade for grade in (IntensityGrade.FORECAST, IntensityGrade.STALE) if shares.get(grade.value)]
    if waiting:
        named = ", ".join(f"{shares[grade.value]:.1%} {grade.value}" for grade in waiting)
        yield f"not final: of this energy's hours the grid's own figures have not come yet ({named})"


def constant_terms(settings: CarbonSettings) -> Terms:
    """Terms of a place whose yearly figure is all that is known."""
    return Terms(settings.zone, settings.series(), settings.pue)
