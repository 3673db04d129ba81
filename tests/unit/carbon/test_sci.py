"""SCI and embodied carbon, with figures that can be checked by hand."""

import pytest

from app.carbon.coefficients import coefficients
from app.carbon.embodied import Hardware, hardware_of
from app.carbon.sci import amortised, sci
from app.errors import InvalidInput

DAY_S = 86_400
KILOGRAM = 1_000_000_000  # micrograms
A_KILOGRAM_A_DAY = Hardware(making_kgco2e=1461, lifetime_years=4)  # four years have 1461 days


def test_sci_is_operational_and_embodied_carbon_per_unit():
    assert sci(900.0, 100, 4) == 250.0
    assert sci(900.0, 100, 0) is None


def test_embodied_carbon_is_a_share_of_the_making_by_time_and_by_reservation():
    assert A_KILOGRAM_A_DAY.share_ug(DAY_S) == KILOGRAM
    assert A_KILOGRAM_A_DAY.share_ug(DAY_S / 2, share=0.25) == KILOGRAM // 8
    assert A_KILOGRAM_A_DAY.share_ug(3 * DAY_S) == 3 * KILOGRAM  # three servers for a day


def test_the_example_of_the_standard():
    # "1000 * 1/(4*365*24) or around 28 g" for an hour; a year of ours has 365.25 days.
    assert Hardware(1000, 4).share_ug(3600) == pytest.approx(1000 / (4 * 365 * 24) * KILOGRAM, rel=1e-3)


@pytest.mark.parametrize(("making", "years"), [(-1, 4), (1, 0), (float("nan"), 4), (1, float("inf"))])
def test_hardware_that_cannot_be_meant_is_refused(making: float, years: float):
    with pytest.raises(InvalidInput, match="must be >"):
        Hardware(making, years)


@pytest.mark.parametrize(("seconds", "share"), [(-1, 1), (1, 1.5), (1, -0.5), (float("nan"), 1)])
def test_a_reservation_that_cannot_be_meant_is_refused(seconds: float, share: float):
    with pytest.raises(InvalidInput, match="reserved time must be >= 0 s and its share 0 to 1"):
        A_KILOGRAM_A_DAY.share_ug(seconds, share)


def test_hardware_is_named_by_its_parts():
    table = coefficients()
    assert hardware_of(table, "gpu-server+8*h100") == Hardware(3000 + 8 * 164, 4)
    assert hardware_of(table, "server + 2*cpu + 64*memory") == Hardware(1000 + 200 + 64 * 1.388, 4)
    assert hardware_of(table, "1300", lifetime_years=6) == Hardware(1300, 6)
    with pytest.raises(InvalidInput, match="no coefficient 'making:h10'"):
        hardware_of(table, "8*h10")
    with pytest.raises(InvalidInput, match="written like gpu-server"):
        hardware_of(table, "eight*h100")


def test_a_use_carries_its_part_of_the_making():
    assert amortised(250.0, 1_000_000, 10_000) == 350.0
    with pytest.raises(InvalidInput, match="life must be > 0 units"):
        amortised(1, 1, 0)
