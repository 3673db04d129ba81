"""Units: integers of microjoules, exact division, and figures for people."""

import pytest

from app.units import (
    carbon_ug,
    energy_of_power,
    format_carbon,
    format_energy,
    joules,
    kwh,
    power_of_energy,
    split_exactly,
)


def test_a_kilowatt_hour_is_3_6_million_joules():
    assert kwh(3_600_000_000_000) == 1.0
    assert joules(3_600_000_000_000) == 3_600_000.0


def test_one_milliwatt_for_one_millisecond_is_one_microjoule():
    assert energy_of_power(1, 1_000_000) == 1
    assert power_of_energy(1, 1_000_000) == 1.0


def test_no_duration_has_no_power():
    assert power_of_energy(5, 0) == 0.0


def test_carbon_of_one_kilowatt_hour_at_480_g_is_480_million_micrograms():
    assert carbon_ug(3_600_000_000_000, 480.0) == 480_000_000


def test_the_remainder_of_an_equal_split_goes_to_the_earlier_parts():
    assert split_exactly(10, [1, 1, 1]) == [4, 3, 3]


def test_the_remainder_goes_to_the_largest_fraction():
    # 10 x 1/6 = 1.67, 10 x 2/6 = 3.33, 10 x 3/6 = 5: the missing one goes to .67
    assert split_exactly(10, [1, 2, 3]) == [2, 3, 5]


def test_all_weights_zero_means_equal_parts():
    assert split_exactly(7, [0, 0]) == [4, 3]


def test_a_zero_weight_gets_nothing_however_large_the_total():
    # As floats 2**62 - 200 rounds to 2**62: the parts once were 2**62 - 100 and -100.
    assert split_exactly(2**62 - 200, [1, 0]) == [2**62 - 200, 0]


def test_nothing_can_be_given_to_nobody():
    assert split_exactly(0, []) == []
    with pytest.raises(ValueError, match="nobody to give 5 to"):
        split_exactly(5, [])


def test_a_negative_total_is_refused():
    with pytest.raises(ValueError, match="total must be >= 0, got -1"):
        split_exactly(-1, [1])


@pytest.mark.parametrize(
    ("energy_uj", "text"),
    [
        (0, "0 uJ"),
        (999, "999 uJ"),
        (12_300, "12.3 mJ"),
        (12_340_000, "12.3 J"),
        (4_560_000_000, "4.56 kJ"),
        (7_200_000_000_000, "2 kWh"),
        (7_200_000_000_000_000, "2,000 kWh"),
    ],
)
def test_energy_for_people_has_three_figures(energy_uj: int, text: str):
    assert format_energy(energy_uj) == text


@pytest.mark.parametrize(
    ("carbon", "text"),
    [(1, "1 ugCO2e"), (3_400, "3.4 mgCO2e"), (5_600_000, "5.6 gCO2e"), (7_800_000_000, "7.8 kgCO2e")],
)
def test_carbon_for_people_has_three_figures(carbon: int, text: str):
    assert format_carbon(carbon) == text
