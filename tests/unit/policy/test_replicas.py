"""How many replicas: more while answers are late, fewer while the grid is dirty, and what a cap yields to."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from app.policy.replicas import ReplicaKeeper, ReplicaRules, Seen

NOW_S = 1_800_000_000.0


def test_the_load_decides_where_nothing_is_asked():
    keeper = ReplicaKeeper(ReplicaRules())
    assert [keeper.wanted(each, 1, Seen(900.0, 900.0), NOW_S)[0] for each in (0.2, 1.0, 2.1)] == [1, 1, 3]


def test_late_answers_bring_one_more_every_ten_seconds_and_it_stays_until_they_are_well_in_time():
    keeper = ReplicaKeeper(ReplicaRules(latency_p95_ms=100))
    late, near, well = Seen(150.0), Seen(80.0), Seen(50.0)
    assert keeper.wanted(1, 1, late, NOW_S) == (2, "p95 is 150 ms, more than 100")
    assert keeper.wanted(1, 2, late, NOW_S + 5)[0] == 2  # it has not come yet
    assert keeper.wanted(1, 2, late, NOW_S + 11)[0] == 3
    assert keeper.wanted(1, 3, near, NOW_S + 30)[0] == 3
    assert keeper.wanted(1, 3, well, NOW_S + 31)[0] == 1
    assert keeper.wanted(1, 3, Seen(), NOW_S + 31)[0] == 1  # nobody was asked


def test_a_dirty_grid_caps_and_a_little_less_dirt_does_not_let_go_at_once():
    keeper = ReplicaKeeper(ReplicaRules(caps={300: 2, 500: 1}))
    found = [keeper.wanted(4, 3, Seen(g_per_kwh=each), NOW_S)[0] for each in (250, 310, 510, 480, 470, 290, 280)]
    assert found == [4, 2, 1, 1, 2, 2, 4]
    assert keeper.wanted(4, 3, Seen(g_per_kwh=600.0), NOW_S)[1] == "600 gCO2e/kWh: 1 at most, 4 wanted by the load"


def test_a_cap_yields_to_late_answers_and_to_who_lifts_it_for_a_time():
    keeper = ReplicaKeeper(ReplicaRules(caps={300: 1}, caps_yield_ms=400))
    assert keeper.wanted(3, 1, Seen(399.0, 350.0), NOW_S)[0] == 1
    number, why = keeper.wanted(3, 1, Seen(401.0, 350.0), NOW_S)
    assert (number, "the cap of 1 yields: p95 is 401 ms, more than 400" in why) == (3, True)
    until = datetime.fromtimestamp(NOW_S + 60, UTC)
    lifted = ReplicaKeeper(ReplicaRules(caps={300: 1}, caps_lifted_until=until))
    assert [lifted.wanted(3, 1, Seen(g_per_kwh=350.0), at)[0] for at in (NOW_S, NOW_S + 61)] == [3, 1]


def test_a_spent_budget_leaves_one_to_refuse():
    keeper = ReplicaKeeper(ReplicaRules(latency_p95_ms=10))
    assert keeper.wanted(5, 3, Seen(100.0, 100.0, is_spent=True), NOW_S) == (1, "the budget of the day is spent")


def test_caps_that_rise_with_the_dirt_are_a_mistake():
    with pytest.raises(ValidationError, match="fewer replicas the dirtier"):
        ReplicaRules(caps={300: 1, 500: 2})
