"""Energy to carbon: the formula, its bounds, and that parts sum to the whole within rounding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.carbon.footprint import CarbonSettings, carbon_of, carbon_settings
from app.carbon.intensity import ConstantSeries, LocationAverage, constant_series
from app.carbon.zones import find_zone
from app.errors import InvalidInput

KWH_UJ = 3_600_000_000_000


def average(g_per_kwh: float) -> LocationAverage:
    return LocationAverage(g_per_kwh, "test", "test", 2024)


def test_one_kwh_at_480_g_is_480_g():
    assert carbon_of(KWH_UJ, average(480)) == 480_000_000  # 480 g = 480e6 ug


def test_pue_scales_energy_and_so_carbon():
    # 1 J of IT energy at PUE 1.5 and 360 g/kWh: 1.5 J / 3.6e6 J/kWh * 360e6 ug/kWh = 150 ug
    assert carbon_of(1_000_000, average(360), pue=1.5) == 150


def test_carbon_is_rounded_to_the_nearest_microgram():
    # 1 uJ at 1.8e6 g/kWh is exactly half a microgram per 1 uJ; 3 uJ make 1.5, 5 uJ make 2.5: ties go to even
    assert [carbon_of(uj, average(1_800_000)) for uj in (1, 2, 3, 4, 5)] == [0, 1, 2, 2, 2]


def test_no_energy_and_no_intensity_make_no_carbon():
    assert carbon_of(0, average(480)) == 0
    assert carbon_of(KWH_UJ, average(0)) == 0


@given(
    parts_uj=st.lists(st.integers(0, 10**13), max_size=40),
    g_per_kwh=st.floats(0, 2000),
    pue=st.floats(1, 3),
)
def test_the_carbon_of_parts_sums_to_that_of_the_whole_within_rounding(parts_uj, g_per_kwh, pue):
    whole = carbon_of(sum(parts_uj), average(g_per_kwh), pue)
    parts = sum(carbon_of(uj, average(g_per_kwh), pue) for uj in parts_uj)
    assert abs(whole - parts) <= (len(parts_uj) + 1) / 2 + 1e-9 * whole


@given(energy_uj=st.integers(0, 10**15), more_uj=st.integers(0, 10**12), g_per_kwh=st.floats(0, 2000))
def test_more_energy_never_makes_less_carbon(energy_uj, more_uj, g_per_kwh):
    assert carbon_of(energy_uj + more_uj, average(g_per_kwh)) >= carbon_of(energy_uj, average(g_per_kwh))


@pytest.mark.parametrize("pue", [0.99, 0.0, -1.0, float("nan"), float("inf")])
def test_a_pue_below_one_or_no_number_is_refused(pue):
    with pytest.raises(InvalidInput, match="pue must be >= 1"):
        carbon_of(1, average(1), pue)


def test_negative_energy_is_refused():
    with pytest.raises(InvalidInput, match="energy_uj must be >= 0, got -1"):
        carbon_of(-1, average(1))


@pytest.mark.parametrize("g_per_kwh", [-1.0, float("nan"), float("inf")])
def test_an_intensity_below_zero_or_no_number_is_refused(g_per_kwh):
    with pytest.raises(InvalidInput, match="intensity of test must be >= 0"):
        average(g_per_kwh)


def test_a_constant_series_holds_at_every_instant():
    series = constant_series(find_zone("fr"))
    assert series.intensity_at(0) is series.intensity_at(1_700_000_000_000_000_000)
    assert series.intensity_at(0) == LocationAverage(56.039, "FRA", find_zone("FRA").source, 2023)


def test_settings_take_the_zone_as_the_table_spells_it():
    settings = carbon_settings(zone="fr", pue=1.2)
    assert settings == CarbonSettings(zone="FRA", pue=1.2)
    assert settings.series().intensity_at(0).g_per_kwh == 56.039


def test_the_default_is_the_world_without_a_building():
    assert carbon_settings() == CarbonSettings(zone="world", pue=1.0, intensity_g_per_kwh=None)


def test_a_configured_intensity_replaces_that_of_the_table():
    series = carbon_settings(zone="DEU", intensity_g_per_kwh=12.5).series()
    assert series == ConstantSeries(LocationAverage(12.5, "DEU", "configured", None))


def test_all_faults_of_the_settings_are_named_at_once():
    with pytest.raises(InvalidInput) as refused:
        carbon_settings(zone="frnace", pue=0.5, intensity=3)
    message = str(refused.value)
    assert "zone: zone must be" in message
    assert "FRA (France)" in message
    assert "pue: Input should be greater than or equal to 1, got 0.5" in message
    assert "intensity: Extra inputs are not permitted, got 3" in message


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        CarbonSettings().pue = 2.0
