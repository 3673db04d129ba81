"""Advice on a job: measured windows, earlier runs, the plan and the zone, each with what it is known from."""

import pytest

from app.errors import InvalidInput
from app.policy.advice_jobs import (
    WorkerPace,
    advise_batch,
    advise_hour,
    advise_power_cap,
    advise_workers,
    advise_zone,
)
from app.policy.placement import Place, choose_place
from app.policy.power_search import PowerSetting, Window
from app.policy.shifting import Outlook, fixed_run, plan_run


def window(batch: int, limit_w: int, ms: float, mj: float) -> Window:
    return Window(PowerSetting(batch, limit_w * 1000), ms / 1000, mj * 1000, mj / 1000)


def test_the_best_window_that_is_fast_enough_becomes_the_lines_of_the_job_file() -> None:
    windows = [window(8, 300, 10, 2000), window(16, 200, 11, 1500), window(16, 100, 20, 1000)]
    advice = advise_batch(windows, 0.0, most_slower=1.25, known_from="tune")
    assert (advice.setting, advice.now, advice.proposed) == ("batch", "8, 300 W", "16, 200 W")
    assert advice.saving.share == pytest.approx(0.25)
    assert advice.change == {"batch_size": 16, "resources.power_limit_w": 200.0}
    assert "learns otherwise" in advice.reasons[0]
    assert (advice.by_name, advice.pays) == (True, False)  # what the job learns would change, too
    # Twice as slow is allowed: the lowest limit is then the best.
    assert advise_batch(windows, 0.0, 2.0, "tune").saving.share == pytest.approx(0.5)


def test_a_power_cap_at_the_same_batch_size_pays_by_itself() -> None:
    windows = [window(8, 300, 10, 2000), window(8, 200, 11, 1800), window(16, 200, 11, 1500)]
    advice = advise_power_cap(windows, 0.0, 1.25, "tune")
    assert (advice.setting, advice.change, advice.pays) == ("power cap", {"resources.power_limit_w": 200.0}, True)
    assert advice.saving.share == pytest.approx(0.1)
    assert advise_power_cap(windows[::2], 0.0, 1.25, "tune").saving.basis == "not known"


def test_one_limit_for_all_is_none_of_the_settings() -> None:
    windows = [window(8, 1, 10, 2000), window(16, 1, 9, 1800)]
    advice = advise_batch(windows, 0.0, 1.25, "tune")
    assert (advice.setting, advice.change) == ("batch", {"batch_size": 16})
    worth_nothing = advise_batch([window(8, 1, 10, 2000), window(16, 1, 9, 1990)], 0.0, 1.25, "tune")
    assert (worth_nothing.moves, worth_nothing.change) == (False, {})
    with pytest.raises(InvalidInput, match="no window"):
        advise_batch([], 0.0, 1.25, "tune")


def test_workers_are_chosen_by_the_energy_of_a_step() -> None:
    # 0.2 s x 40 W = 8 J against 0.17 s x 75 W = 12.75 J.
    paces = [WorkerPace(1, 0.2, 40.0), WorkerPace(2, 0.17, 75.0)]
    advice = advise_workers((1, 2), paces, 1.25, "run digits-1")
    assert (advice.proposed, advice.change) == ("1", {"workers": 1})
    assert advice.saving.share == pytest.approx(1 - 8 / 12.75)
    # A fifth slower than allowed: two workers stay.
    assert advise_workers((1, 2), paces, 1.1, "run").moves is False


def test_workers_that_nobody_metered_are_not_known() -> None:
    assert "no metered run with 2" in advise_workers((1, 2), [WorkerPace(2, 0.2, None)], 1.25, "").saving.note
    assert "one number of workers" in advise_workers((2, 2), [WorkerPace(2, 0.2, 40.0)], 1.25, "").saving.note


OUTLOOK = Outlook(0.0, 3600.0, (400.0, 400.0, 100.0, 100.0))


def test_the_hour_is_the_plans_and_its_grams_count_only_where_the_power_is_known() -> None:
    plan = plan_run(fixed_run(3600, 500, 4 * 3600), OUTLOOK, 0.0)
    advice = advise_hour(plan, "at once", {"start": {"slack_hours": 3}}, "forecast", power_known=True)
    assert advice.saving.share == pytest.approx(0.75)
    assert advice.saving.carbon_g == pytest.approx(0.5 * 300)
    assert (advice.saving.basis, advice.pays) == ("forecast", True)
    guessed = advise_hour(plan, "at once", {}, "forecast", power_known=False)
    assert (guessed.saving.share, guessed.saving.carbon_g, guessed.courses[0].carbon_g) == (
        pytest.approx(0.75),
        None,
        None,
    )


def test_a_flat_grid_leaves_the_hour_as_it_is() -> None:
    plan = plan_run(fixed_run(3600, 500, 4 * 3600), Outlook(0.0, 3600.0, (400.0,)), 0.0)
    assert advise_hour(plan, "at once", {"start": {}}, "forecast", power_known=True).change == {}


def test_the_zone_is_the_placements_and_moves_only_where_somebody_says_how() -> None:
    run = fixed_run(3600, 1000, 10 * 3600)
    places = [Place("FRA", Outlook(0, 3600, (50.0,))), Place("POL", Outlook(0, 3600, (600.0,)))]
    away = advise_zone(choose_place(run, places, 0.0, home="POL"), "POL", "yearly figures")
    assert (away.proposed, away.saving.share, away.change) == ("FRA", pytest.approx(1 - 50 / 600), {})
    assert away.pays is False
    home = advise_zone(choose_place(run, places, 0.0, home="FRA"), "FRA", "yearly figures")
    assert home.moves is False
