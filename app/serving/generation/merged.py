"""Several streams as one: each item of a stream begins answers of its own, which come as they are made.

Knows nothing of what the items are. Answers of one item keep their order, those of several interleave.

    async for answer in merged(items, answers_to, at_once=16): ...

Who does not take answers holds up those who make them. What `answers_to` raises is raised in its place and ends
everything. Whatever still runs then, or when the caller stops, is cancelled.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def merged(
    items: AsyncIterator[Item], answers_to: Callable[[Item], AsyncGenerator[Answer, None]], at_once: int
) -> AsyncGenerator[Answer, None]:
    """The answers to `items`, of which no more than `at_once` are worked on."""
    work = _Work(answers_to, at_once)
    taking = asyncio.ensure_future(work.take(items))
    try:
        while True:
            answer, error = await work.made.get()
            if error is not None:
                raise error
            if answer is None:
                return
            yield answer
    finally:
        left = [taking, *work.running]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Work(Generic[Item, Answer]):
    """What is worked on, and what was made and not taken: an answer, a fault, or neither at the end."""

    def __init__(self, answers_to: Callable[[Item], AsyncGenerator[Answer, None]], at_once: int) -> None:
        self._answers_to = answers_to
        self._places = asyncio.Semaphore(at_once)
        self.made: asyncio.Queue[tuple[Answer | None, Exception | None]] = asyncio.Queue(1)
        self.running: set[asyncio.Task[None]] = set()

    async def take(self, items: AsyncIterator[Item]) -> None:
        """Begin with each item as places allow, until there are no more and all are done."""
        try:
            await self._places.acquire()
            async for item in items:
                task = asyncio.ensure_future(self._answer(item))
                self.running.add(task)
                task.add_done_callback(self.running.discard)
                await self._places.acquire()
            await asyncio.gather(*self.running)
            await self.made.put((None, None))
        except Exception as error:
            await self.made.put((None, error))

    async def _answer(self, item: Item) -> None:
        try:
            async with aclosing(self._answers_to(item)) as answers:
                async for answer in answers:
                    await self.made.put((answer, None))
        except Exception as error:
            await self.made.put((None, error))
        finally:
            self._places.release()
