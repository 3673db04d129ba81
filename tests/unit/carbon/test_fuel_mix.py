"""Fuel mix to intensity: worked by hand, and real hours of a published series."""

import pytest

from app.carbon.coefficients import coefficients
from app.carbon.providers.fuel_mix import fuel_factors, intensity_of_mix, slots_of_mixes

FACTORS = {"coal": 820.0, "gas": 490.0, "wind": 11.0}


def test_the_mean_of_factors_is_weighted_by_energy():
    # (3 x 490 + 1 x 11) / 4 = 370.25
    assert intensity_of_mix({"gas": 3.0, "wind": 1.0}, FACTORS) == 370.25


def test_what_a_plant_draws_itself_is_no_generation():
    assert intensity_of_mix({"gas": 3.0, "wind": -1.0}, FACTORS) == 490.0


def test_nothing_generated_is_no_figure():
    assert intensity_of_mix({"gas": 0.0}, FACTORS) is None
    assert intensity_of_mix({}, FACTORS) is None


def test_a_fuel_without_factor_is_an_error_and_not_clean():
    with pytest.raises(KeyError):
        intensity_of_mix({"peat": 1.0}, FACTORS)


def test_a_mix_without_a_fuel_that_matters_is_left_out():
    mixes = [(0, 1, {"gas": 60.0, "coal": 40.0}), (1, 2, {"gas": 60.0}), (2, 3, {"gas": 60.0, "coal": 0.0})]
    slots, left_out = slots_of_mixes(mixes, FACTORS, "grid")
    # (60 x 490 + 40 x 820) / 100 = 622; coal told as nothing is a figure, coal not told is none
    assert [(slot.start_ns, slot.g_per_kwh) for slot in slots] == [(0, 622.0), (2, 490.0)]
    assert left_out == 1


def test_a_fuel_of_less_than_a_hundredth_may_be_missing():
    mixes = [(0, 1, {"gas": 1000.0, "coal": 5.0}), (1, 2, {"gas": 1000.0})]
    slots, left_out = slots_of_mixes(mixes, FACTORS, "grid")
    assert (len(slots), left_out) == (2, 0)


@pytest.mark.parametrize(
    ("mix", "published"),
    [
        # CISO, 2022-01-01 00:00 and 01:00 UTC, MWh by fuel (U.S. EIA, public domain) and the intensity published for
        # them (Hewlett Packard Enterprise, dc-rl, commit a92b475, MIT), which takes 41 for solar: on roofs.
        ((3130, 1367, 2304, 44, 6764, 19, 2265, 189), 222.30),
        ((3013, 0, 2723, 42, 8603, 19, 2265, 1159), 260.92),
    ],
)
def test_published_hours_come_out_to_the_hundredth(mix: tuple[int, ...], published: float):
    names = ("wind", "solar", "hydro", "oil", "gas", "coal", "nuclear", "other")
    factors = {**fuel_factors(coefficients()), "solar": 41.0}
    found = intensity_of_mix(dict(zip(names, map(float, mix), strict=True)), factors)
    assert found == pytest.approx(published, abs=0.01)
