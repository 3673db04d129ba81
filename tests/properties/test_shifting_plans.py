"""Plans under any forecast: in time, all the work done, never dearer than now, and as cheap as the exact optimum."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.policy.shifting import Outlook, Rate, RestartCost, Run, ShiftSettings, fixed_run, plan_run
from scripts.bench.shifting_optimum import best_pauses_g, best_scaling_g, best_start_g

HOUR = 3600.0
grids = st.lists(st.floats(1, 900), min_size=3, max_size=12)
anything = ShiftSettings(least_saving=0)


@st.composite
def runs(draw):
    counts = draw(st.sets(st.integers(1, 8), min_size=1, max_size=4))
    speed = draw(st.floats(0.4, 1.0))
    rates = {count: Rate(count**speed, count * 100.0) for count in counts}
    begun = draw(st.booleans())
    workers = draw(st.sampled_from([0, *sorted(counts)])) if begun else 0
    restart = RestartCost(draw(st.floats(0, 1200)), draw(st.floats(0, 1e5)))
    return Run(
        rates, draw(st.floats(0.01, 20)), draw(st.floats(0.1, 14)) * HOUR, draw(st.booleans()), restart, workers, begun
    )


@given(run=runs(), grid=grids, now_s=st.floats(0, 5 * HOUR))
@settings(max_examples=150, deadline=None)
def test_every_plan_does_the_work_in_time_and_costs_no_more_than_now(run, grid, now_s):
    plan = plan_run(run, Outlook(0.0, HOUR, tuple(grid)), now_s)
    assert plan.expected_g <= plan.now_g * (1 + 1e-9)
    assert plan.late == (plan.finish_s > run.deadline_s + 1e-3)
    assert plan.finish_s == plan.pieces[-1].end_s
    assert plan.pieces[0].start_s >= now_s
    assert all(before.end_s <= after.start_s for before, after in itertools.pairwise(plan.pieces))
    seconds = [(piece.end_s - piece.start_s, piece.workers) for piece in plan.pieces]
    lost_s = run.restart.seconds
    most = sum(length_s / HOUR * run.rates[workers].speed for length_s, workers in seconds)
    fastest = max(rate.speed for rate in run.rates.values())
    assert most + 1e-6 >= run.work >= most - plan.restarts * lost_s / HOUR * fastest - 1e-6
    if run.workers and not run.interruptible:
        assert plan.pieces[0].start_s == now_s
        assert all(before.end_s == after.start_s for before, after in itertools.pairwise(plan.pieces))


@given(grid=grids, hours=st.integers(1, 3))
def test_without_pauses_the_best_start_is_found(grid, hours):
    plan = plan_run(fixed_run(hours * HOUR, 1000, len(grid) * HOUR), Outlook(0.0, HOUR, tuple(grid)), 0, anything)
    assert plan.expected_g == pytest.approx(best_start_g(np.array(grid), hours, 1000.0))


@given(grid=grids, hours=st.integers(1, 3), restart_s=st.sampled_from([0.0, 60.0, 600.0]))
@settings(max_examples=60, deadline=None)
def test_with_pauses_the_plan_is_next_to_the_exact_optimum(grid, hours, restart_s):
    run = fixed_run(hours * HOUR, 1000, len(grid) * HOUR, interruptible=True, restart=RestartCost(restart_s))
    plan = plan_run(run, Outlook(0.0, HOUR, tuple(grid)), 0, anything)
    least_g = best_pauses_g(np.array(grid), float(hours), 1000.0, RestartCost(restart_s))
    assert least_g * (1 - 1e-6) <= plan.expected_g
    cell_h = max(len(grid) / 24, 2 * restart_s / HOUR)
    assert plan.expected_g - least_g <= 1e-6 + max(grid) * 2 * cell_h


@given(grid=grids, work=st.floats(1, 8), speed=st.floats(0.4, 1.0))
@settings(max_examples=60, deadline=None)
def test_elastic_plans_reach_the_linear_programme_where_changes_cost_nothing(grid, work, speed):
    rates = {count: Rate(count**speed, 100.0 * count) for count in range(1, 5)}
    run = Run(rates, work, len(grid) * HOUR, True)
    plan = plan_run(run, Outlook(0.0, HOUR, tuple(grid)), 0, anything)
    if not plan.late:
        least_g = best_scaling_g(np.array(grid), work, rates)
        # A plan changes at the edges of its cells: one of them may run at the dearest hour, with all workers.
        cell_g = max(grid) * len(grid) / 48 * 0.4
        assert least_g * (1 - 1e-6) <= plan.expected_g <= least_g * 1.1 + cell_g
