"""What is told within an epoch, and how seldom."""

from typing import Any

from app.clock import ManualClock
from app.domain.account import job_account
from app.training.live import Bar, Lines, Silent, of_steps
from app.training.phases import Phases, Usage
from app.units import NS_PER_S


class Figures:
    energy_uj, carbon_ugco2e, grade, provisional = 2_000_000, 0.0, "counter", True


class Slice:
    def end(self) -> None: ...

    def energy(self) -> Figures:
        return Figures()


class Client:
    def begin(self, *_: Any, **__: Any) -> Slice:
        return Slice()


def phases_with_steps(steps: int) -> Phases:
    phases = Phases(Client(), job_account("default", "tiny-1", 1))
    for _ in range(steps):
        phases.enter("step", epoch=1)
    phases.enter("evaluate", epoch=1)
    return phases


def test_a_line_comes_only_after_its_time_and_tells_joules_of_a_step_and_a_sample() -> None:
    clock, told = ManualClock(), []
    lines = Lines(told.append, phases_with_steps(3), clock, 10.0, epochs=4, epoch_steps=50)
    lines.step(1, 1, samples=8)
    clock.advance(10 * NS_PER_S)
    lines.step(1, 20, samples=8)
    lines.step(1, 21, samples=8)
    assert told == ["epoch 1/4  step 20/50  2 J/step  250 mJ/sample (counter, provisional), worker 0"]


def test_a_bar_moves_with_every_step_and_says_more_once_a_second() -> None:
    class Tqdm:
        moved, said, closed = 0, "", False

        def update(self, steps: int) -> None:
            self.moved += steps

        def set_description(self, text: str) -> None:
            self.said = text

        def close(self) -> None:
            self.closed = True

    clock, shown = ManualClock(), Tqdm()
    bar = Bar(shown, phases_with_steps(2), clock, epochs=4, steps_done=100)
    bar.step(3, 1, samples=4)
    assert (shown.moved, shown.said) == (101, "")
    clock.advance(NS_PER_S)
    bar.step(3, 2, samples=4)
    bar.close()
    assert (shown.moved, shown.closed) == (102, True)
    assert shown.said == "epoch 3/4  2 J/step  500 mJ/sample (counter, provisional)"


def test_without_a_figure_it_says_so_and_other_workers_say_nothing() -> None:
    assert of_steps(Usage(slices=5), 8) == "energy not known yet"
    Silent().step(1, 1, 8)
    Silent().close()


def test_latest_slices_are_of_one_phase_and_at_most_so_many() -> None:
    phases = phases_with_steps(5)
    assert phases.latest("step").slices == 5
    assert phases.latest("step", most=2) == Usage(4_000_000, 0.0, 2, 2, True, frozenset({"counter"}))
    assert phases.latest("checkpoint") == Usage()
    phases.usage_since_last()
    assert phases.latest("step") == Usage()
