"""Properties of a node's books: whatever happens in whatever order, every microjoule is charged once."""

import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app.carbon.footprint import CarbonSettings
from app.carbon.pricing import constant_terms
from app.domain.account import load_account, request_account, warm_account
from app.domain.reading import Grade, ProcessUse
from app.engine.cluster_books import ClusterBooks
from app.engine.evidence import gather
from app.engine.node_books import NodeBooks
from app.ledger.audit import tally_chain
from app.ledger.journal import Batch
from app.ledger.ring import RingReader, RingWriter
from app.ledger.store import Store
from tests.fixtures.books import GPU, Bench, ScriptedSensor, booked, charged, counter, cpu, gpu

ACCOUNTS = [request_account("default", "a", "1"), request_account("acme", "a", "1"), load_account("a", "1")]
WORK = ("request", "load", "job")
PIDS = (7, 8)

operations = st.one_of(
    st.tuples(st.just("tick"), st.integers(1, 400)),
    st.tuples(st.just("begin"), st.sampled_from(PIDS), st.floats(0.5, 4096), st.sampled_from(ACCOUNTS)),
    st.tuples(st.just("end"), st.sampled_from(PIDS)),
    st.tuples(st.just("cpu"), st.sampled_from((0, *PIDS)), st.integers(0, 150)),
    st.tuples(st.just("busy"), st.sampled_from((*PIDS, 4711)), st.none() | st.floats(0, 1)),
    st.tuples(st.sampled_from(["commit", "crash", "leave", "fail", "recover", "deliver"])),
    st.tuples(st.just("kill"), st.sampled_from(PIDS)),
)


class World:
    """A node that goes through drawn operations, and the store it delivers to."""

    def __init__(self, directory: Path, sensors: list[ScriptedSensor], lag_ms: int) -> None:
        self.bench = Bench(directory, sensors, lag_ms)
        self.rings: dict[int, RingWriter] = {}
        self.open: dict[int, list[int]] = {pid: [] for pid in PIDS}
        for pid in PIDS:
            self.rings[pid] = self.bench.worker(pid, warm_account("ab"[pid % 2], "1"), share=0.4)
            self.bench.table.cpu_ns[pid] = 0
        self.store = Store(f"sqlite:///{directory / 'books.sqlite'}")
        self.cluster = ClusterBooks(self.store, lambda: constant_terms(CarbonSettings()), self.bench.clock)
        self.books = self._opened()

    def _opened(self) -> NodeBooks:
        books = self.bench.open()
        books.tick()
        return books

    def tick(self, duration_ms: int) -> None:
        self.bench.advance(duration_ms)
        self.books.tick()

    def begin(self, pid: int, weight: float, account) -> None:
        if pid not in self.bench.dead:
            self.open[pid].append(self.rings[pid].begin(account, weight, self.bench.now_ns))

    def end(self, pid: int) -> None:
        if self.open[pid] and pid not in self.bench.dead:
            self.rings[pid].end(self.open[pid].pop(), self.bench.now_ns)

    def cpu(self, pid: int, cpu_ms: int) -> None:
        if pid not in self.bench.dead:
            self.bench.table.work(pid, cpu_ms)

    def busy(self, pid: int, utilization: float | None) -> None:
        sensor = self.bench.sensors[0]
        sensor.uses = [*(use for use in sensor.uses if use.pid != pid), ProcessUse(pid, utilization)]

    def kill(self, pid: int) -> None:
        self.bench.dead.add(pid)
        self.bench.table.cpu_ns.pop(pid, None)

    def commit(self) -> None:
        self.books.commit()

    def crash(self) -> None:
        self.bench.advance(50)
        self.books = self._opened()

    def leave(self) -> None:
        self.books.commit(final=True)
        self.crash()

    def fail(self) -> None:
        self.bench.sensors[0].failing = "it does not answer"

    def recover(self) -> None:
        self.bench.sensors[0].failing = ""

    def deliver(self) -> None:
        batches = self.books.journal.unacknowledged(2)
        if batches:
            self.cluster.deliver(batches)
            self.cluster.deliver(batches[:1])  # the answer to the first delivery was lost
            self.books.journal.acknowledge(batches[-1])

    def close(self) -> None:
        self.recover()
        self.books.tick()
        self.tick(100)
        self.tick(100)
        self.books.commit(final=True)
        while self.books.journal.unacknowledged(1):
            self.deliver()


def first_reading_uj(batches: list[Batch], uuid: str) -> int:
    return next(device["raw"][0][1] for batch in batches for device in batch.body["devices"] if device["uuid"] == uuid)


def receipts_uj(world: World) -> int:
    return sum(energy_uj for ring in world.rings.values() for energy_uj, _ in booked(ring).values())


@settings(max_examples=60, deadline=None)
@given(st.lists(operations, max_size=40), st.sampled_from([0, 250]), st.booleans())
def test_the_books_balance_whatever_happens(history: list[tuple], lag_ms: int, with_host: bool):
    power: Callable[[float], float] = counter((0, 80_123), (300, 410_777), (2_000, 99_999))
    sensors = [gpu(power), cpu(counter((0, 45_678)))] if with_host else [gpu(power)]
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), sensors, lag_ms)
        for name, *arguments in history:
            getattr(world, name)(*arguments)
        world.close()
        batches = list(world.books.journal.batches())
        # every device: movement of the counter since the first reading on the books, to the microjoule
        for sensor in sensors:
            movement_uj = round(sensor._value(world.bench.now_ns / 1e6)) - first_reading_uj(batches, sensor.device.uuid)
            assert sum(charged(batches, sensor.device.uuid).values()) == movement_uj
        assert all(posting["energy_uj"] >= 0 for batch in batches for posting in batch.body["postings"])
        # replay equals live, and the chain is whole
        assert tally_chain("machine:node", batches).faults == []
        # receipts are what the ledger charged to work
        work_uj = sum(uj for name, uj in charged(batches).items() if name.split("/")[0] in WORK)
        assert receipts_uj(world) == work_uj
        # so is what every ring says that its process was charged, between its slices too
        ours = [RingReader(ring.path).charged for ring in world.rings.values()]
        by_name = Counter()
        for name, uj in charged(batches).items():
            by_name[name.split("/")[0]] += uj
        rings = {"load": sum(c.load_uj for c in ours), "warm": sum(c.warm_uj for c in ours)}
        rings["request"] = sum(c.request_uj for c in ours)
        assert rings == {name: by_name[name] for name in rings}
        # the store has each batch once, and says so
        balances = world.store.totals()
        assert sum(balance.energy_uj for balance in balances) == sum(charged(batches).values())
        audit = world.cluster.audit([gather("machine:node", world.books, threading.Lock())])
        assert (audit.faults, audit.ok) == ((), True)
        world.store.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(operations, max_size=25))
def test_sampled_power_never_loses_a_reading_nor_invents_one(history: list[tuple]):
    with tempfile.TemporaryDirectory() as directory:
        sensor = gpu(lambda ms: 90_000 + (ms % 1_000) * 100, grade=Grade.INTEGRATED)
        world = World(Path(directory), [sensor], 0)
        for name, *arguments in history:
            getattr(world, name)(*arguments)
        world.close()
        batches = list(world.books.journal.batches())
        tally = tally_chain("machine:node", batches)
        assert tally.faults == []
        posted_uj = sum(charged(batches, GPU).values())
        assert tally.devices[sensor.device.key].movement_uj == posted_uj
        assert 0 <= posted_uj <= 190_000 * world.bench.now_ns / 1e6
        world.store.close()
