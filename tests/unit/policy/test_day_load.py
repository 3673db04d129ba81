"""The load that is still to come: the usual day at the level of today."""

import pytest

from app.policy.day_load import DayLoad


def test_the_first_day_goes_on_as_it_began():
    load = DayLoad(4)
    load.add(0, 30.0)
    assert load.rest(0, 0.5) == [30.0, 60.0, 60.0, 60.0]


def test_another_day_has_the_shape_of_the_ones_before_and_a_level_between():
    load = DayLoad(4)
    for slot, count in enumerate((10.0, 20.0, 30.0, 40.0)):
        load.add(slot, count)
    load.end_day()
    assert load.rest(0, 0.0) == [10.0, 20.0, 30.0, 40.0]
    load.add(0, 20.0)  # twice as many; the prior counts half a day, 50
    assert load.rest(1, 0.0) == pytest.approx([each * (20 + 50) / (10 + 50) for each in (20.0, 30.0, 40.0)])


def test_days_are_forgotten_by_a_twentieth_and_state_goes_on():
    load = DayLoad(1)
    for count in (10.0, 19.0):
        load.add(0, count)
        load.end_day()
    assert load.rest(0, 0.0) == pytest.approx([(0.95 * 10 + 19) / 1.95])
    assert DayLoad(1, *load.state).rest(0, 0.0) == load.rest(0, 0.0)


def test_how_far_off_it_is_is_measured_on_the_days_that_had_days_before():
    load = DayLoad(1)
    assert load.spread(0) == 0.5
    for count in (10.0, 13.0):
        load.add(0, count)
        load.end_day()
    # 10 was said, 13 came: 0.3 off; the sum of days is 1.95, one of which had no day before it
    assert load.spread(0) == pytest.approx((0.09 / 0.95) ** 0.5)
    assert DayLoad(1, *load.state).spread(0) == load.spread(0)


def test_a_day_that_was_not_seen_whole_says_nothing_of_others():
    load = DayLoad(2)
    load.add(1, 7.0)
    load.forget_today()
    assert (load.today, load.state[1]) == (0.0, 0.0)
