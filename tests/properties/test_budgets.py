"""Whatever power, pace of steps and lag of the ledger: a budget of joules ends a run within two percent of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from app.training.parts import Budget
from app.training.position import Spent
from app.training.stops import Spending, Stops
from tests.fixtures.simulated_run import SimulatedRun


@settings(max_examples=40, deadline=None)
@given(
    watts=some.floats(5, 400),
    seconds=some.floats(30, 120),
    step_s=some.floats(0.01, 0.15),
    closing_s=some.floats(0.05, 0.5),
    lag_s=some.floats(0.2, 3.0),
    startup_share=some.floats(0, 0.3),
)
def test_a_run_ends_within_two_percent_of_its_joules(
    watts: float, seconds: float, step_s: float, closing_s: float, lag_s: float, startup_share: float
) -> None:
    joules = watts * seconds
    run = SimulatedRun(watts=watts, step_s=step_s, lag_s=lag_s, startup_j=startup_share * joules)
    spending = Spending(Budget(kwh=joules / 3.6e6), run.phases, Spent(), run.booked, run.now)
    spending.closed(closing_s, saved=True)
    stops = Stops(run.fabric, spending, run.now)
    run.step()
    while not (asked := stops.look()).stop:
        run.step()
    run.close(closing_s)
    assert run.spent_j == pytest.approx(joules, rel=0.02)
    assert "is used up" in asked.stop
