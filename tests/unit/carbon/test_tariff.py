"""Tariffs: flat, by hour over midnight, by weekday and month, over the change to summer time; means over intervals."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.carbon.tariff import Tariff, cost_micros, tariff_of
from app.errors import InvalidInput
from app.units import UJ_PER_KWH

HOUR_NS = 3_600_000_000_000
PARIS = """
currency: EUR
timezone: Europe/Paris
price: 0.20
periods:
  - {name: night, price: 0.10, hours: [22.5, 6]}
  - {name: winter peak, price: 0.40, hours: [18, 20], days: [mon, tue, wed, thu, fri], months: [11, 12, 1, 2]}
"""


def at(text: str, zone: str = "Europe/Paris") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000_000


@pytest.fixture
def paris(tmp_path: Path) -> Tariff:
    path = tmp_path / "tariff.yaml"
    path.write_text(PARIS)
    tariff = tariff_of(str(path))
    assert tariff is not None
    return tariff


def test_a_flat_price_is_written_in_one_line():
    tariff = tariff_of("0.21 EUR")
    assert tariff is not None
    assert (tariff.currency, tariff.price_at(0), tariff.mean_price(0, 10**15)) == ("EUR", 0.21, 0.21)
    assert tariff_of("") is None


@pytest.mark.parametrize(
    ("moment", "price"),
    [
        ("2026-01-06 12:00", 0.20),  # a Tuesday
        ("2026-01-06 18:00", 0.40),
        ("2026-01-06 20:00", 0.20),
        ("2026-01-06 22:15", 0.20),
        ("2026-01-06 22:30", 0.10),
        ("2026-01-07 05:59", 0.10),
        ("2026-01-07 06:00", 0.20),
        ("2026-01-10 18:30", 0.20),  # a Saturday
        ("2026-06-02 18:30", 0.20),  # summer
    ],
)
def test_the_first_period_that_holds_counts(paris: Tariff, moment: str, price: float):
    assert paris.price_at(at(moment)) == price


def test_a_night_belongs_to_the_day_on_which_it_begins():
    night = {"price": 1, "hours": (22, 6), "days": ("fri",)}
    tariff = Tariff.model_validate({"currency": "EUR", "price": 2, "timezone": "Europe/Paris", "periods": (night,)})
    assert tariff.price_at(at("2026-01-09 23:00")) == 1  # Friday
    assert tariff.price_at(at("2026-01-10 05:00")) == 1
    assert tariff.price_at(at("2026-01-10 23:00")) == 2


def test_the_mean_over_an_interval_weighs_every_moment_the_same(paris: Tariff):
    # 17:30 to 18:30: half an hour at 0.20, half at 0.40
    start = at("2026-01-06 17:30")
    assert paris.mean_price(start, start + HOUR_NS) == pytest.approx(0.30)
    # From 22:25: 5 minutes at 0.20, 10 at 0.10
    start = at("2026-01-06 22:25")
    assert paris.mean_price(start, start + HOUR_NS // 4) == pytest.approx((5 * 0.20 + 10 * 0.10) / 15)


def test_hours_are_local_ones_over_the_change_to_summer_time(paris: Tariff):
    # 2026-03-29, 02:00 becomes 03:00: from midnight to 06:00 are five hours, all of them night.
    start = at("2026-03-29 00:00")
    assert at("2026-03-29 06:00") - start == 5 * HOUR_NS
    assert paris.mean_price(start, start + 5 * HOUR_NS) == pytest.approx(0.10)
    assert paris.price_at(start + 5 * HOUR_NS) == 0.20
    # The day has 23 hours: 6.5 - 1 of night, the rest of the day.
    assert paris.mean_price(start, start + 23 * HOUR_NS) == pytest.approx((6.5 * 0.10 + 16.5 * 0.20) / 23)


def test_a_cost_is_energy_of_the_building_times_price():
    assert cost_micros(2 * UJ_PER_KWH, 0.25, pue=1.2) == pytest.approx(600_000)  # 2 kWh x 1.2 x 0.25 = 0.60


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0.21", "currency"),
        ("none.yaml", "cannot be read"),
        ("nan EUR", "price"),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused(text: str, fault: str):
    with pytest.raises(InvalidInput, match=fault):
        tariff_of(text)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("timezone: Europe/Paris", "timezone: Paris", "IANA name"),
        ("timezone: Europe/Paris\n", "", "periods need a timezone"),
        ("[18, 20]", "[18.1, 20]", "quarter hours"),
        ("[18, 20]", "[18, 18]", "quarter hours"),
        ("months", "month", "Extra inputs"),
        ("[11, 12, 1, 2]", "[13]", "less than or equal to 12"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path: Path, old: str, new: str, fault: str):
    path = tmp_path / "tariff.yaml"
    path.write_text(PARIS.replace(old, new))
    with pytest.raises(InvalidInput, match=fault):
        tariff_of(str(path))
