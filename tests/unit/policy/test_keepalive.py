"""How long a model stays warm: break-even first, then its gaps, within the bound on cold starts."""

import numpy as np
import pytest

from app.policy.keepalive import KeepAlive, KeepAliveSettings, Visit

ENERGY_ALONE = KeepAliveSettings(cold_price=0)


def keeper(settings=ENERGY_ALONE, load_j=3300.0, warm_w=70.0, load_s=22.0):
    found = KeepAlive(settings)
    found.measured_load(load_j, load_s)
    found.measured_warm(warm_w)
    return found


def visit_every(found, gaps_s, begun_s=0.0):
    for gap_s in gaps_s:
        begun_s += gap_s
        found.visited(Visit(begun_s, begun_s))
    return begun_s


def test_without_experience_it_stays_for_the_break_even():
    found = keeper()
    found.visited(Visit(0, 0))
    assert found.plan().sleep_at_s == pytest.approx(3300 / 70, rel=0.2)


def test_before_a_load_was_measured_it_stays_for_the_first_break_even():
    found = KeepAlive(KeepAliveSettings(first_break_even_s=30, cold_price=0))
    found.visited(Visit(100, 101))
    assert found.plan().sleep_at_s == pytest.approx(101 + 30, rel=0.1)


def test_nobody_comes_soon_so_it_sleeps_at_once():
    found = keeper()
    visit_every(found, [600.0] * 200)
    assert found.plan().delay_s < 5


def test_everybody_comes_within_the_break_even_so_it_stays_for_them():
    found = keeper()
    visit_every(found, np.random.default_rng(1).uniform(20, 40, 300))
    assert 40 <= found.plan().delay_s < 60


def test_the_price_of_cold_requests_makes_it_stay_longer():
    plans = []
    for price in (0, 1, 3):
        found = keeper(KeepAliveSettings(cold_price=price))
        visit_every(found, np.random.default_rng(1).exponential(100, 400))
        plans.append(found.plan().delay_s)
    assert plans == sorted(plans)
    assert plans[0] < plans[-1]


def test_after_so_many_cold_starts_in_an_hour_it_stays():
    found = keeper(KeepAliveSettings(cold_price=0, max_cold_starts_per_hour=3))
    for number in range(3):
        found.visited(Visit(600.0 * number, 600.0 * number + 22, cold=1))
    plan = found.plan()
    assert plan.sleep_at_s == 3600
    assert "bound on cold starts" in plan.reason


def test_a_model_asked_by_the_clock_is_loaded_ahead_of_its_visit():
    found = keeper(KeepAliveSettings(cold_price=0.6))
    end_s = visit_every(found, 3600 + np.random.default_rng(1).normal(0, 2, 40))
    plan = found.plan()
    assert plan.wake_at_s is not None
    assert plan.sleep_again_s is not None
    assert plan.wake_at_s + 22 <= end_s + 3600 <= plan.sleep_again_s
    assert not plan.awake(end_s + 1800)
    assert plan.awake(end_s + 3600)
    assert "loaded again" in plan.reason


def test_one_asked_by_chance_is_not():
    found = keeper(KeepAliveSettings(cold_price=0.6))
    visit_every(found, np.random.default_rng(1).exponential(3600, 64))
    assert found.plan().wake_at_s is None


def test_it_leaves_memory_although_staying_is_free():
    found = keeper(warm_w=0.0)
    found.visited(Visit(0, 0))
    assert found.plan().sleep_at_s == ENERGY_ALONE.longest_s


def test_a_plan_before_the_first_visit_is_an_error():
    with pytest.raises(ValueError, match="visited"):
        keeper().plan()
