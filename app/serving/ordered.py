"""Work on a stream of items: several at once, answers in the order of the items.

Knows nothing of what the items are. So a client that sends without waiting for answers has its requests batched, and
gets the answers in the order it sent.

    async for answer in ordered(items, work, at_once=16): ...

What `work` raises is raised in its place and ends everything. Whatever still runs then, or when the caller stops, is
cancelled.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def ordered(
    items: AsyncIterator[Item], work: Callable[[Item], Awaitable[Answer]], at_once: int
) -> AsyncIterator[Answer]:
    """The answers of `work` to `items`, of which no more than `at_once` are taken before theirs are out."""
    places = asyncio.Semaphore(at_once)
    begun: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    running: set[asyncio.Task[Answer]] = set()

    async def take() -> None:
        try:
            await places.acquire()
            async for item in items:
                task = asyncio.ensure_future(work(item))
                running.add(task)
                begun.put_nowait(task)
                await places.acquire()
        finally:
            begun.put_nowait(None)

    taking = asyncio.ensure_future(take())
    try:
        while (task := await begun.get()) is not None:
            answer = await task
            running.discard(task)
            places.release()
            yield answer
        await taking
    finally:
        for left in (taking, *running):
            left.cancel()
        await asyncio.gather(taking, *running, return_exceptions=True)
