"""Several streams of answers as one: order within each, nothing left running behind any of them."""

import asyncio

import pytest

from app.serving.generation.merged import merged


async def items(*values):
    for value in values:
        yield value
        await asyncio.sleep(0)


class Answers:
    """For item n: n, n times; counts who is open."""

    def __init__(self):
        self.open = self.most = 0

    async def of(self, item):
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            for number in range(item):
                await asyncio.sleep(0)
                yield item, number
        finally:
            self.open -= 1


def test_answers_of_an_item_keep_their_order_and_no_more_than_allowed_are_open():
    async def run():
        answers = Answers()
        got = [answer async for answer in merged(items(3, 1, 4, 2), answers.of, at_once=2)]
        return got, answers

    got, answers = asyncio.run(run())
    for item in (3, 1, 4, 2):
        assert [answer for answer in got if answer[0] == item] == [(item, number) for number in range(item)]
    assert (answers.open, answers.most) == (0, 2)


def test_a_caller_that_stops_leaves_nothing_running():
    async def run():
        answers = Answers()
        stream = merged(items(9, 9, 9), answers.of, at_once=3)
        await anext(stream)
        await stream.aclose()
        return answers.open, len(asyncio.all_tasks())

    assert asyncio.run(run()) == (0, 1)


def test_what_an_answer_or_an_item_raises_comes_out_and_ends_the_rest():
    async def broken(item):
        yield item
        raise ValueError(item)

    async def breaking():
        yield 1
        raise KeyError("items")

    async def run(stream):
        async for _ in stream:
            pass

    with pytest.raises(ValueError):
        asyncio.run(run(merged(items(1), broken, at_once=2)))
    with pytest.raises(KeyError):
        asyncio.run(run(merged(breaking(), Answers().of, at_once=2)))


def test_no_items_are_no_answers():
    async def run():
        return [answer async for answer in merged(items(), Answers().of, at_once=2)]

    assert asyncio.run(run()) == []
