"""As what a node books its energy: grades, disputed counters, instances of a shared accelerator, several devices."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.domain.account import request_account, warm_account
from app.domain.reading import Condition, Device, DeviceKind, Grade
from app.engine.node_books import NodeBooks
from app.ledger.audit import tally_chain
from app.ledger.ring import GRADE_BITS
from app.units import NS_PER_MS
from tests.fixtures.books import GPU, Bench, ScriptedSensor, booked, charged, counter, cpu, gpu

WARM, REQUEST = warm_account("a", "1"), request_account("default", "a", "1")
OTHER_WARM, OTHER = warm_account("b", "1"), request_account("default", "b", "1")
W = 1_000


def opened(bench: Bench) -> NodeBooks:
    books = bench.open()
    books.tick()
    return books


def graded(books: NodeBooks) -> dict[tuple[str, str], int]:
    """Energy by account name and grade of everything posted."""
    totals: dict[tuple[str, str], int] = {}
    for batch in books.journal.batches():
        for posting in batch.body["postings"]:
            key = posting["account"]["name"], posting["grade"]
            totals[key] = totals.get(key, 0) + posting["energy_uj"]
    return totals


def test_postings_say_their_devices_grade(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W))), cpu(counter((0, 10 * W)))])
    books = opened(bench)
    bench.run(books, 100)
    books.commit(final=True)
    assert graded(books) == {("idle", "counter"): 10_000_000, ("idle", "modelled"): 1_000_000}


def test_a_counter_in_dispute_is_booked_as_such_from_then_on(tmp_path: Path):
    bench = Bench(tmp_path, [sensor := gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 1_000)
    sensor.found = Condition(20 * NS_PER_MS, 1.4, disputed=True, notes=("the counter runs ahead of power",))
    bench.run(books, 1_000)  # looked at once a second: known at 2,000 ms
    sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
    bench.run(books, 500)
    ring.end(sequence, bench.now_ns)
    books.commit(final=True)
    assert graded(books) == {("warm", "counter"): 200_000_000, ("request", "disputed"): 50_000_000}
    assert ring.energy(sequence) == (50_000_000, GRADE_BITS[Grade.DISPUTED], True)
    assert tally_chain("machine:node", books.journal.batches()).faults == []


def test_a_batch_says_in_what_condition_devices_are(tmp_path: Path):
    bench = Bench(tmp_path, [sensor := gpu(counter((0, 100 * W)))])
    sensor.found = Condition(20 * NS_PER_MS, 1.01)
    books = opened(bench)
    bench.run(books, 1_000)
    batch = books.commit()
    assert batch is not None
    assert batch.body["conditions"][GPU] == {
        "update_period_ns": 20 * NS_PER_MS,
        "counter_to_power": 1.01,
        "disputed": False,
        "notes": [],
    }


class Partitioned(ScriptedSensor):
    """An accelerator with two instances, of three quarters and one quarter."""

    @property
    def devices(self) -> Sequence[Device]:
        parts = (("MIG-1", 0.75), ("MIG-2", 0.25))
        return self.device, *(
            Device("machine", "boot", uuid, DeviceKind.GPU, "H100 MIG", Grade.APPORTIONED, None, "", GPU, share)
            for uuid, share in parts
        )


def test_instances_are_charged_on_their_parent_by_what_they_can_use(tmp_path: Path):
    whole = gpu(counter((0, 100 * W), (1_000, 300 * W), (1_500, 100 * W)))
    bench = Bench(tmp_path, [Partitioned(whole.device, whole._value)])
    large, small = bench.worker(7, WARM, ["MIG-1"]), bench.worker(8, OTHER_WARM, ["MIG-2"])
    books = opened(bench)
    assert list(books.tracks) == [GPU]
    bench.run(books, 1_000)
    first, second = large.begin(REQUEST, 1.0, bench.now_ns), small.begin(OTHER, 1.0, bench.now_ns)
    bench.run(books, 500)
    large.end(first, bench.now_ns)
    small.end(second, bench.now_ns)
    bench.run(books, 500)
    books.commit(final=True)
    # 1,500 ms of 100 W of residents, 500 ms of 300 W of requests, each three to one
    assert charged(books.journal.batches()) == {
        "warm/a": 112_500_000,
        "warm/b": 37_500_000,
        "request/a": 112_500_000,
        "request/b": 37_500_000,
    }
    assert {grade for _, grade in graded(books)} == {"apportioned"}
    assert large.energy(first) == (112_500_000, GRADE_BITS[Grade.APPORTIONED], True)
    assert tally_chain("machine:node", books.journal.batches()).faults == []


def test_who_holds_all_instances_uses_the_whole(tmp_path: Path):
    whole = gpu(counter((0, 100 * W)))
    bench = Bench(tmp_path, [Partitioned(whole.device, whole._value)])
    bench.worker(7, WARM, ["MIG-1", "MIG-2"])
    books = opened(bench)
    bench.run(books, 100)
    books.commit(final=True)
    assert graded(books) == {("warm", "apportioned"): 10_000_000}


def test_a_slice_on_several_devices_gets_of_each_what_it_used_there_and_nothing_twice(tmp_path: Path):
    """Two workers with two accelerators each, as in data or tensor parallel training, and a host that all share."""
    uuids = [f"GPU-{n}" for n in range(4)]
    sensors = [gpu(counter((0, (100 + 50 * n) * W)), uuid) for n, uuid in enumerate(uuids)]
    bench = Bench(tmp_path, [*sensors, cpu(counter((0, 40 * W)))])
    rings = [bench.worker(7, WARM, uuids[:2], 0.5), bench.worker(8, OTHER_WARM, uuids[2:], 0.5)]
    bench.table.ray = frozenset({7, 8})
    bench.table.cpu_ns = {7: 0, 8: 0}
    books = opened(bench)
    sequences = [ring.begin(REQUEST, 1.0, bench.now_ns) for ring in rings]
    for _ in range(10):
        for pid in (7, 8):
            bench.table.work(pid, 50)
        bench.run(books, 100)
    for ring, sequence in zip(rings, sequences, strict=True):
        ring.end(sequence, bench.now_ns)
    books.commit(final=True)
    energies = [booked(ring)[sequence][0] for ring, sequence in zip(rings, sequences, strict=True)]
    assert energies == [(100 + 150 + 20) * 1_000_000, (200 + 250 + 20) * 1_000_000]
    assert sum(charged(books.journal.batches()).values()) == sum(energies)


def doubts(books: NodeBooks) -> dict[str, int]:
    """Uncertainty by account name of everything posted."""
    totals: dict[str, int] = {}
    for batch in books.journal.batches():
        for posting in batch.body["postings"]:
            name = posting["account"]["name"]
            totals[name] = totals.get(name, 0) + posting["uncertainty_uj"]
    return totals


def test_a_request_that_begins_and_ends_with_readings_is_in_no_doubt(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 500)
    sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
    bench.run(books, 500)
    ring.end(sequence, bench.now_ns)
    bench.run(books, 500)
    books.commit(final=True)
    assert doubts(books) == {"warm": 0, "request": 0}


def test_one_that_does_not_is_in_doubt_by_what_the_floor_may_have_been(tmp_path: Path):
    """50 W but for a request at 300 W from 1,030 to 1,180 ms: 30 and 20 ms of floor, which may be 37.5 to 70 W, lie
    in its two intervals; where the sensor does not know the counter's period, 100 ms of unsure instants come on top."""
    for period_ns in (20 * NS_PER_MS, None):
        directory = tmp_path / str(period_ns)
        bench = Bench(directory, [sensor := gpu(counter((0, 50 * W), (1_030, 300 * W), (1_180, 50 * W)))])
        sensor.found = Condition(period_ns)
        ring = bench.worker(7, WARM)
        books = opened(bench)
        bench.run(books, 1_000)
        sequence = ring.record(REQUEST, 1.0, 1_030 * NS_PER_MS, 1_180 * NS_PER_MS)
        bench.run(books, 1_000)
        books.commit(final=True)
        found = doubts(books)
        assert booked(ring)[sequence][0] == pytest.approx(45_000_000, rel=1e-4)
        assert found["request"] == found["warm"]
        if period_ns:
            assert found["request"] == pytest.approx(50 * (70_000 - 50_000), rel=0.01)
        else:
            assert found["request"] > 20_000_000
