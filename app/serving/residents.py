"""What is in memory: things that are loaded when they are asked for and leave when the room is needed.

Knows nothing of models. Bounded by bytes, not by count; the one not asked for longest leaves first, and only after its
users have finished, so nothing is lost; who asks meanwhile waits and has it loaded again. However many ask at once for
what is not there, it is loaded once, and things are loaded one after the other. For one event loop.

    residents = Residents(load=load, unload=unload, size_of=lambda model: model.memory_bytes, max_bytes=10**9)
    async with residents.use("a") as model: ...
    await residents.leave_idle(300)                 # every few seconds
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.clock import Clock, SystemClock
from app.errors import Unavailable
from app.units import NS_PER_S

Thing = TypeVar("Thing")


@dataclass(slots=True)
class _Place(Generic[Thing]):
    thing: Thing | None = None
    size_bytes: int = 0
    """As it said when it was loaded last; 0: never."""
    users: set[object] = field(default_factory=set)
    waiting: set[object] = field(default_factory=set)
    """For it to be loaded: they become users the moment it is, or it could be evicted before they come to use it."""
    asked_ns: int = 0
    leaving: bool = False
    loading: "asyncio.Task[None] | None" = None
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    def admit(self) -> None:
        """Those who waited use it from now on."""
        self.users |= self.waiting
        self.waiting.clear()


class Residents(Generic[Thing]):
    """`load` and `unload` are never called twice at once. `loads` and `evictions` count."""

    def __init__(
        self,
        *,
        load: Callable[[str], Awaitable[Thing]],
        unload: Callable[[str, Thing], None],
        size_of: Callable[[Thing], int],
        max_bytes: int,
        clock: Clock | None = None,
    ) -> None:
        self._load, self._unload, self._size_of = load, unload, size_of
        self._max_bytes, self._clock = max_bytes, clock or SystemClock()
        self._places: dict[str, _Place[Thing]] = {}
        self._turn = asyncio.Lock()
        self.loads = self.evictions = 0

    @property
    def held_bytes(self) -> int:
        """Of all that is in memory."""
        return sum(place.size_bytes for place in self._places.values() if place.thing is not None)

    def is_held(self, name: str) -> bool:
        """Whether `name` is in memory and will stay for its next user."""
        place = self._places.get(name)
        return place is not None and place.thing is not None and not place.leaving

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Thing]:
        """The thing, loaded if it was not, kept until the block ends. Raises what `load` raises, Unavailable."""
        place, ticket = self._places.setdefault(name, _Place()), object()
        try:
            if self.is_held(name):
                place.users.add(ticket)
            else:
                await self._wait(name, place, ticket)
            thing = place.thing
            assert thing is not None, "what has users stays"  # noqa: S101
            yield thing
        finally:
            place.waiting.discard(ticket)
            if ticket in place.users:
                place.users.remove(ticket)
                place.asked_ns = self._clock.monotonic_ns()
            if not place.users:
                place.unused.set()

    async def _wait(self, name: str, place: _Place[Thing], ticket: object) -> None:
        """Until `ticket` is among the users."""
        place.waiting.add(ticket)
        while ticket not in place.users:
            if place.loading is None:
                place.loading = asyncio.create_task(self._bring(name, place))
            # Whoever gives up must not take the load away from the others.
            await asyncio.shield(place.loading)

    async def leave_idle(self, idle_s: float) -> None:
        """Unload what nobody asked for in `idle_s`."""
        bound_ns = self._clock.monotonic_ns() - round(idle_s * NS_PER_S)
        async with self._turn:
            for name, place in list(self._places.items()):
                if place.thing is not None and not place.users and place.asked_ns <= bound_ns:
                    await self._evict(name, place)

    def close(self) -> None:
        """Unload everything at once."""
        for name, place in self._places.items():
            if place.thing is not None:
                self._unload(name, place.thing)
                place.thing = None

    async def _bring(self, name: str, place: _Place[Thing]) -> None:
        try:
            async with self._turn:
                if place.thing is not None:  # it was to leave, and did not
                    place.admit()
                    return
                await self._make_room(place.size_bytes)
                thing = await self._load(name)
                self.loads += 1
                place.size_bytes = self._size_of(thing)
                if place.size_bytes > self._max_bytes:
                    self._unload(name, thing)
                    raise Unavailable(
                        f"{name} holds {place.size_bytes} bytes, the pool may hold {self._max_bytes}; "
                        "raise max_memory_mb"
                    )
                await self._make_room(place.size_bytes)
                place.thing, place.asked_ns = thing, self._clock.monotonic_ns()
                place.admit()
        finally:
            place.loading = None

    async def _make_room(self, needed_bytes: int) -> None:
        while self.held_bytes and self.held_bytes + needed_bytes > self._max_bytes:
            held = [(name, place) for name, place in self._places.items() if place.thing is not None]
            await self._evict(*min(held, key=lambda each: (bool(each[1].users), each[1].asked_ns)))

    async def _evict(self, name: str, place: _Place[Thing]) -> None:
        place.leaving = True
        try:
            while place.users:
                place.unused.clear()
                await place.unused.wait()
            if place.thing is not None:
                self._unload(name, place.thing)
                place.thing = None
                self.evictions += 1
        finally:
            place.leaving = False
