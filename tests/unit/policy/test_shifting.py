"""Plans of single jobs: when they start, pause, grow and what they say about it."""

import pytest

from app.errors import InvalidInput
from app.policy.shifting import Outlook, Piece, Rate, RestartCost, Run, ShiftSettings, fixed_run, plan_run

HOUR = 3600.0


def hourly(*grams, **quantiles):
    return Outlook(0.0, HOUR, tuple(map(float, grams)), **quantiles)


def pieces(plan):
    return [(piece.start_s / HOUR, piece.end_s / HOUR, piece.workers) for piece in plan.pieces]


def test_a_job_waits_for_the_clean_hours():
    plan = plan_run(fixed_run(2 * HOUR, power_w=500, deadline_s=5 * HOUR), hourly(400, 380, 90, 110, 400), now_s=0)
    assert pieces(plan) == [(2, 4, 1)]
    assert plan.expected_g == pytest.approx(0.5 * (90 + 110))
    assert plan.now_g == pytest.approx(0.5 * (400 + 380))
    assert plan.finish_s == 4 * HOUR
    assert "start later" in plan.reasons[0]
    assert {each.name for each in plan.alternatives} == {"start now", "start later"}


def test_a_job_of_half_an_hour_ends_where_the_clean_hour_ends_or_begins_where_it_begins():
    plan = plan_run(fixed_run(1.5 * HOUR, 100, 4 * HOUR), hourly(400, 200, 100, 400), now_s=0)
    assert pieces(plan) == [(1.5, 3, 1)]


def test_the_middle_of_an_hour_is_now():
    plan = plan_run(fixed_run(HOUR, 1000, 3 * HOUR), hourly(100, 300, 300), now_s=0.5 * HOUR)
    assert pieces(plan) == [(0.5, 1.5, 1)]
    assert plan.expected_g == pytest.approx(200)


def test_what_saves_next_to_nothing_starts_now():
    plan = plan_run(fixed_run(HOUR, 1000, 3 * HOUR), hourly(300, 299, 300), 0, ShiftSettings(least_saving=0.01))
    assert pieces(plan) == [(0, 1, 1)]
    assert "less than 1.0%" in plan.reasons[0]
    assert plan.saving_g == 0


def test_a_flat_grid_starts_now():
    plan = plan_run(fixed_run(HOUR, 1000, 30 * HOUR, interruptible=True), hourly(*[300] * 30), 0)
    assert pieces(plan) == [(0, 1, 1)]
    assert plan.reasons == ("no later time is expected to be cleaner before the deadline",)


def test_a_deadline_that_cannot_be_met_runs_at_once_and_says_so():
    plan = plan_run(fixed_run(4 * HOUR, 1000, 3 * HOUR, interruptible=True), hourly(400, 1, 1, 400), 0)
    assert plan.late
    assert pieces(plan) == [(0, 4, 1)]
    assert "3600 s late" in plan.reasons[0]


def test_an_interruptible_job_pauses_where_that_pays():
    run = fixed_run(2 * HOUR, 1000, 4 * HOUR, interruptible=True, restart=RestartCost(0, energy_j=36_000))
    plan = plan_run(run, hourly(100, 500, 100, 500), 0)
    assert pieces(plan) == [(0, 1, 1), (2, 3, 1)]
    assert plan.restarts == 1
    assert plan.expected_g == pytest.approx(200 + 0.01 * 100)  # 36 kJ are 0.01 kWh
    assert plan.kwh == pytest.approx(2.01)


def test_a_restart_that_costs_more_than_it_saves_is_not_made():
    run = fixed_run(2 * HOUR, 1000, 4 * HOUR, interruptible=True, restart=RestartCost(seconds=1200))
    plan = plan_run(run, hourly(100, 110, 100, 110), 0)
    assert pieces(plan) == [(0, 2, 1)]


def test_a_restart_takes_its_time_within_the_deadline():
    run = fixed_run(2 * HOUR, 1000, 4 * HOUR, interruptible=True, restart=RestartCost(seconds=360))
    plan = plan_run(run, hourly(100, 900, 100, 900), 0)
    assert plan.restarts == 1
    assert plan.finish_s <= 4 * HOUR
    assert sum(piece.end_s - piece.start_s for piece in plan.pieces) == pytest.approx(2 * HOUR + 360)


def test_a_running_job_goes_on_without_paying_for_it():
    run = Run({1: Rate(1.0, 1000)}, 1.0, 9 * HOUR, True, RestartCost(600), workers=1)
    plan = plan_run(run, hourly(100, 100, 100), 0)
    assert plan.restarts == 0
    assert pieces(plan) == [(0, 1, 1)]


def test_a_running_job_that_pauses_pays_when_it_comes_back():
    run = Run({1: Rate(1.0, 1000)}, 1.0, 4 * HOUR, True, RestartCost(360), workers=1)
    plan = plan_run(run, hourly(900, 900, 100, 100), 0)
    assert pieces(plan) == [(2, pytest.approx(3.1), 1)]
    assert plan.restarts == 1
    assert plan.expected_g == pytest.approx(110)


def test_a_running_job_that_may_not_pause_goes_on():
    run = Run({1: Rate(1.0, 1000)}, 1.0, 4 * HOUR, False, workers=1)
    assert pieces(plan_run(run, hourly(900, 900, 100, 100), 0)) == [(0, 1, 1)]


def test_an_elastic_job_grows_in_the_clean_hour():
    run = Run({1: Rate(1.0, 100), 2: Rate(1.9, 200)}, 3.0, 4 * HOUR, True)
    plan = plan_run(run, hourly(400, 100, 390, 380), 0)
    assert plan.workers_at(1.5 * HOUR) == 2
    assert plan.expected_g < plan.now_g
    assert plan.kwh > plan.now_kwh  # two workers draw more than they do
    done = sum(run.rates[piece.workers].speed * (piece.end_s - piece.start_s) / HOUR for piece in plan.pieces)
    assert done == pytest.approx(3.0)


def test_an_elastic_job_that_may_not_pause_only_changes_size():
    run = Run({1: Rate(1.0, 100), 4: Rate(3.8, 400)}, 6.0, 5 * HOUR, False, workers=1)
    plan = plan_run(run, hourly(500, 500, 50, 500, 500), 0)
    assert plan.pieces[0].start_s == 0
    assert all(before.end_s == after.start_s for before, after in zip(plan.pieces, plan.pieces[1:], strict=False))
    assert plan.workers_at(2.5 * HOUR) == 4


def test_a_tight_deadline_makes_an_elastic_job_run_as_fast_as_it_must():
    run = Run({1: Rate(1.0, 100), 2: Rate(1.9, 200)}, 3.8, 2 * HOUR, True)
    plan = plan_run(run, hourly(100, 100), 0)
    assert pieces(plan) == [(0, 2, 2)]
    assert not plan.late


def test_quantiles_become_a_range():
    outlook = hourly(400, 100, low=(300.0, 90.0), high=(500.0, 150.0))
    plan = plan_run(fixed_run(HOUR, 1000, 2 * HOUR), outlook, 0)
    assert (plan.low_g, plan.expected_g, plan.high_g) == pytest.approx((90, 100, 150))


def test_when_the_number_of_workers_changes_next():
    plan = plan_run(fixed_run(HOUR, 1000, 3 * HOUR), hourly(400, 100, 400), 0)
    assert [plan.workers_at(at * HOUR) for at in (0, 1, 1.9, 2)] == [0, 1, 1, 0]
    assert plan.next_change_s(0) == HOUR
    assert plan.next_change_s(1.5 * HOUR) == 2 * HOUR
    assert plan.next_change_s(2 * HOUR) is None


def test_past_its_end_an_outlook_repeats_its_last_day():
    outlook = Outlook(0.0, HOUR, (*[500.0] * 24, *range(24)))
    assert outlook.at(48.5 * HOUR) == 0
    assert outlook.at((48 + 25) * HOUR) == 1
    assert hourly(1, 2).at(2 * HOUR) == 1
    assert outlook.at(-5) == 500


def test_slots_of_seconds_are_planned_as_slots_of_hours():
    outlook = Outlook(1000.0, 5.0, (400, 100, 400, 400))
    assert plan_run(fixed_run(5, 1000, 1020), outlook, 1000).pieces == (Piece(1005, 1010, 1),)


def test_a_week_of_minutes_is_still_planned():
    outlook = Outlook(0.0, 300.0, tuple(300.0 + (at % 288 > 144) * 100 for at in range(7 * 288)))
    plan = plan_run(fixed_run(24 * HOUR, 100, 7 * 24 * HOUR, interruptible=True, restart=RestartCost(60)), outlook, 0)
    assert plan.saving_g > 0
    assert plan.finish_s <= 7 * 24 * HOUR


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        (Run({}, 1, 9), "at least one number of workers"),
        (Run({1: Rate(0, 5)}, 1, 9), "speed > 0"),
        (Run({0: Rate(1, 5)}, 1, 9), "workers >= 1"),
        (Run({1: Rate(1, 5)}, 0, 9), "work must be > 0"),
        (Run({1: Rate(1, 5)}, 1, float("inf")), "must be finite"),
        (Run({1: Rate(1, 5)}, 1, 9, workers=2), "one of \\[1\\]"),
        (Run({1: Rate(1, 5)}, 1, 9, restart=RestartCost(-1)), "cost >= 0"),
    ],
)
def test_what_cannot_be_planned_says_why(run, fault):
    with pytest.raises(InvalidInput, match=fault):
        plan_run(run, hourly(1, 2), 0)


@pytest.mark.parametrize("arguments", [(0.0, HOUR, ()), (0.0, 0.0, (1.0,)), (0.0, HOUR, (1.0, float("nan")))])
def test_an_outlook_without_sense_is_refused(arguments):
    with pytest.raises(InvalidInput, match="outlook"):
        Outlook(*arguments)
