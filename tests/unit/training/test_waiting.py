"""Who waited for whom in a step, from durations alone; and the watch on a real backward pass."""

import time

import numpy as np
import pytest
import torch

from app.training.phases import Usage
from app.training.progress import WorkerFigures
from app.training.waiting import StepTimes, StepWatch, waiting_ns, worker_figures


def times(own_ns: list[int], total_ns: int, spare_share: float = 0.5) -> StepTimes:
    return StepTimes(np.array(own_ns, dtype=np.int64), total_ns, total_ns - sum(own_ns), spare_share)


def spin_ns(duration_ns: int) -> None:
    begun = time.monotonic_ns()
    while time.monotonic_ns() - begun < duration_ns:
        pass


def test_a_worker_waits_for_the_slowest_of_each_step() -> None:
    # Step 1: 10, 14, 11; step 2: 20, 15, 25. Waits: 4 + 5, 0 + 10, 3 + 0.
    assert waiting_ns([np.array([10, 20]), np.array([14, 15]), np.array([11, 25])]) == [9, 10, 3]


def test_a_worker_alone_waits_for_nobody_and_steps_that_not_all_made_do_not_count() -> None:
    assert waiting_ns([np.array([10, 20])]) == [0]
    assert waiting_ns([np.array([10, 20, 30]), np.array([15])]) == [5, 0]
    assert waiting_ns([np.array([10]), np.array([], dtype=np.int64)]) == [0, 0]


def test_waiting_takes_its_share_of_the_energy_between_a_workers_own_gradients_and_its_next_step() -> None:
    # Worker 0: own 60 of 100 ns, spare 40 of which it waited 20; spare has half the energy of its steps, 100 uJ.
    fast, slow = times([60], 100), times([80], 100)
    usage = {"step": Usage(energy_uj=100, slices=1, known=1), "evaluate": Usage(energy_uj=7, slices=1, known=1)}
    assert worker_figures([(usage, fast), (usage, slow)]) == (
        WorkerFigures(energy_uj=107, step_uj=100, step_ns=100, waiting_ns=20, waiting_uj=25),
        WorkerFigures(energy_uj=107, step_uj=100, step_ns=100, waiting_ns=0, waiting_uj=0),
    )


def test_the_watch_marks_the_end_of_the_backward_pass_of_each_step() -> None:
    watch = StepWatch(torch.device("cpu"))
    weight = torch.ones(4, requires_grad=True)
    for _ in range(3):
        watch.begin()
        loss = (weight * 2).sum()
        watch.of_loss(loss)
        loss.backward()
        spin_ns(2_000_000)
        watch.end()
    found = watch.take()
    assert len(found.own_ns) == 3
    assert found.spare_ns >= 3 * 2_000_000
    assert found.total_ns == found.spare_ns + int(found.own_ns.sum())
    assert 0 < found.spare_share <= 1
    assert len(watch.take().own_ns) == 0


def test_of_accumulated_gradients_the_last_backward_pass_of_a_step_counts() -> None:
    watch = StepWatch(torch.device("cpu"))
    weight = torch.ones(4, requires_grad=True)
    watch.begin()
    ends = []
    for _ in range(2):
        loss = (weight * 2).sum()
        watch.of_loss(loss)
        before = time.monotonic_ns()
        loss.backward()
        ends.append(before)
    watch.end()
    found = watch.take()
    assert int(found.own_ns[0]) == found.total_ns - found.spare_ns
    assert found.total_ns - found.spare_ns >= ends[1] - ends[0]


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_the_hook_leaves_the_gradient_as_it_is(scale: float) -> None:
    weight = torch.full((3,), scale, requires_grad=True)
    watch = StepWatch(torch.device("cpu"))
    watch.begin()
    loss = (weight**2).sum()
    watch.of_loss(loss)
    loss.backward()
    assert torch.equal(weight.grad, 2 * weight.detach())


def test_reading_rows_between_two_steps_is_a_workers_own_time_unless_something_else_came_between() -> None:
    watch = StepWatch(torch.device("cpu"))

    def one_step() -> None:
        watch.begin()
        loss = torch.ones(2, requires_grad=True).sum()
        watch.of_loss(loss)
        loss.backward()
        watch.end()

    one_step()
    spin_ns(20_000_000)  # reading rows
    one_step()
    spin_ns(20_000_000)  # a checkpoint
    watch.interrupt()
    one_step()
    first, second, third = watch.take().own_ns
    assert second >= 20_000_000
    assert max(first, third) < 20_000_000


def test_a_step_that_never_came_to_its_gradients_counts_as_its_own() -> None:
    watch = StepWatch(torch.device("cpu"))
    watch.begin()
    watch.end()
    found = watch.take()
    assert found.spare_ns <= found.total_ns
    assert len(found.own_ns) == 1
