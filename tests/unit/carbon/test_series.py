"""Intensity over time: what holds where, in which grade; means, holes, edges of clock changes; meanings do not mix."""

import pickle
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from app.carbon.intensity import (
    ConstantSeries,
    IntensityGrade,
    LocationAverage,
    LocationAverageSeries,
    Marginal,
    MarketBased,
    Slot,
)
from app.carbon.series import GridSeries, filled, holes, ordered
from app.errors import InvalidInput

HOUR = 3_600_000_000_000
YEARLY = LocationAverage(56.0, "FRA", "a table", 2023)
ACTUAL, ESTIMATED, FORECAST, STALE, TABLE = IntensityGrade


def hour(number: int, g_per_kwh: float, grade: IntensityGrade = ACTUAL, source: str = "grid") -> Slot:
    return Slot(number * HOUR, (number + 1) * HOUR, g_per_kwh, grade, source)


def series(*observed: Slot, forecast: tuple[Slot, ...] = (), stale_hours: int = 0) -> GridSeries[LocationAverage]:
    return GridSeries("FRA", YEARLY, observed, forecast, stale_hours * HOUR, revision=3)


def held(found: GridSeries[LocationAverage], number: float) -> tuple[float, str]:
    intensity = found.intensity_at(round(number * HOUR))
    return intensity.g_per_kwh, intensity.grade.value


def test_an_observed_slot_holds_from_its_start_to_before_its_end():
    found = series(hour(10, 100), hour(11, 200))
    assert held(found, 10) == (100, "actual")
    assert found.intensity_at(11 * HOUR - 1).g_per_kwh == 100
    assert found.intensity_at(11 * HOUR).g_per_kwh == 200
    assert held(found, 12) == (56, "yearly")
    assert found.intensity_at(9 * HOUR) is YEARLY


def test_what_was_observed_comes_before_what_was_forecast():
    found = series(hour(10, 100), forecast=(hour(10, 900, FORECAST), hour(11, 300, FORECAST)))
    assert [held(found, 10), held(found, 11)] == [(100, "actual"), (300, "forecast")]


def test_three_missing_hours_are_bridged_by_the_mean_of_their_neighbours():
    found = series(hour(10, 100), hour(14, 300))
    assert [held(found, number) for number in (11, 12, 13)] == [(200, "estimated")] * 3


def test_four_missing_hours_are_a_hole_that_a_forecast_fills_first_and_the_last_figure_next():
    found = series(hour(10, 100), hour(15, 300), forecast=(hour(12, 150, FORECAST),), stale_hours=1)
    assert [held(found, number) for number in (11, 12, 13, 14)] == [
        (100, "stale"),
        (150, "forecast"),
        (150, "stale"),
        (56, "yearly"),
    ]


def test_the_last_figure_is_carried_for_as_long_as_it_is_allowed():
    found = series(hour(10, 100), stale_hours=6)
    assert [held(found, 11), held(found, 16.99), held(found, 17)] == [(100, "stale"), (100, "stale"), (56, "yearly")]


def test_slots_of_a_period_leave_no_hole_and_are_cut_at_its_ends():
    found = series(hour(10, 100), hour(11, 200), forecast=(hour(12, 300, FORECAST),))
    slots = found.slots_between(round(9.5 * HOUR), round(13.5 * HOUR))
    assert [(slot.start_ns / HOUR, slot.end_ns / HOUR, slot.g_per_kwh, slot.grade.value) for slot in slots] == [
        (9.5, 10, 56, "yearly"),
        (10, 11, 100, "actual"),
        (11, 12, 200, "actual"),
        (12, 13, 300, "forecast"),
        (13, 13.5, 56, "yearly"),
    ]
    assert found.slots_between(10 * HOUR, 10 * HOUR) == ()
    inside = found.slots_between(round(10.25 * HOUR), round(10.75 * HOUR))
    assert [(slot.start_ns / HOUR, slot.end_ns / HOUR) for slot in inside] == [(10.25, 10.75)]


def test_the_mean_is_weighted_by_time_and_as_good_as_its_worst_part():
    found = series(hour(10, 100), hour(11, 200), forecast=(hour(12, 400, FORECAST),))
    # half an hour at 100, an hour at 200, half an hour at 400: (50 + 200 + 200) / 2 = 225
    mean = found.mean_between(round(10.5 * HOUR), round(12.5 * HOUR))
    assert (mean.g_per_kwh, mean.grade, mean.year) == (225, FORECAST, None)
    assert found.mean_between(10 * HOUR, 12 * HOUR).grade is ACTUAL
    assert found.mean_between(11 * HOUR, 11 * HOUR).g_per_kwh == 200
    assert found.mean_between(0, 2 * HOUR) == YEARLY


def test_the_mean_of_two_sources_names_both():
    found = series(hour(10, 100, source="one"), hour(11, 200, source="other"))
    assert found.mean_between(10 * HOUR, 12 * HOUR).source == "one, other"


def test_a_grade_is_as_bad_as_its_worst_part():
    assert IntensityGrade.worst([ACTUAL, STALE, FORECAST]) is STALE
    assert IntensityGrade.worst([]) is TABLE


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 7, 1), 24)])
def test_a_day_that_clocks_change_has_its_own_number_of_hours(day: tuple[int, int, int], hours: int):
    year, month, number = day
    zone = ZoneInfo("Europe/Berlin")
    start, end = (round(datetime(year, month, number + extra, tzinfo=zone).timestamp()) * 10**9 for extra in (0, 1))
    first = start // HOUR
    found = series(*(hour(first + i, 100.0 + i) for i in range(26)))
    slots = found.slots_between(start, end)
    assert len(slots) == hours
    assert found.mean_between(start, end).g_per_kwh == 100 + (hours - 1) / 2


def test_the_hour_that_comes_twice_is_two_slots():
    zone = ZoneInfo("Europe/Berlin")
    summer = datetime(2026, 10, 25, 2, 30, tzinfo=zone)
    first, second = (round(each.timestamp()) * 10**9 for each in (summer, summer.replace(fold=1)))
    assert second - first == HOUR
    found = series(hour(first // HOUR, 100), hour(second // HOUR, 200))
    assert (found.intensity_at(first).g_per_kwh, found.intensity_at(second).g_per_kwh) == (100, 200)


def test_slots_out_of_order_or_overlapping_are_refused_and_can_be_put_right():
    with pytest.raises(InvalidInput, match="slots of FRA overlap or are out of order"):
        series(hour(11, 1), hour(10, 1))
    long = Slot(10 * HOUR, 13 * HOUR, 100, ACTUAL, "grid")
    put_right = ordered([hour(12, 300), long, hour(11, 200), hour(11, 250)])
    assert [(slot.start_ns // HOUR, slot.end_ns // HOUR, slot.g_per_kwh) for slot in put_right] == [
        (10, 11, 100),
        (11, 12, 250),
        (12, 13, 300),
    ]


def test_holes_are_filled_by_parts_of_what_fills_them():
    filler = (Slot(9 * HOUR, 14 * HOUR, 1, FORECAST, "filler"),)
    found = filled((hour(10, 100), hour(12, 200)), filler)
    assert [(slot.start_ns // HOUR, slot.end_ns // HOUR, slot.source) for slot in found] == [
        (9, 10, "filler"),
        (10, 11, "grid"),
        (11, 12, "filler"),
        (12, 13, "grid"),
        (13, 14, "filler"),
    ]
    assert filled((), filler) == filler
    assert list(holes((), 0, HOUR)) == [(0, HOUR)]


@pytest.mark.parametrize(("g_per_kwh", "end"), [(-1.0, 1), (float("nan"), 1), (float("inf"), 1), (1.0, 0)])
def test_a_slot_that_cannot_be_is_refused(g_per_kwh: float, end: int):
    with pytest.raises(InvalidInput):
        Slot(0, end, g_per_kwh, ACTUAL, "grid")


def test_the_three_meanings_are_three_types():
    figures = [kind(5.0, "FRA", "somebody") for kind in (LocationAverage, Marginal, MarketBased)]
    assert len(set(map(type, figures))) == 3
    assert not any(one == other for one in figures for other in figures if one is not other)
    for kind in (LocationAverage, Marginal, MarketBased):
        assert sum(isinstance(figure, kind) for figure in figures) == 1
    with pytest.raises(TypeError):
        figures[0] + figures[1]  # type: ignore[operator]


def test_a_series_keeps_its_meaning():
    found = GridSeries("FRA", Marginal(400.0, "FRA", "mean"), (hour(10, 100),))
    assert type(found.intensity_at(10 * HOUR)) is Marginal
    assert type(found.mean_between(9 * HOUR, 11 * HOUR)) is Marginal


def test_a_constant_is_a_series_too():
    constant: LocationAverageSeries = ConstantSeries(YEARLY)
    assert constant.revision == 0
    assert constant.mean_between(0, HOUR) is YEARLY
    assert constant.slots_between(0, HOUR) == (Slot(0, HOUR, 56.0, TABLE, "a table"),)
    assert constant.slots_between(HOUR, HOUR) == ()


def test_a_series_survives_pickling():
    found = series(hour(10, 100), stale_hours=1)
    assert found.intensity_at(10 * HOUR).g_per_kwh == 100
    again = pickle.loads(pickle.dumps(found))
    assert (again, again.intensity_at(11 * HOUR)) == (found, found.intensity_at(11 * HOUR))


def test_the_end_of_what_is_known_is_told():
    assert series(hour(10, 100)).observed_until_ns == 11 * HOUR
    assert series().observed_until_ns is None
