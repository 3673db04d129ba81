"""A budget ends a run in time: within two percent of it, however late the ledger is and whatever closing costs."""

import pytest

from app.training.budget import Tally, part_of, seconds_left, used_up
from app.training.parts import Budget
from app.training.phases import Phases
from app.training.position import Spent
from app.training.stops import Asked, Spending, Stops
from tests.fixtures.simulated_run import SimulatedRun


def test_each_kind_of_budget_says_what_was_spent_of_it() -> None:
    spent, closing = Spent(3_400_000_000, 90_000_000.0, 3500.0), Spent(200_000_000, 10_000_000.0, 100.0)
    assert used_up(Budget(kwh=0.001), spent, closing) == (
        "the budget of 0.001 kWh (3.6 kJ) is used up: 3.4 kJ spent, 200 J kept for the end"
    )
    assert used_up(Budget(gco2e=100), spent, closing).startswith("the budget of 100 gCO2e is used up: 90 gCO2e emitted")
    assert used_up(Budget(hours=1), spent, closing) == "the budget of 1 hours is used up: 3500 s trained"
    assert used_up(Budget(kwh=0.0011, gco2e=101, hours=1.1), spent, closing) == ""


def test_the_first_bound_to_be_met_says_how_long_the_rest_lasts() -> None:
    pace = Spent(10_000_000, 1000.0, 1.0)  # 10 W
    left = seconds_left(Budget(kwh=0.001, hours=1), Spent(3_000_000_000, 0.0, 60.0), Spent(), pace)
    assert left == pytest.approx(60)  # 600 J at 10 W
    assert seconds_left(Budget(kwh=0.001), Spent(), Spent(), Spent(0, 0.0, 5.0)) == float("inf")
    assert part_of(pace, 2.5) == Spent(25_000_000, 2500.0, 2.5)


def test_the_tally_counts_what_no_slice_covers_and_what_was_lost() -> None:
    tally = Tally(before=Spent(100, 1.0, 10.0))
    assert tally.now(Spent(50, 0.5, 2.0)) == Spent(150, 1.5, 12.0)
    # The ledger has 400 of the run, of which 30 are charged to slices of this attempt: 370 came before or beside them.
    tally.told(Spent(400, 4.0), charged=Spent(30, 0.3))
    # A later answer, whose delivery is behind what was charged, does not take back what is known.
    tally.told(Spent(410, 4.1), charged=Spent(90, 0.9))
    assert tally.now(Spent(120, 1.2, 3.0)) == Spent(490, 4.9, 13.0)


def test_the_end_is_expected_to_take_what_it_usually_takes() -> None:
    run = SimulatedRun(watts=10, step_s=0.01, lag_s=1, startup_j=0)
    spending = Spending(Budget(kwh=1), run.phases, Spent(), run.booked, run.now)
    assert spending.closing_s == 0
    for seconds in (0.1, 0.1, 3.0, 0.1, 0.1):  # once the machine stood still
        spending.closed(seconds, saved=False)
    assert spending.closing_s == pytest.approx(0.1)
    spending.closed(0.4, saved=True)  # the run ends with a checkpoint: those that had one count
    assert spending.closing_s == pytest.approx(0.4)


def test_setting_up_is_spent_and_is_not_the_pace() -> None:
    """Else the first epoch's end, which takes long, at the power of setting up would use up the budget."""
    run = SimulatedRun(watts=10, step_s=0.02, lag_s=1, startup_j=10, set_up_j=24)
    spending = Spending(Budget(kwh=80 / 3.6e6), run.phases, Spent(), run.booked, run.now)
    stops = Stops(run.fabric, spending, run.now)
    run.step()
    spending.closed(1.4, saved=False)
    while not stops.look().stop:
        run.step()
        if run.clock_s > 1:
            spending.closed(0.1, saved=False)
    run.close(0.1)
    assert run.spent_j == pytest.approx(80, rel=0.02)


def test_without_a_budget_nobody_asks_the_meters() -> None:
    class Mute(Phases):
        def __init__(self) -> None: ...

        def so_far(self) -> tuple[object, object]:  # type: ignore[override]
            raise AssertionError("nobody needs to know")

    run = SimulatedRun(watts=10, step_s=0.01, lag_s=1, startup_j=0)
    stops = Stops(run.fabric, Spending(None, Mute(), Spent(), clock=run.now), run.now)
    looks = []
    for _ in range(200):
        run.step()
        looks.append(stops.look())
    assert not any(asked.stop for asked in looks)
    # Two seconds of steps of 10 ms: the first is looked at, then about four a second.
    assert 6 <= run.fabric.gathered <= 12


def test_a_notice_is_agreed_on_within_a_quarter_of_a_second() -> None:
    run = SimulatedRun(watts=10, step_s=0.01, lag_s=1, startup_j=0)
    stops = Stops(run.fabric, Spending(None, run.phases, Spent(), clock=run.now), run.now)
    for _ in range(100):
        run.step()
        stops.look()
    run.fabric.notices.ask_stop("SIGTERM came")
    steps = 0
    while True:
        run.step()
        steps += 1
        if stops.look() == Asked(stop="SIGTERM came"):
            break
    assert steps <= 27
