"""A pool's memory under any sequence of requests: never over its bound, nobody served by what has left, none lost."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from app.serving.residents import Residents

SIZES = {"a": 10, "b": 25, "c": 40, "d": 60, "e": 100}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(SIZES)), st.integers(0, 3), st.integers(0, 3)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, max_bytes=st.sampled_from([100, 110, 150]))
def test_any_sequence_of_requests_is_answered_within_the_bound(steps: list, max_bytes: int) -> None:
    held: set[str] = set()
    answered: list[str] = []

    async def load(name: str) -> str:
        assert name not in held, "loaded twice"
        await asyncio.sleep(0)
        held.add(name)
        return name

    def unload(name: str, thing: str) -> None:
        assert users[name] == 0, "taken from under its user"
        held.remove(name)

    users = dict.fromkeys(SIZES, 0)
    residents = Residents(load=load, unload=unload, size_of=SIZES.__getitem__, max_bytes=max_bytes)

    async def ask(name: str, wait: int, stay: int) -> None:
        for _ in range(wait):
            await asyncio.sleep(0)
        async with residents.use(name) as thing:
            users[name] += 1
            assert thing == name
            assert name in held
            assert residents.held_bytes <= max_bytes
            for _ in range(stay):
                await asyncio.sleep(0)
            assert name in held
            users[name] -= 1
        answered.append(name)

    async def run() -> None:
        await asyncio.wait_for(asyncio.gather(*(ask(*step) for step in steps)), 20)
        assert residents.held_bytes == sum(SIZES[name] for name in held) <= max_bytes

    asyncio.run(run())
    assert sorted(answered) == sorted(name for name, _, _ in steps)
