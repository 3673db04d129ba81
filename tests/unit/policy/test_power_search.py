"""The search for batch size and power limit: what it minimises, where it looks, when it stops."""

import math

import pytest

from app.errors import InvalidInput
from app.policy.power_search import PowerSearch, PowerSetting, SearchGoal

LIMITS_MW = tuple(range(100_000, 300_001, 25_000))
GRID = [PowerSetting(size, limit_mw) for size in (256, 32, 64, 128, 512, 1024) for limit_mw in reversed(LIMITS_MW)]


def device(setting: PowerSetting) -> tuple[float, float]:
    """Seconds and joules of a thousand samples on a made-up GPU: cheapest at 150 W, better with larger batches."""
    slowdown = 1 + 6 * max(0.0, 0.9 - setting.limit_mw / 250_000) ** 2
    seconds = slowdown * (0.5 + 64 / setting.batch_size)
    watts = 40 + 0.75 * setting.limit_mw / 1000 * math.sqrt(min(1.0, setting.batch_size / 512))
    return seconds, seconds * watts


def play(search: PowerSearch) -> PowerSearch:
    while (setting := search.next()) is not None:
        seconds, joules = device(setting)
        search.observe(setting, 1000, seconds, round(joules * 1e6))
    return search


def cost(setting: PowerSetting, eta: float = 1.0) -> float:
    seconds, joules = device(setting)
    return eta * joules + (1 - eta) * 300 * seconds


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.0])
def test_a_quarter_of_the_windows_finds_what_costs_at_most_three_percent_more_than_the_best(eta: float) -> None:
    search = play(PowerSearch(GRID, SearchGoal(eta=eta)))
    assert len(search.windows) <= len(GRID) // 4
    assert cost(search.best().setting, eta) <= 1.03 * min(cost(one, eta) for one in GRID)


def test_the_first_window_is_the_first_setting_and_none_is_measured_twice() -> None:
    search = play(PowerSearch(GRID, SearchGoal()))
    measured = [window.setting for window in search.windows]
    assert measured[0] == GRID[0]
    assert len(set(measured)) == len(measured)


def test_cost_is_energy_and_time_at_the_highest_limit_by_eta_times_what_the_target_needs() -> None:
    settings = [PowerSetting(32, 200_000), PowerSetting(64, 100_000)]
    search = PowerSearch(settings, SearchGoal(eta=0.25, samples_to_target={32: 10, 64: 20}))
    # 100 samples in 2 s with 300 J: a quarter of 300 J, three quarters of 200 W x 2 s; over 100 samples, times 10.
    window = search.observe(settings[0], 100, 2.0, 300_000_000)
    assert window.cost == pytest.approx((0.25 * 300 + 0.75 * 400) / 100 * 10)
    assert window.power_mw == pytest.approx(150_000)


def test_what_a_target_needs_decides_between_batch_sizes() -> None:
    needs = {32: 1.0, 64: 1.0, 128: 3.0, 256: 9.0, 512: 30.0, 1024: 90.0}
    search = play(PowerSearch(GRID, SearchGoal(samples_to_target=needs)))
    least = min(GRID, key=lambda one: cost(one) * needs[one.batch_size])
    found = search.best().setting
    assert cost(found) * needs[found.batch_size] <= 1.03 * cost(least) * needs[least.batch_size]


def test_a_batch_that_does_not_fit_closes_all_that_are_as_large() -> None:
    search = PowerSearch(GRID, SearchGoal())
    search.fail(PowerSetting(256, 300_000))
    measured = {window.setting.batch_size for window in play(search).windows}
    assert measured <= {32, 64, 128}
    assert measured


def test_the_search_ends_when_no_window_promises_anything_more() -> None:
    search = play(PowerSearch(GRID, SearchGoal(share=1.0)))
    assert len(search.windows) < 0.6 * len(GRID)
    assert cost(search.best().setting) <= 1.03 * min(map(cost, GRID))


def test_without_a_single_window_there_is_no_best() -> None:
    search = PowerSearch(GRID[:1], SearchGoal())
    search.fail(GRID[0])
    assert search.next() is None
    with pytest.raises(InvalidInput, match="no setting could be measured"):
        search.best()


@pytest.mark.parametrize(
    ("settings", "goal", "said"),
    [
        ([], SearchGoal(), "settings must be one or more"),
        ([PowerSetting(0, 1)], SearchGoal(), "batch_size and limit_mw > 0"),
        (GRID, SearchGoal(eta=1.5), "eta must be 0"),
        (GRID, SearchGoal(share=0), "share of the settings"),
        (GRID, SearchGoal(samples_to_target={32: 1.0}), "samples_to_target must be > 0 for every batch size"),
    ],
)
def test_what_cannot_be_searched_is_refused(settings: list[PowerSetting], goal: SearchGoal, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        PowerSearch(settings, goal)


def test_a_window_without_energy_is_refused() -> None:
    search = PowerSearch(GRID, SearchGoal())
    with pytest.raises(InvalidInput, match="measure longer"):
        search.observe(GRID[0], 10, 1.0, 0)
