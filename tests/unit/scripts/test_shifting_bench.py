"""The shifting bench: optima worked by hand, what a simulated job costs, and that no policy sees what comes."""

import numpy as np
import pytest

from app.carbon.forecast import Forecast
from app.policy.shifting import Rate, RestartCost
from scripts.bench.placement_queue import Batch, alone_g, serve
from scripts.bench.shifting_data import WARM_UP_H, Trace, coming_of, forecasts
from scripts.bench.shifting_optimum import best_pauses_g, best_scaling_g, best_start_g
from scripts.bench.shifting_rules import (
    Job,
    State,
    WaitAwhile,
    World,
    at_once,
    carbon_scaler,
    ours,
    outcome_of,
    suspend_resume,
)

ALONE = {1: Rate(1.0, 1000.0)}
ELASTIC = {1: Rate(1.0, 100.0), 2: Rate(1.5, 200.0)}
RULES = [ours, at_once, suspend_resume, carbon_scaler, WaitAwhile(bare=True), WaitAwhile(bare=False)]


def trace(said=True):
    rng = np.random.default_rng(5)
    hours = np.arange(WARM_UP_H + 100)
    actual = 300 - 100 * np.cos((hours % 24 - 12) / 24 * 2 * np.pi) + rng.normal(0, 10, len(hours))
    return Trace("TEST 2022", actual, actual + rng.normal(0, 10, len(hours)) if said else None)


def world_of(found):
    return World(found, dict(forecasts(found, "day", until=WARM_UP_H + 40)))


def job(rates=ALONE, may_pause=False, restart=None, work=2.0, window_h=8):
    return Job(WARM_UP_H, WARM_UP_H + window_h, work, rates, may_pause, restart or RestartCost())


def test_optima_by_hand():
    grid = np.array([5.0, 1.0, 9.0, 2.0, 9.0])
    assert best_start_g(grid, 2, 1000) == 6  # 5 + 1
    assert best_pauses_g(grid, 2.0, 1000, RestartCost()) == pytest.approx(3)  # 1 + 2
    # Half an hour at 5, the hour at 1, and at 2 half an hour of restart and half of work.
    assert best_pauses_g(grid, 2.0, 1000, RestartCost(seconds=1800)) == pytest.approx(1 + 2 * 1 + 0.5 * 5)
    # Two workers do 1.5 at 1 g/kWh, the rest of the 2 units at 2 g/kWh on one: 0.2 * 1 + 0.1 * 0.5 * 2.
    assert best_scaling_g(grid, 2.0, ELASTIC) == pytest.approx(0.2 + 0.1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("may_pause", [False, True])
def test_every_rule_ends_in_time_and_does_the_work(rule, may_pause):
    world = world_of(trace())
    found = outcome_of(world, job(may_pause=may_pause, restart=RestartCost(60 if may_pause else 0)), rule)
    assert found.finish_h <= WARM_UP_H + 8 + 1e-6
    assert found.kwh == pytest.approx(2.0 + found.restarts / 60)


def test_starting_at_once_costs_what_the_hours_cost():
    world = world_of(trace())
    assert outcome_of(world, job(), at_once).grams == pytest.approx(world.trace.actual[WARM_UP_H : WARM_UP_H + 2].sum())


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_sees_what_comes(rule):
    """The same past and another future: the same first decision, except of what the provider's column says."""
    found = trace(said=False)
    other = found.actual.copy()
    other[WARM_UP_H:] = np.random.default_rng(6).uniform(10, 900, len(other) - WARM_UP_H)
    decisions = []
    for actual in (found.actual, other):
        world = World(Trace("TEST 2022", actual), dict(forecasts(Trace("TEST 2022", actual), "day", WARM_UP_H + 1)))
        asked = WaitAwhile(rule._bare) if isinstance(rule, WaitAwhile) else rule
        decisions.append(asked(world, job(ELASTIC, may_pause=True), State(2.0), WARM_UP_H))
    assert decisions[0] == decisions[1]


def test_when_a_day_ahead_value_counts_as_known():
    found = trace()
    at = WARM_UP_H + 20
    known = {how: int(np.isfinite(coming_of(found, at, how)).sum()) for how in ("day", "column", "midnight")}
    assert known == {"day": 24, "column": 48, "midnight": 4}


def test_a_queue_serves_everybody_and_nobody_beats_the_bound():
    found = trace()
    flat = Forecast((300.0,) * 48, (300.0,) * 48, (300.0,) * 48, "flat", None)
    world = World(found, dict.fromkeys(range(WARM_UP_H, len(found.actual)), flat))
    jobs = [Batch(str(n), (WARM_UP_H + n / 3) * 3600.0, 3600.0 * (1 + n % 3), 1 + n % 2) for n in range(12)]
    waiting = serve(world, jobs, workers=4, wait_price=0.0, knows_grid=True)
    at_once_ = serve(world, jobs, workers=4, wait_price=1e9)
    assert alone_g(found, jobs) <= waiting.grams < at_once_.grams
    assert at_once_.mean_wait_h < waiting.mean_wait_h
    assert waiting.late == 0
