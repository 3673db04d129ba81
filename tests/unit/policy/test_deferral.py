"""Deferred work shares a lane: clean hours for all that can wait, every deadline kept, the nearest first."""

import pytest

from app.errors import InvalidInput
from app.policy.deferral import Deferred, lane_hours, take_turns, time_for
from app.policy.shifting import Outlook

HOUR_S = 3600.0
VALLEY = Outlook(0.0, HOUR_S, (400.0,) * 4 + (100.0,) * 4 + (400.0,) * 16)
"""Hours 4 to 8 are clean."""


def work(name: str, hours: float, deadline_h: float) -> Deferred:
    return Deferred(name, hours, deadline_h * HOUR_S, power_w=1000.0)


def test_work_waits_for_the_clean_hours_and_says_what_that_saves():
    turn = take_turns([work("a", 2, 12)], VALLEY, 0.0)["a"]
    assert not turn.runs_now
    assert turn.plan.pieces[0].start_s == 4 * HOUR_S
    # 2 kWh at 100 instead of 400 g/kWh
    assert (turn.plan.expected_g, turn.plan.now_g) == pytest.approx((200.0, 800.0))
    assert take_turns([work("a", 2, 12)], VALLEY, 5 * HOUR_S)["a"].runs_now


def test_what_is_due_sooner_runs_while_the_others_wait():
    turns = take_turns([work("later", 2, 12), work("sooner", 1, 1)], VALLEY, 0.0)
    assert list(turns) == ["sooner", "later"]
    assert turns["sooner"].runs_now
    assert not turns["later"].runs_now


def test_all_that_is_due_no_later_is_in_a_plan():
    """Two hours each: together they fill the four clean hours, and the first has half of them to itself."""
    turns = take_turns([work("a", 2, 8), work("b", 2, 8.5)], VALLEY, 0.0)
    assert turns["b"].plan.kwh == pytest.approx(4.0)
    assert turns["b"].plan.pieces[0].start_s == 4 * HOUR_S
    assert turns["a"].plan.kwh == pytest.approx(2.0)


def test_work_that_needs_the_lane_for_what_comes_behind_it_runs_now():
    """Six hours are due in six: whatever is before them in the lane cannot wait either."""
    turns = take_turns([work("a", 1, 5.9), work("b", 5, 6)], VALLEY, 0.0)
    assert turns["a"].plan.workers_at(0.0) == 0  # alone it could
    assert turns["a"].runs_now
    assert turns["b"].runs_now


def test_what_cannot_be_done_in_time_begins_at_once():
    turn = take_turns([work("a", 5, 2)], VALLEY, 0.0)["a"]
    assert turn.plan.late
    assert turn.runs_now


def test_nothing_is_waited_for_on_a_flat_grid():
    assert take_turns([work("a", 1, 12)], Outlook(0.0, HOUR_S, (300.0,) * 24), 0.0)["a"].runs_now


@pytest.mark.parametrize("hours", [-1.0, float("nan"), float("inf")])
def test_work_that_is_none_is_refused(hours):
    with pytest.raises(InvalidInput, match="work a must have finite hours"):
        take_turns([work("a", hours, 2)], VALLEY, 0.0)


def test_two_pieces_of_work_of_one_name_are_refused():
    with pytest.raises(InvalidInput, match="an id of its own"):
        take_turns([work("a", 1, 2), work("a", 1, 3)], VALLEY, 0.0)


def test_hours_of_the_lane():
    assert lane_hours(7200, 2.0, 4) == 1.0


@pytest.mark.parametrize(("slack_s", "kept_s"), [(10_000.0, 160.0), (100.0, 50.0), (-5.0, 0.0)])
def test_time_kept_free_is_never_more_than_half_of_what_there_is(slack_s, kept_s):
    assert time_for(1000.0, slack_s, 0.1, 60.0) == kept_s
