"""Short work is done on the loop, long work on the thread, and a model in between does not move back and forth."""

import asyncio
import itertools
import threading
from types import SimpleNamespace

import pytest

from app.serving.lane import LONG_NS, SHORT_NS, Lane

US = 1_000


@pytest.fixture
def lane():
    lane = Lane()
    yield lane
    lane.close()


def test_before_anything_is_known_work_goes_to_the_thread(lane):
    assert not lane.enter()


def test_what_warming_up_took_decides_on_the_first_request(lane):
    lane.begin_at(SHORT_NS - 1)
    assert lane.enter()
    lane.leave(50 * US)
    lane.begin_at(SHORT_NS)
    assert not lane.enter()


def test_a_model_between_short_and_long_stays_where_it_is(lane):
    between = (SHORT_NS + LONG_NS) // 2
    lane.begin_at(100 * US)
    for _ in range(100):
        lane.note(between)
    assert lane.is_short
    lane.begin_at(LONG_NS)
    for _ in range(100):
        lane.note(between)
    assert not lane.is_short


def test_a_few_long_requests_among_short_ones_change_nothing_and_several_in_a_row_do(lane):
    """As on a busy machine, where whoever works is put aside for milliseconds now and then."""
    lane.begin_at(100 * US)
    for number in range(1000):
        lane.note(8_000 * US if number % 8 == 0 else 100 * US)
        assert lane.is_short
    for _ in range(5):
        lane.note(8_000 * US)
    assert not lane.is_short


def test_one_request_that_blocks_the_loop_is_enough(lane):
    lane.begin_at(100 * US)
    lane.note(100_000 * US)
    assert not lane.is_short


def test_a_loop_that_was_right_for_long_is_tried_again_soon(lane):
    lane.begin_at(100 * US)
    for _ in range(4):  # four times wrong: the next trial comes after 512
        while lane.is_short:
            lane.note(20 * SHORT_NS)
        while not lane.is_short:
            lane.note(50 * US)
    for _ in range(10_000):
        lane.note(50 * US)
    lane.note(100_000 * US)
    waited = 0
    while not lane.is_short:
        lane.note(50 * US)
        waited += 1
    assert waited == 32


def test_work_that_becomes_short_comes_back_to_the_loop(lane):
    lane.begin_at(LONG_NS)
    for _ in range(50):
        lane.note(100 * US)
    assert lane.is_short


def test_each_return_to_the_loop_that_proves_wrong_makes_the_next_one_rarer(lane):
    """Work that sleeps: 50 us of CPU time on the thread, 20 ms by the clock on the loop."""
    lane.begin_at(100 * US)
    on_thread = []
    for _ in range(3):
        while lane.is_short:
            lane.note(20 * SHORT_NS)
        on_thread.append(0)
        while not lane.is_short:
            lane.note(50 * US)
            on_thread[-1] += 1
    assert on_thread == [32, 64, 128]


def test_short_work_on_the_thread_is_waited_for(lane):
    async def scenario():
        running = asyncio.create_task(lane.hop(lambda: None, requests=1))
        await asyncio.sleep(0)  # it is on its way to the thread
        entered = lane.enter()
        if entered:
            lane.leave(100 * US)
        await running
        return entered

    lane.begin_at(100 * US)
    assert asyncio.run(scenario())


def test_two_are_never_at_work_at_once(lane):
    lane.begin_at(100 * US)
    started, release = threading.Event(), threading.Event()

    def long():
        started.set()
        assert release.wait(10)

    async def scenario():
        running = asyncio.create_task(lane.hop(long))
        await asyncio.get_running_loop().run_in_executor(None, started.wait, 10)
        assert lane.is_short
        assert not lane.enter()
        release.set()
        await running
        assert lane.enter()
        lane.leave(100 * US)

    asyncio.run(scenario())


def test_work_on_the_thread_is_noted_when_it_is_all_of_a_request(lane):
    async def scenario():
        await lane.hop(lambda: None)
        assert not lane.is_short
        for _ in range(50):
            await lane.hop(lambda: None, requests=1)

    asyncio.run(scenario())
    assert lane.is_short


def test_a_batch_tells_of_one_request_only_if_it_is_short_itself(lane, monkeypatch):
    took_ns = iter([10 * SHORT_NS] * 50 + [SHORT_NS // 2] * 50)
    now_ns = itertools.accumulate(itertools.chain.from_iterable((0, each) for each in took_ns))
    monkeypatch.setattr("app.serving.lane.time", SimpleNamespace(thread_time_ns=now_ns.__next__))
    lane.begin_at(SHORT_NS - 1)

    async def batches(count):
        for _ in range(count):
            await lane.hop(lambda: None, requests=8)
        return lane.is_short

    assert asyncio.run(batches(50)) is True
    lane.begin_at(LONG_NS)
    assert asyncio.run(batches(50)) is True
