"""From the cluster's series to slots of one length: what was, what is, what is expected."""

import pytest

from app.carbon.intensity import ConstantSeries, IntensityGrade, LocationAverage, Slot
from app.carbon.series import GridSeries
from app.clock import ManualClock
from app.engine.outlook import look_ahead
from app.units import NS_PER_S
from tests.fixtures.paper_grid import PaperGrid

START_S = 1_780_000_000 - 1_780_000_000 % 86_400
HOUR_S = 3600.0


def grid(slot_s: float, values: tuple[float, ...], now: float) -> PaperGrid:
    """Its first slot begins at START_S; it is `now` slots later."""
    return PaperGrid(START_S, slot_s, values, ManualClock(wall_ns=round((START_S + now * slot_s) * NS_PER_S)))


def test_a_forecast_that_was_right_is_believed_and_the_present_hour_is_the_first() -> None:
    values = tuple(100.0 + 10 * (n % 24) for n in range(96))
    view = look_ahead(grid(HOUR_S, values, 48.5).average(), START_S + 48.5 * HOUR_S, START_S + 58 * HOUR_S)
    assert view.outlook.start_s == START_S + 48 * HOUR_S
    assert view.outlook.slot_s == HOUR_S
    assert view.outlook.mean == pytest.approx(values[48:58])
    assert view.grade == "forecast"
    assert view.source == "paper"
    assert "provider" in view.model


def test_a_provider_that_only_forecasts_is_believed() -> None:
    values = tuple(100.0 + 10 * (n % 24) for n in range(24))
    known = grid(HOUR_S, values, 0).whole().slots_between(START_S * NS_PER_S, (START_S + 86_400) * NS_PER_S)
    slots = tuple(Slot(each.start_ns, each.end_ns, each.g_per_kwh, IntensityGrade.FORECAST, "file") for each in known)
    series = GridSeries("X", LocationAverage(300.0, "X", "a table"), forecast=slots)
    view = look_ahead(series, START_S, START_S + 10 * HOUR_S)
    assert view.outlook.mean == pytest.approx(values[:10])
    assert view.grade == "forecast"


def test_hours_of_a_rehearsed_day_are_slots_of_seconds() -> None:
    values = tuple(100.0 + 10 * (n % 24) for n in range(96))
    view = look_ahead(grid(5.0, values, 50).average(), START_S + 50 * 5.0, START_S + 60 * 5.0)
    assert view.outlook.slot_s == 5.0
    assert view.outlook.mean == pytest.approx(values[50:60])


def test_a_yearly_figure_is_flat_and_says_so() -> None:
    series = ConstantSeries(LocationAverage(480.0, "world", "a table", 2023))
    view = look_ahead(series, START_S, START_S + 5 * HOUR_S)
    assert set(view.outlook.mean) == {480.0}
    assert view.grade == "yearly"
    assert view.model == "one figure for all time"


def test_beyond_what_is_forecast_it_goes_on_as_before() -> None:
    days = PaperGrid(START_S, HOUR_S, tuple(100.0 + 10 * (n % 24) for n in range(72)), ManualClock(wall_ns=0))
    observed = days.whole().slots_between(START_S * NS_PER_S, (START_S + 72 * 3600) * NS_PER_S)
    series = GridSeries("X", LocationAverage(300.0, "X", "a table"), observed)
    view = look_ahead(series, START_S + 72 * HOUR_S, START_S + 84 * HOUR_S)
    assert view.outlook.mean == pytest.approx([100.0 + 10 * n for n in range(12)], rel=0.05)
    assert view.outlook.low is not None
    assert view.grade == "yearly"


def test_quarters_of_an_hour_and_an_hour_are_joined_by_time() -> None:
    quarter_ns = 900 * NS_PER_S
    slots = tuple(
        Slot(START_S * NS_PER_S + n * quarter_ns, START_S * NS_PER_S + (n + 1) * quarter_ns, 100.0 + n,
             IntensityGrade.ACTUAL, "x") for n in range(96)
    )  # fmt: skip
    series = GridSeries("X", LocationAverage(300.0, "X", "a table"), slots)
    view = look_ahead(series, START_S + 86_400 - 1, START_S + 86_400 + 3600)
    assert view.outlook.slot_s == 900.0
    assert view.outlook.start_s == START_S + 86_400 - 900
