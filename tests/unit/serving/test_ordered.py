"""Streams: several at once, answers in order, nothing left behind."""

import asyncio

import pytest

from app.serving.ordered import ordered


async def numbers(count):
    for number in range(count):
        yield number


def test_answers_come_in_the_order_of_the_items_though_later_ones_are_ready_first():
    async def run():
        async def work(number):
            await asyncio.sleep(0.01 if number % 2 == 0 else 0)
            return number * 10

        return [answer async for answer in ordered(numbers(6), work, 3)]

    assert asyncio.run(run()) == [0, 10, 20, 30, 40, 50]


def test_no_more_are_taken_than_may_be_under_way():
    async def run():
        running, most = 0, 0

        async def work(number):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

        assert len([answer async for answer in ordered(numbers(50), work, 4)]) == 50
        return most

    assert 1 < asyncio.run(run()) <= 4


def test_a_caller_that_stops_cancels_what_runs():
    async def run():
        cancelled = []

        async def work(number):
            if number:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.append(number)
                    raise
            return number

        answers = ordered(numbers(3), work, 3)
        assert await anext(answers) == 0
        await asyncio.sleep(0)
        await answers.aclose()
        return sorted(cancelled)

    assert asyncio.run(run()) == [1, 2]


@pytest.mark.parametrize("where", ["work", "items"])
def test_what_fails_is_raised_in_its_place(where):
    async def run():
        async def broken():
            yield 0
            raise ZeroDivisionError

        async def work(number):
            if number == 1:
                raise ZeroDivisionError
            return number

        answers = ordered(broken() if where == "items" else numbers(3), work, 2)
        assert await anext(answers) == 0
        with pytest.raises(ZeroDivisionError):
            await anext(answers)

    asyncio.run(run())
