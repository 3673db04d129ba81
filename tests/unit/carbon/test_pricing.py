"""Footprints by interval: carbon hour by hour, water, cost, market-based beside; and what a revision does to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.carbon.basis import PriceBasis
from app.carbon.coefficients import coefficients
from app.carbon.intensity import IntensityGrade, LocationAverage, MarketBased, Slot
from app.carbon.pricing import Footprint, Prices, Terms
from app.carbon.series import GridSeries
from app.carbon.tariff import Tariff
from app.carbon.water import Water, water_of_zone
from app.units import UJ_PER_KWH

HOUR = 3_600_000_000_000
GRAM = 1_000_000  # micrograms
YEARLY = LocationAverage(56.0, "FRA", "a table", 2023)
ACTUAL, FORECAST = IntensityGrade.ACTUAL, IntensityGrade.FORECAST


def slot(hour: int, g: float, grade: IntensityGrade = ACTUAL, first: float | None = None) -> Slot:
    return Slot(hour * HOUR, (hour + 1) * HOUR, g, grade, "the grid", first)


def terms(*observed: Slot, forecast: tuple[Slot, ...] = (), revision: int = 1, pue: float = 1.0) -> Terms:
    return Terms("FRA", GridSeries("FRA", YEARLY, observed, forecast, revision=revision), pue)


def basis(terms: Terms, energy: dict[tuple[int, int], int]) -> PriceBasis:
    return Prices(terms).basis(energy, now_ns=0)


def test_every_hour_is_priced_at_its_own_intensity():
    prices = Prices(terms(slot(0, 100), slot(1, 300), pue=1.5))
    energy = {(0, HOUR): 3 * UJ_PER_KWH, (HOUR, 2 * HOUR): UJ_PER_KWH}
    # (3 kWh x 100 + 1 kWh x 300) x 1.5 = 900 g; one mean factor would have given 4 x 200 x 1.5 = 1200 g
    assert prices.footprint(energy) == Footprint(carbon_ugco2e=900 * GRAM)
    told = prices.basis(energy, now_ns=0)
    assert (told.intensity_g_per_kwh, told.source, told.grades) == (150.0, "the grid", {"actual": 1.0})
    assert (told.revised_share, told.notes) == (0.0, ())


def test_a_bucket_wider_than_a_slot_takes_the_mean_and_a_hole_the_yearly_figure():
    # Two hours at 100, one unknown at 56, one at 300: (200 + 56 + 300) / 4 = 139; five slots' hole is not bridged
    prices = Prices(terms(slot(0, 100), slot(1, 100), slot(9, 300)))
    energy = {(0, 2 * HOUR): UJ_PER_KWH, (8 * HOUR, 10 * HOUR): UJ_PER_KWH}
    assert prices.footprint(energy).carbon_ugco2e == (100 + (56 + 300) // 2) * GRAM
    told = prices.basis(energy, now_ns=0)
    assert told.grades == {"actual": 0.75, "yearly": 0.25}


def test_late_data_price_the_past_again_and_say_so():
    energy = {(0, HOUR): UJ_PER_KWH, (HOUR, 2 * HOUR): UJ_PER_KWH}
    before = terms(slot(0, 100), slot(1, 300))
    after = terms(slot(0, 100), slot(1, 250, first=300.0), revision=2)
    assert Prices(before).footprint(energy).carbon_ugco2e == 400 * GRAM
    assert Prices(after).footprint(energy).carbon_ugco2e == 350 * GRAM
    told = basis(after, energy)
    assert (told.revision, told.revised_share, told.first_carbon_ugco2e) == (2, 0.5, 400 * GRAM)
    assert told.notes == (
        "re-priced: the grid data for 50.0% of this energy were revised after they first came (revision 2); "
        "with those it was 400 gCO2e, now it is 350 gCO2e",
    )


def test_hours_whose_own_figures_have_not_come_are_not_final():
    told = basis(terms(slot(0, 100), forecast=(slot(1, 80, FORECAST),)), {(0, 2 * HOUR): UJ_PER_KWH})
    assert told.grades == {"actual": 0.5, "forecast": 0.5}
    assert told.notes == (
        "not final: of this energy's hours the grid's own figures have not come yet (50.0% forecast)",
    )


def test_the_market_based_figure_stands_beside_and_is_never_added():
    market = GridSeries("FRA", MarketBased(20.0, "FRA", "our contract"))
    both = Terms("FRA", GridSeries("FRA", YEARLY, (slot(0, 100),)), pue=1.2, market=market)
    # location: 2 kWh x 1.2 x 100 = 240 g; market: 2 x 1.2 x 20 = 48 g
    found = Prices(both).footprint({(0, HOUR): 2 * UJ_PER_KWH})
    assert (found.carbon_ugco2e, found.market_ugco2e) == (240 * GRAM, 48 * GRAM)
    assert basis(both, {(0, HOUR): 1}).market_source == "our contract"


def test_water_is_told_by_where_it_is_drawn():
    # 10 kWh: site 10 x 0.5 = 5 L; source 10 x 1.2 x 3 = 36 L: E x (WUE + PUE x EWIF) = 41 L
    wet = Terms("FRA", GridSeries("FRA", YEARLY), pue=1.2, water=Water(0.5, 3.0))
    found = Prices(wet).footprint({(0, HOUR): 10 * UJ_PER_KWH})
    assert (found.water_site_ul, found.water_source_ul) == (5_000_000, 36_000_000)


def test_water_of_a_zone_is_its_own_its_countrys_or_the_worlds():
    table = coefficients()
    assert water_of_zone(table, "FRA") == Water(None, 3.6737)
    assert water_of_zone(table, "aws:eu-west-1") == Water(0.15, 3.908)
    assert water_of_zone(table, "aws:eu-west-1", country="IRL", wue_l_per_kwh=0.3) == Water(0.3, 1.4769)


def test_the_cost_follows_the_hours_of_the_tariff():
    day = {"price": 0.3, "hours": (0, 1)}
    tariff = Tariff.model_validate({"currency": "EUR", "price": 0.1, "timezone": "UTC", "periods": (day,)})
    priced = Terms("FRA", GridSeries("FRA", YEARLY), pue=2.0, tariff=tariff)
    # 1 kWh x 2 x 0.3 + 2 kWh x 2 x 0.1 = 1.00 EUR
    energy = {(0, HOUR): UJ_PER_KWH, (HOUR, 2 * HOUR): 2 * UJ_PER_KWH}
    assert Prices(priced).footprint(energy).cost_micros == 1_000_000


@given(
    hours=st.lists(st.tuples(st.integers(0, 10**13), st.floats(0, 2000)), min_size=1, max_size=24),
    pue=st.floats(1, 3),
    scale=st.floats(0.5, 2),
)
def test_the_carbon_of_hours_sums_to_that_of_the_day_and_what_it_was_is_told_exactly(hours, pue, scale):
    now = terms(*(slot(i, g * scale, first=g) for i, (_, g) in enumerate(hours)), pue=pue)
    was = terms(*(slot(i, g) for i, (_, g) in enumerate(hours)), pue=pue)
    energy = {(i * HOUR, (i + 1) * HOUR): uj for i, (uj, _) in enumerate(hours)}
    whole = Prices(now).footprint(energy).carbon_ugco2e
    parts = sum(Prices(now).footprint({interval: uj}).carbon_ugco2e for interval, uj in energy.items())
    assert whole == parts
    told_first = basis(now, energy).first_carbon_ugco2e
    assert told_first == pytest.approx(Prices(was).footprint(energy).carbon_ugco2e, abs=len(hours) + 1, rel=1e-9)
