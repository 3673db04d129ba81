"""Who is killed, in which order: a plan that a seed decides, and the hand that carries it out.

The plan holds every kind in proportion; the seed decides order, node and pause. Which process dies is known only at
the moment of the kill: the one of that kind which runs then.
"""

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from app.errors import JoulekeeperError
from scripts.chaos.ground import NODES, TwoNodes

WEIGHTS = {"meter": 24, "accountant": 14, "replica": 26, "worker": 20, "raylet": 8, "postgres": 8}
_TITLES = {
    "meter": ("ray::Meter",),
    "accountant": ("ray::Accountant",),
    "replica": ("ray::ServeReplica:pulse",),
    "worker": ("ray::RayTrainWorker",),
}
_AWAIT_VICTIM_S = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """One kill of the plan: after `pause_s`, one of `kind`, on `node` if there is one; `away_s` until it is started
    again, if that is ours to do."""

    kind: str
    node: str
    pause_s: float
    away_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill that was done."""

    kind: str
    node: str
    title: str
    at_ns: int
    """Monotonic."""


class Database(Protocol):
    """A PostgreSQL that can be killed."""

    def kill(self) -> None:
        """SIGKILL."""

    def start(self) -> None:
        """Start it again; returns when it answers."""


def plan(kills: int, seed: int, mean_pause_s: float, kinds: Mapping[str, int]) -> list[Order]:
    """`kills` orders; every kind of `kinds` (name to weight) at least once if there is room."""
    chance = random.Random(seed)
    total = sum(kinds.values())
    counts = {kind: max(1, kills * weight // total) for kind, weight in kinds.items()}
    most = max(counts, key=lambda kind: counts[kind])
    counts[most] = max(1, counts[most] + kills - sum(counts.values()))
    order = [kind for kind, count in counts.items() for _ in range(count)]
    chance.shuffle(order)
    del order[kills:]
    return [
        Order(kind, chance.choice(NODES), chance.uniform(0.1, 1.9) * mean_pause_s, chance.uniform(1.0, 6.0))
        for kind in order
    ]


class Killer:
    """Carries out a plan. Kills overlap: nobody waits until the last victim is back, only for there to be a victim."""

    def __init__(
        self,
        ground: TwoNodes,
        database: Database | None,
        warnings: Callable[[], Sequence[str]],
        tell: Callable[[str], None],
    ) -> None:
        self._ground, self._database, self._warnings, self._tell = ground, database, warnings, tell
        self.done: list[Kill] = []
        self.skipped: list[Order] = []
        """Orders for which there was no victim in time."""
        self.outages: Counter[str] = Counter()
        """Times without a database: `warned`, `silent`, or `unanswered` where the accountant was away too."""
        self._restarts: dict[str, threading.Thread] = {}

    def carry_out(self, orders: list[Order]) -> None:
        for number, order in enumerate(orders, 1):
            time.sleep(order.pause_s)
            kill = self._kill(order)
            if kill is None:
                self.skipped.append(order)
                self._tell(f"kill {number}/{len(orders)}: no {order.kind} in {_AWAIT_VICTIM_S:.0f} s, skipped")
            else:
                self.done.append(kill)
                self._tell(f"kill {number}/{len(orders)}: {kind_on(kill)}")
        for thread in self._restarts.values():
            thread.join(240)

    def _kill(self, order: Order) -> Kill | None:
        deadline = time.monotonic() + _AWAIT_VICTIM_S
        while time.monotonic() < deadline:
            kill = {"raylet": self._raylet, "postgres": self._postgres}.get(order.kind, self._actor)(order)
            if kill is not None:
                return kill
            time.sleep(0.25)
        return None

    def _actor(self, order: Order) -> Kill | None:
        found = sorted(self._victims(order.kind), key=lambda victim: (victim[0] != order.node, victim[1].pid))
        for node, process, title in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
                return Kill(order.kind, node, title, time.monotonic_ns())
        return None

    def _victims(self, kind: str) -> Iterator[tuple[str, psutil.Process, str]]:
        return (worker for worker in self._ground.workers() if worker[2].startswith(_TITLES[kind]))

    def _raylet(self, order: Order) -> Kill | None:
        raylet = self._ground.second.raylet
        if raylet is None or self._is_restarting(order.kind):
            return None
        raylet.send_signal(signal.SIGKILL)
        kill = Kill(order.kind, "second", "raylet", time.monotonic_ns())

        def again() -> None:
            time.sleep(order.away_s)
            self._ground.second.bring_back()

        self._later(order.kind, again)
        return kill

    def _postgres(self, order: Order) -> Kill | None:
        database = self._database
        if database is None or self._is_restarting(order.kind):
            return None
        database.kill()
        kill = Kill(order.kind, "head", "postgres", time.monotonic_ns())

        def again() -> None:
            time.sleep(order.away_s)
            self.outages[self._outage()] += 1
            database.start()

        self._later(order.kind, again)
        return kill

    def _outage(self) -> str:
        """How the status tells of a database that does not answer."""
        try:
            return "warned" if any("store" in warning for warning in self._warnings()) else "silent"
        except JoulekeeperError:
            return "unanswered"

    def _is_restarting(self, kind: str) -> bool:
        return kind in self._restarts and self._restarts[kind].is_alive()

    def _later(self, kind: str, action: Callable[[], None]) -> None:
        self._restarts[kind] = threading.Thread(target=action, daemon=True)
        self._restarts[kind].start()


def kind_on(kill: Kill) -> str:
    """`meter on second`."""
    return f"{kill.kind} on {kill.node}" if kill.kind != "postgres" else kill.kind
