"""What is in memory: loaded once, bounded by bytes, gone when idle, never under its user's feet."""

import asyncio

import pytest

from app.clock import ManualClock
from app.errors import Unavailable
from app.serving.residents import Residents
from app.units import NS_PER_S

SIZES = {"a": 40, "b": 40, "c": 40, "big": 101}


class World:
    """Things are lower-case letters; loading takes until `gate` is open."""

    def __init__(self, max_bytes=100):
        self.log, self.gate, self.clock = [], asyncio.Event(), ManualClock()
        self.gate.set()
        self.residents = Residents(
            load=self.load,
            unload=lambda name, thing: self.log.append(f"-{name}"),
            size_of=SIZES.__getitem__,
            max_bytes=max_bytes,
            clock=self.clock,
        )

    async def load(self, name):
        await self.gate.wait()
        if name == "broken":
            raise ValueError(name)
        self.log.append(f"+{name}")
        return name

    async def ask(self, *names):
        for name in names:
            async with self.residents.use(name) as thing:
                assert thing == name
            self.clock.advance(NS_PER_S)


def run(test):
    asyncio.run(asyncio.wait_for(test(), 10))


def test_the_one_not_asked_for_longest_leaves_first():
    async def test():
        world = World()
        await world.ask("a", "b", "a", "c", "a")
        assert world.log == ["+a", "+b", "+c", "-b"]
        assert (world.residents.held_bytes, world.residents.loads, world.residents.evictions) == (80, 3, 1)

    run(test)


def test_room_is_made_before_the_load_once_its_size_is_known():
    async def test():
        world = World()
        await world.ask("a", "b", "c", "b", "a")
        assert world.log == ["+a", "+b", "+c", "-a", "-c", "+a"]

    run(test)


def test_many_who_ask_at_once_cause_one_load():
    async def test():
        world = World()
        world.gate.clear()
        asked = [asyncio.create_task(world.ask("a")) for _ in range(50)]
        await asyncio.sleep(0)
        asked[0].cancel()
        world.gate.set()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert world.log == ["+a"]
        assert [type(each) for each in done if each] == [asyncio.CancelledError]

    run(test)


def test_who_is_in_use_finishes_first_and_who_asks_meanwhile_gets_it_anew():
    async def test():
        world = World()
        async with world.residents.use("a"):
            await world.ask("b")
            async with world.residents.use("b"):
                coming = asyncio.create_task(world.ask("c"))
                await asyncio.sleep(0.01)
                # c is loaded; a, unused longest, must leave for it, and is still in use.
                assert (world.log, coming.done()) == (["+a", "+b", "+c"], False)
                again = asyncio.create_task(world.ask("a"))
                await asyncio.sleep(0.01)
                assert not again.done()
        await asyncio.gather(coming, again)
        assert world.log[:4] == ["+a", "+b", "+c", "-a"]
        assert world.log.count("+a") == 2
        assert world.residents.held_bytes <= 100

    run(test)


def test_what_nobody_asks_for_leaves():
    async def test():
        world = World()
        await world.ask("a")
        world.clock.advance(9 * NS_PER_S)
        await world.ask("b")
        async with world.residents.use("b"):
            world.clock.advance(5 * NS_PER_S)
            await world.residents.leave_idle(10)
            assert world.log == ["+a", "+b", "-a"]
            world.clock.advance(50 * NS_PER_S)
            await world.residents.leave_idle(10)
        assert world.residents.is_held("b")

    run(test)


def test_what_never_fits_is_refused_and_takes_nobodys_place():
    async def test():
        world = World()
        await world.ask("a")
        with pytest.raises(Unavailable, match="holds 101 bytes, the pool may hold 100"):
            await world.ask("big")
        assert (world.log, world.residents.held_bytes) == (["+a", "+big", "-big"], 40)

    run(test)


def test_a_load_that_fails_fails_for_who_asked_and_is_tried_again():
    async def test():
        world = World()
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                await world.ask("broken")
        await world.ask("a")
        assert world.log == ["+a"]

    run(test)
