"""Whatever slots are known: a period is covered without holes or overlaps, and means agree with instants."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.carbon.intensity import IntensityGrade, LocationAverage, Slot
from app.carbon.series import GridSeries, filled, ordered

END = 400
YEARLY = LocationAverage(56.0, "FRA", "a table", 2023)


@st.composite
def slots(draw: st.DrawFn, grade: IntensityGrade, source: str) -> tuple[Slot, ...]:
    """Ordered slots of any width with any holes."""
    starts = draw(st.lists(st.integers(0, END), max_size=15))
    made = (Slot(start, start + draw(st.integers(1, 60)), draw(st.floats(0, 1000)), grade, source) for start in starts)
    return ordered(made)


@st.composite
def series(draw: st.DrawFn) -> GridSeries[LocationAverage]:
    observed = draw(slots(IntensityGrade.ACTUAL, "one"))
    forecast = draw(slots(IntensityGrade.FORECAST, "one"))
    return GridSeries("FRA", YEARLY, observed, forecast, draw(st.integers(0, 50)))


@given(series(), st.integers(-50, END + 100), st.integers(1, 300))
def test_a_period_is_covered_once(found: GridSeries[LocationAverage], start: int, length: int):
    end = start + length
    parts = found.slots_between(start, end)
    assert (parts[0].start_ns, parts[-1].end_ns) == (start, end)
    assert all(one.end_ns == other.start_ns for one, other in pairwise(parts))
    for slot in parts:
        for at in (slot.start_ns, slot.end_ns - 1):
            held = found.intensity_at(at)
            assert (held.g_per_kwh, held.grade) == (slot.g_per_kwh, slot.grade)


@given(series(), st.integers(-50, END + 100), st.integers(1, 300))
def test_the_mean_is_that_of_the_instants(found: GridSeries[LocationAverage], start: int, length: int):
    instants = [found.intensity_at(at) for at in range(start, start + length)]
    mean = found.mean_between(start, start + length)
    assert mean.g_per_kwh == pytest.approx(sum(each.g_per_kwh for each in instants) / length)
    assert mean.grade == IntensityGrade.worst(each.grade for each in instants)


@given(slots(IntensityGrade.ACTUAL, "one"), slots(IntensityGrade.ACTUAL, "other"))
def test_a_filler_never_moves_what_was_there(base: tuple[Slot, ...], filler: tuple[Slot, ...]):
    found = filled(base, filler)
    assert [slot for slot in found if slot.source == "one"] == list(base)
    covered = {at for slot in found for at in range(slot.start_ns, slot.end_ns)}
    assert covered == {at for slot in (*base, *filler) for at in range(slot.start_ns, slot.end_ns)}
    assert sum(slot.end_ns - slot.start_ns for slot in found) == len(covered)
