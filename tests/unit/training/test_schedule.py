"""From a job file and a pace to what a plan needs; worked by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import InvalidInput
from app.policy.shifting import Outlook, Rate
from app.training.job import TrainJob
from app.training.pace import Pace, WorldPace
from app.training.schedule import State, estimate, make_plan, terms_of
from app.training.start import Start, Terms
from tests.fixtures.small_training import job as small_job

NOON_S = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
HOUR_S = 3600.0


def job(**changes: Any) -> TrainJob:
    return small_job(name="night", epochs=100, **changes)


def pace(**changes: Any) -> Pace:
    """100 epochs of 36 steps of a second are an hour."""
    worlds = (WorldPace(world=1, step_s=1.0, power_w=200.0),)
    return Pace(run="night-1", epoch_steps=36, worlds=worlds, setup_s=20.0, setup_j=5_000.0, closing_s=5.0).model_copy(
        update=changes
    )


def test_an_earlier_run_says_how_long_it_takes_and_what_a_restart_costs() -> None:
    known = estimate(job(), Start(slack_hours=6), pace())
    assert known.hours == 1.0
    assert known.rates == {1: Rate(speed=1.0, power_w=200.0)}
    assert known.restart.seconds == 25.0
    assert known.restart.energy_j == 0.0  # 25 s at 200 W are 5,000 J: no more than steps would take
    assert known.power_known
    assert any("measured in night-1" in text for text in known.known_from)
    dear = estimate(job(), Start(slack_hours=6), pace(setup_j=7_500.0))
    assert dear.restart.energy_j == 2_500.0


def test_the_file_stands_over_earlier_runs_but_not_over_this_one() -> None:
    start = Start(slack_hours=6, hours=3.0, power_w=500.0)
    assert estimate(job(), start, pace()).hours == 3.0
    assert estimate(job(), start, pace()).power_w == 500.0
    assert estimate(job(), start, pace(), of_this_run=True).hours == 1.0


def test_a_job_of_unknown_length_is_refused_and_of_unknown_power_planned_in_shares() -> None:
    with pytest.raises(InvalidInput, match=r"start.hours: no earlier run of 'night' shows how long"):
        estimate(job(), Start(slack_hours=6), None)
    known = estimate(job(), Start(slack_hours=6, hours=2), None)
    assert not known.power_known
    assert known.power_w == 1000.0
    assert any("of a job of 1 kW" in text for text in known.known_from)


def test_numbers_of_workers_come_from_the_file_or_from_what_was_seen() -> None:
    elastic = job(workers={"min": 1, "max": 4})
    start = Start(slack_hours=6, hours=2, speeds={1: 10.0, 2: 19.0, 4: 32.0}, power_w=800.0)
    rates = estimate(elastic, start, None).rates
    assert rates == {1: Rate(0.3125, 200.0), 2: Rate(0.59375, 400.0), 4: Rate(1.0, 800.0)}
    seen = pace(worlds=(WorldPace(world=1, step_s=3.0, power_w=100.0), WorldPace(world=4, step_s=1.0, power_w=340.0)))
    rates = estimate(elastic, Start(slack_hours=6), seen).rates
    assert rates == {1: Rate(1 / 3, 100.0), 4: Rate(1.0, 340.0)}
    assert estimate(elastic, Start(slack_hours=6, interruptible=False), seen).rates == {4: Rate(1.0, 340.0)}


def test_slack_counts_from_what_it_would_take_and_a_deadline_is_one() -> None:
    assert terms_of(Start(slack_hours=24), NOON_S, 1.5).deadline_s == NOON_S + 25.5 * HOUR_S
    told = Start.model_validate({"deadline": "2026-12-01T18:00:00+01:00"})
    assert terms_of(told, NOON_S, 1.5).deadline_s == NOON_S + 5 * HOUR_S


def test_a_plan_waits_for_the_clean_hours_and_is_over_in_time() -> None:
    """Five dear hours, then cheap ones, of which one and the reserve fit before the deadline."""
    outlook = Outlook(NOON_S, HOUR_S, (400.0,) * 5 + (100.0,) * 3)
    start = Start(slack_hours=6)
    terms = Terms(submitted_s=NOON_S, deadline_s=NOON_S + 7 * HOUR_S)
    known = estimate(job(), start, pace(setup_s=0.0))
    plan = make_plan(known, terms, State(), outlook, NOON_S, start)
    assert plan.workers_at(NOON_S) == 0
    assert [(piece.start_s, piece.end_s) for piece in plan.pieces] == [(NOON_S + 5 * HOUR_S, NOON_S + 6 * HOUR_S)]
    assert plan.now_g == pytest.approx(200 / 1000 * 400)
    assert plan.expected_g == pytest.approx(200 / 1000 * 100)
    late = make_plan(known, Terms(submitted_s=NOON_S, deadline_s=NOON_S + 60), State(), outlook, NOON_S, start)
    assert late.late
    assert late.workers_at(NOON_S) == 1


def test_work_that_is_done_is_not_planned_again() -> None:
    known = estimate(job(), Start(slack_hours=6), pace())
    assert known.hours_left(State()) == pytest.approx(1 + 20 / HOUR_S)  # the first start is work, too
    assert known.hours_left(State(done=0.75, workers=1, begun=True)) == pytest.approx(0.25)
