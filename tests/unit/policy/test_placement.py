"""Where a run goes: the cleanest zone that may have it, its data and the way there counted."""

import pytest

from app.errors import InvalidInput
from app.policy.placement import Place, PlaceLimits, PlacementSettings, choose_place
from app.policy.shifting import Outlook, Rate, RestartCost, Run, fixed_run

HOUR = 3600.0


def grid(*grams):
    return Outlook(0.0, HOUR, tuple(map(float, grams)))


DIRTY, CLEAN = grid(500, 500, 500, 500), grid(100, 100, 100, 100)
JOB = fixed_run(HOUR, 1000, 3 * HOUR)


def test_the_cleanest_zone_has_it():
    found = choose_place(JOB, [Place("here", DIRTY), Place("there", CLEAN)], 0, home="here")
    assert found.zone == "there"
    assert (found.expected_g, found.home_g) == (pytest.approx(100), pytest.approx(500))
    assert found.reasons[0] == "there: 100 g expected instead of 500 g in here"
    assert [option.zone for option in found.options] == ["there", "here"]


def test_time_and_place_are_one_decision():
    noon = grid(600, 50, 600, 600)
    found = choose_place(JOB, [Place("here", noon), Place("there", CLEAN)], 0, home="here")
    assert found.zone == "here"
    assert found.plan.pieces[0].start_s == HOUR


def test_data_that_must_move_may_cost_more_than_it_saves():
    settings = PlacementSettings(kwh_per_gb=0.01, gbit_per_s=1000)
    near = [Place("here", DIRTY), Place("there", CLEAN, moved_gb=50)]
    found = choose_place(JOB, near, 0, home="here", settings=settings)
    assert found.zone == "there"
    assert found.options[0].moved_g == pytest.approx(50 * 0.01 * 300)  # at the mean of the two grids
    far = [Place("here", DIRTY), Place("there", CLEAN, moved_gb=200)]
    assert choose_place(JOB, far, 0, home="here", settings=settings).zone == "here"


def test_data_takes_time_to_arrive():
    places = [Place("there", CLEAN, moved_gb=225)]
    assert choose_place(JOB, places, 0).plan.pieces[0].start_s == pytest.approx(1800)


def test_a_zone_that_would_end_too_late_loses():
    places = [Place("here", DIRTY), Place("there", CLEAN, moved_gb=2250)]
    assert choose_place(JOB, places, 0, home="here").zone == "here"


def test_a_little_cleaner_is_not_worth_moving():
    found = choose_place(JOB, [Place("here", DIRTY), Place("there", grid(495, 495, 495))], 0, home="here")
    assert found.zone == "here"
    assert "it stays" in found.reasons[0]


def test_the_building_counts():
    places = [Place("here", grid(120, 120), pue=1.0), Place("there", CLEAN, pue=1.5)]
    assert choose_place(JOB, places, 0, home="there").zone == "here"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (Place("there", CLEAN, latency_ms=80), "latency is 80 ms, at most 50 ms"),
        (Place("there", CLEAN), "latency is not known"),
        (Place("there", CLEAN, latency_ms=1, free_workers=0), "0 workers are free, 1 are needed"),
        (Place("else", CLEAN, latency_ms=1), "may only lie in here, there"),
    ],
)
def test_limits_rule_zones_out_and_say_why(place, why):
    limits = PlaceLimits(latency_ms=50, zones=frozenset({"here", "there"}))
    found = choose_place(JOB, [Place("here", DIRTY, latency_ms=5), place], 0, home="here", limits=limits)
    assert found.zone == "here"
    assert any(why in reason for reason in found.reasons)
    with pytest.raises(InvalidInput, match=why):
        choose_place(JOB, [place], 0, limits=limits)


def test_an_elastic_job_gets_no_more_workers_than_are_free():
    run = Run({1: Rate(1.0, 100), 4: Rate(3.9, 400)}, 3.0, 4 * HOUR, True)
    found = choose_place(run, [Place("there", grid(10, 900, 900, 900), free_workers=2)], 0)
    assert {piece.workers for piece in found.plan.pieces} == {1}


def test_a_running_job_pays_a_restart_for_moving_and_none_for_staying():
    run = Run({1: Rate(1.0, 1000)}, 1.0, 4 * HOUR, False, RestartCost(720), workers=1, begun=True)
    found = choose_place(run, [Place("here", DIRTY), Place("there", CLEAN)], 0, home="here")
    by_zone = {option.zone: option.plan for option in found.options}
    assert by_zone["here"].restarts == 0
    assert by_zone["there"].restarts == 1
    assert by_zone["there"].expected_g == pytest.approx(120)
