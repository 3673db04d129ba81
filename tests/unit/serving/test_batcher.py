"""Requests that wait leave together on a clock moved by hand; clients that leave take theirs along."""

import asyncio
import threading

import pytest

from app.errors import Unavailable
from app.policy.batching import BatchLimits
from app.serving.batcher import Batcher
from app.serving.lane import Lane

pytestmark = pytest.mark.timeout(30)


class HandLoop(asyncio.SelectorEventLoop):
    """Its time moves only by `pass_s`: no test waits for a timer."""

    now_s = 1000.0

    def time(self):
        return self.now_s

    async def pass_s(self, seconds):
        await settle()
        self.now_s += seconds
        await settle()


async def settle():
    """Everything that can happen now has happened, on the model's thread too."""
    for _ in range(20):
        await asyncio.sleep(0)


class Work:
    """Answers each ask with itself doubled; `hold` keeps it from going on, `fault` is raised for 13."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, asks):
        self.batches.append(list(asks))
        assert self.go.wait(10)
        if "crash" in asks:
            raise RuntimeError("crash")
        return [ValueError(ask) if ask == 13 else ask * 2 for ask in asks]


class SeenAll:
    """A governor that writes down what it is told and changes its mind when told to."""

    reason = "told to"

    def __init__(self, limits):
        self.now, self.seen = limits, []

    def limits(self):
        return self.now

    def observe(self, seen):
        self.seen.append(seen)


class Bench:
    def __init__(self, loop, **options):
        self.loop, self.work, self.lane = loop, Work(), Lane()
        limits = options.pop("limits", BatchLimits(4, 1.0))
        self.batcher = Batcher(self.lane, self.work, limits, options.pop("max_queued", 100), **options)

    def submit(self, ask, kind="kind", rows=1):
        return self.loop.create_task(self.batcher.submit(ask, kind, rows))

    async def answered(self, *tasks):
        return await asyncio.gather(*tasks, return_exceptions=True)


def run(scenario, **options):
    loop = HandLoop()
    bench = Bench(loop, **options)
    try:
        return loop.run_until_complete(scenario(bench))
    finally:
        bench.batcher.close()
        bench.lane.close()
        loop.close()


def test_requests_wait_for_each_other_and_leave_when_the_oldest_has_waited():
    async def scenario(bench):
        first = bench.submit(1)
        await bench.loop.pass_s(0.5)
        second = bench.submit(2)
        await bench.loop.pass_s(0.49)
        assert bench.work.batches == []
        await bench.loop.pass_s(0.01)
        assert await bench.answered(first, second) == [2, 4]
        assert bench.work.batches == [[1, 2]]

    run(scenario)


def test_a_full_batch_does_not_wait():
    async def scenario(bench):
        tasks = [bench.submit(n) for n in (1, 2, 3, 4, 5)]
        assert await bench.answered(*tasks[:4]) == [2, 4, 6, 8]
        assert bench.work.batches == [[1, 2, 3, 4]]
        await bench.loop.pass_s(1.0)
        assert await bench.answered(tasks[4]) == [10]

    run(scenario)


def test_without_a_wait_what_comes_while_the_model_is_busy_runs_together():
    async def scenario(bench):
        bench.work.go.clear()
        tasks = [bench.submit(1)]
        await settle()
        tasks += [bench.submit(n) for n in (2, 3, 4)]
        await settle()
        bench.work.go.set()
        assert await bench.answered(*tasks) == [2, 4, 6, 8]
        assert bench.work.batches == [[1], [2, 3, 4]]

    run(scenario, limits=BatchLimits(4, 0.0))


def test_what_comes_in_one_round_of_the_loop_is_one_batch():
    async def scenario(bench):
        assert await bench.answered(*[bench.submit(n) for n in (1, 2, 3)]) == [2, 4, 6]
        assert bench.work.batches == [[1, 2, 3]]

    run(scenario, limits=BatchLimits(4, 0.0))


def test_one_fault_is_the_fault_of_one():
    async def scenario(bench):
        good, bad, other = await bench.answered(*[bench.submit(n) for n in (1, 13, 3)])
        assert (good, other) == (2, 6)
        assert isinstance(bad, ValueError)

    run(scenario, limits=BatchLimits(4, 0.0))


def test_work_that_crashes_fails_its_batch_and_the_next_is_served():
    async def scenario(bench):
        crashed = await bench.answered(bench.submit("crash"), bench.submit(1))
        assert [type(each) for each in crashed] == [RuntimeError, RuntimeError]
        assert await bench.answered(bench.submit(2)) == [4]

    run(scenario, limits=BatchLimits(4, 0.0))


def test_a_client_that_leaves_while_it_waits_is_never_run():
    async def scenario(bench):
        first, second = bench.submit(1), bench.submit(2)
        await settle()
        first.cancel()
        await bench.loop.pass_s(1.0)
        assert await bench.answered(second) == [4]
        assert first.cancelled()
        assert bench.work.batches == [[2]]

    run(scenario)


def test_a_client_that_leaves_while_it_runs_does_not_harm_its_neighbours():
    async def scenario(bench):
        bench.work.go.clear()
        first, second = bench.submit(1), bench.submit(2)
        await settle()
        first.cancel()
        await settle()
        bench.work.go.set()
        assert await bench.answered(second) == [4]

    run(scenario, limits=BatchLimits(2, 0.0))


def test_the_last_one_leaving_stops_the_timer():
    async def scenario(bench):
        task = bench.submit(1)
        await settle()
        task.cancel()
        await bench.loop.pass_s(5.0)
        assert bench.work.batches == []
        assert await bench.answered(*[bench.submit(n) for n in (1, 2, 3, 4)]) == [2, 4, 6, 8]

    run(scenario)


def test_one_too_many_is_refused_and_the_others_are_answered():
    async def scenario(bench):
        tasks = [bench.submit(n) for n in (1, 2, 3)]
        await bench.loop.pass_s(1.0)
        answers = await bench.answered(*tasks)
        assert answers[:2] == [2, 4]
        assert isinstance(answers[2], Unavailable)

    run(scenario, max_queued=2)


def test_closing_tells_those_who_wait():
    async def scenario(bench):
        task = bench.submit(1)
        await settle()
        bench.batcher.close()
        assert isinstance((await bench.answered(task))[0], Unavailable)
        assert bench.work.batches == []

    run(scenario)


def test_the_governors_limits_hold_and_it_is_told_each_batch():
    governor = SeenAll(BatchLimits(2, 1.0))

    async def scenario(bench):
        first = bench.submit(1, rows=1)
        await bench.loop.pass_s(0.25)
        await bench.answered(first, bench.submit(2, rows=1))
        governor.now = BatchLimits(1, 0.0)
        await bench.answered(bench.submit(3))

    run(scenario, governor=governor, energy_uj=lambda answers: 10 * len(answers))
    assert [(seen.rows, seen.energy_uj, list(seen.latencies_s)) for seen in governor.seen] == [
        (2, 20, [0.25, 0.0]),
        (1, 10, [0.0]),
    ]
    assert governor.seen[0].limits == BatchLimits(2, 1.0)


def test_batches_with_a_fault_teach_the_governor_nothing():
    governor = SeenAll(BatchLimits(4, 0.0))

    async def scenario(bench):
        await bench.answered(bench.submit(13), bench.submit(1))

    run(scenario, governor=governor)
    assert governor.seen == []


@pytest.mark.parametrize("kinds", [("a", "b"), (None, None)])
def test_what_may_not_be_joined_runs_one_after_the_other(kinds):
    async def scenario(bench):
        await bench.answered(*[bench.submit(n, kind) for n, kind in enumerate(kinds)])
        assert bench.work.batches == [[0], [1]]

    run(scenario, limits=BatchLimits(4, 0.0))
