"""Windows of a job's own training: what is set, what is measured, what happens where nothing may be set."""

import pytest

from app.clock import ManualClock
from app.errors import InvalidInput, SensorUnusable
from app.policy.power_search import PowerSetting, SearchGoal
from app.training.tuning import Tuning, settings_of, tune
from app.units import NS_PER_S


class Gpu:
    """Limits, work and meter in one: a step of b rows takes 0.1 s + b/100 s / speed; power is what the limit allows."""

    lowest_mw, highest_mw, found_mw = 100_000, 300_000, 300_000

    def __init__(self, refusal: str = "", largest: int = 10_000) -> None:
        self.refusal, self.largest = refusal, largest
        self.clock = ManualClock()
        self.limit_mw, self.counter_uj, self.batch_size = self.found_mw, 0, 0
        self.set_to: list[int] = []
        self.finished = 0

    def set(self, limit_mw: int) -> None:
        self.limit_mw = limit_mw
        self.set_to.append(limit_mw)

    def begin(self, batch_size: int) -> None:
        if batch_size > self.largest:
            raise MemoryError
        self.batch_size = batch_size

    def step(self) -> int:
        speed = min(1.0, self.limit_mw / 200_000)
        seconds = 0.1 + self.batch_size / 100 / speed
        self.clock.advance(round(seconds * NS_PER_S))
        self.counter_uj += round(self.limit_mw * seconds * 1000)
        return self.batch_size

    def finish(self) -> None:
        self.finished += 1

    def energy_uj(self) -> int:
        return self.counter_uj


def search(gpu: Gpu, batch_sizes: list[int], told: list[str] | None = None) -> Tuning:
    told = [] if told is None else told
    settings = settings_of(batch_sizes, gpu)
    return tune(settings, SearchGoal(), gpu, gpu, gpu, gpu.clock, window_s=5.0, tell=told.append)


def test_the_job_as_it_is_comes_first_and_the_best_costs_less() -> None:
    found = search(gpu := Gpu(), [64, 16, 32, 128, 256])
    assert found.first.setting == PowerSetting(64, 300_000)
    assert found.best.cost < found.first.cost
    assert found.saving == pytest.approx(1 - found.best.cost / found.first.cost)
    # Five batch sizes with nine limits, 100 to 300 W in steps of 25.
    assert (found.settings, len(found.windows) <= 45 // 4) == (45, True)
    assert gpu.set_to[:1] == [300_000]


def test_a_window_counts_the_samples_time_and_energy_of_its_own_steps_alone() -> None:
    gpu = Gpu()
    found = tune([PowerSetting(50, 200_000)], SearchGoal(), gpu, gpu, gpu, gpu.clock, window_s=5.0, tell=lambda _: None)
    # A step of 50 rows at 200 W takes 0.6 s: 12 ms a sample, 2.4 J.
    assert found.first.seconds_per_sample == pytest.approx(0.012)
    assert found.first.energy_uj_per_sample == pytest.approx(2_400_000)
    assert gpu.finished == 2  # after settling and after measuring


def test_where_limits_are_refused_batch_sizes_alone_are_searched_and_it_says_why() -> None:
    told: list[str] = []
    gpu = Gpu(refusal="nvml: no permission")
    found = search(gpu, [64, 16, 32], told)
    assert gpu.set_to == []
    assert {window.setting.limit_mw for window in found.windows} == {300_000}
    assert told[0] == "batch sizes alone are searched: nvml: no permission"
    assert " W, " not in told[1]


def test_without_any_limit_to_set_it_says_that() -> None:
    told: list[str] = []
    gpu = Gpu()
    settings = settings_of([8, 16], None)
    tune(settings, SearchGoal(), gpu, gpu, None, gpu.clock, window_s=1.0, tell=told.append)
    assert told[0] == "batch sizes alone are searched: there is no power limit to set here"


def test_a_batch_that_does_not_fit_is_told_and_left_out() -> None:
    told: list[str] = []
    found = search(Gpu(largest=64), [64, 16, 32, 128, 256], told)
    assert max(window.setting.batch_size for window in found.windows) <= 64
    assert search(Gpu(largest=100), [64, 128], []).best.setting.batch_size == 64


def test_nothing_that_fits_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no setting could be measured"):
        search(Gpu(largest=1), [64, 128])


def test_a_counter_that_begins_again_spoils_the_search() -> None:
    gpu = Gpu()
    gpu.energy_uj = lambda: -gpu.counter_uj  # type: ignore[method-assign]
    with pytest.raises(SensorUnusable, match="began again"):
        search(gpu, [64])


def test_time_cannot_be_weighed_without_a_limit() -> None:
    gpu = Gpu()
    with pytest.raises(InvalidInput, match="use 1, energy alone"):
        tune(
            settings_of([8], None),
            SearchGoal(eta=0.5),
            gpu,
            gpu,
            None,
            gpu.clock,
            window_s=1.0,
            tell=lambda _: None,
        )
