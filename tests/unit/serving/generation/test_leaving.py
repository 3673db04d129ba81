"""Clients that leave: their places are free with the next step, what was used is charged, nothing is left behind."""

import asyncio
import gc
import random
import time
import tracemalloc
from itertools import pairwise

import pytest

from app.domain.account import request_account
from tests.unit.serving.generation.conftest import Exchange
from tests.unit.serving.generation.test_openai_calls import CHAT, COMPLETION, run


async def begin(served, path, body):
    """A request under way, and what it has been sent."""
    exchange = Exchange(path, body)
    task = asyncio.ensure_future(served.replica.http(exchange.scope, exchange.receive, exchange.send))
    return exchange, task


async def leave(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", COMPLETION | {"max_tokens": 50, "stream": True}),
        ("/v1/completions", COMPLETION | {"max_tokens": 50}),
        ("/v1/chat/completions", CHAT | {"max_tokens": 40, "n": 3, "stream": True}),
        ("/infer", {"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}],
                    "parameters": {"max_tokens": 50}}),
    ],
)  # fmt: skip
def test_whoever_leaves_while_it_is_generated_frees_the_place_at_once_and_pays_for_what_was_done(serving, path, body):
    async def scenario():
        async with serving() as served:
            charged = []
            served.replica.model.charge = lambda caller, receipt: charged.append((caller.tenant, receipt["energy_uj"]))
            served.engine.hold()
            _, task = await begin(served, path, body)
            await served.until(lambda: served.engine.load.running > 0)
            await leave(task)
            served.engine.release()
            await served.until_free()
            work = served.client.begun[-1]
            return charged, work, served.replica.model.stats()

    charged, work, stats = run(scenario())
    assert charged == [("acme", work.told().whole.energy_uj)]
    assert work.account == request_account("acme", "coder", "3")
    assert stats["idle_from_s"] > 0  # nobody is there any more


def test_whoever_leaves_the_queue_is_never_started(serving):
    async def scenario():
        async with serving(max_sequences=1) as served:
            served.engine.hold()
            _, first = await begin(served, "/v1/completions", COMPLETION | {"max_tokens": 3})
            await served.until(lambda: served.engine.load.running == 1)
            _, second = await begin(served, "/v1/completions", COMPLETION | {"max_tokens": 3})
            await served.until(lambda: served.engine.load.waiting == 1)
            await leave(second)
            served.engine.release()
            await first
            await served.until_free()
            return served.client.begun[-1].tokens

    assert run(scenario()) == 0


def test_whoever_leaves_before_the_first_event_is_sent_leaves_nothing(serving):
    async def scenario():
        async with serving() as served:
            exchange = Exchange("/v1/completions", COMPLETION | {"stream": True, "max_tokens": 50})
            exchange.may_send.clear()
            task = asyncio.ensure_future(served.replica.http(exchange.scope, exchange.receive, exchange.send))
            await served.until(lambda: served.client.begun)
            await leave(task)
            await served.until_free()

    run(scenario())


def test_whoever_got_the_last_place_and_was_done_before_the_books_knew_leaves_nothing_open(serving):
    async def scenario():
        async with serving() as served:
            object.__setattr__(served.parts, "max_queued", 0)  # the queue looks full: the engine is asked first
            submit = served.engine.submit

            def submit_and_be_done(prompt):
                submit(prompt)
                while served.engine.load.running or served.engine.load.waiting:
                    time.sleep(0.001)

            served.engine.submit = submit_and_be_done
            answer = await served.request("/v1/completions", COMPLETION | {"max_tokens": 3})
            await served.until_free()
            return answer.status, served.client.begun[-1].has_ended

    assert run(scenario()) == (200, True)


def test_a_thousand_requests_that_end_in_every_way_leave_no_place_no_inbox_and_no_memory(serving):
    chance = random.Random(5)
    kinds = [
        ("/v1/completions", COMPLETION | {"max_tokens": 5, "stream": True}),
        ("/v1/chat/completions", CHAT | {"max_tokens": 4, "n": 2}),
        ("/v1/completions", {"model": "coder", "prompt": [257], "stream": True}),
        ("/v1/completions", {"model": "coder", "prompt": "x" * 100}),
        ("/v1/completions", COMPLETION | {"temperature": 9}),
        ("/v1/chat/completions", b'{"model": "\xff"}'),
    ]

    async def cycle(served):
        path, body = chance.choice(kinds)
        _, task = await begin(served, path, body)
        for _ in range(chance.choice([0, 1, 3, 50])):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            await leave(task)
        else:
            await task
        served.client.begun[:] = [work for work in served.client.begun if not work.has_ended]
        served.client.ended.clear()

    async def kept_after(served, requests):
        for _ in range(requests // 10):
            await asyncio.gather(*(cycle(served) for _ in range(10)))
        await served.until_free()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def scenario():
        async with serving(max_sequences=3, max_queued=2) as served:
            tasks = len(asyncio.all_tasks())
            for _ in range(60):
                await asyncio.gather(*(cycle(served) for _ in range(10)))
            tracemalloc.start()  # every request takes several times as long now
            kept_bytes = [await kept_after(served, 100)]
            kept_bytes += [await kept_after(served, 150) for _ in range(2)]
            tracemalloc.stop()
            books = served.parts.books
            left = (books._works, books._open_prompts, books._sums)
            return [after - before for before, after in pairwise(kept_bytes)], len(asyncio.all_tasks()) - tasks, left

    grown_bytes, tasks, left = asyncio.run(asyncio.wait_for(scenario(), 120))
    assert left == ({}, {}, {})
    assert tasks == 0
    assert min(grown_bytes) < 75_000  # 150 requests: 500 bytes each would be more; what is kept once, is in one alone


def test_a_settled_receipt_is_waited_for_where_it_is_asked_for(serving):
    async def scenario():
        async with serving() as served:
            asked = served.request("/v1/completions?settle=true&settle_timeout_s=5", COMPLETION | {"max_tokens": 2})
            await served.until(lambda: served.client.ended)
            assert not asked.done()
            served.client.begun[0].is_settled = True
            return await asked

    assert b'"provisional":false' in run(scenario()).body
