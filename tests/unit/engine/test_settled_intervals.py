"""When an interval is settled: after all work that could touch it was told, through stalls, late reports and kills."""

from pathlib import Path

import pytest

from app.domain.account import request_account, warm_account
from app.engine.node_books import NodeBooks
from app.ledger.ring import RingReader, RingWriter
from app.units import NS_PER_MS
from tests.fixtures.books import Bench, booked, charged, counter, cpu, gpu

WARM = warm_account("a", "1")
TENANTS = [request_account(tenant, "a", "1") for tenant in ("one", "two")]
W = 1_000


def opened(bench: Bench) -> NodeBooks:
    books = bench.open()
    books.tick()
    return books


def test_steps_recorded_when_they_are_over_share_by_weight(tmp_path: Path):
    """Continuous batching: an engine step of 30 tokens, 10 of one tenant and 20 of the other."""
    bench = Bench(tmp_path, [gpu(counter((0, 300 * W)))], lag_ms=2_000)
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 1_000)
    steps = [ring.record(tenant, 10.0 * (n + 1), 200 * NS_PER_MS, 500 * NS_PER_MS) for n, tenant in enumerate(TENANTS)]
    bench.run(books, 3_000)
    books.commit(final=True)
    assert booked(ring) == {steps[0]: (30_000_000, True), steps[1]: (60_000_000, True)}


def stalled(ring: RingWriter, bench: Bench) -> tuple[RingReader, int]:
    """A thread numbers a slice and is stopped before it writes it; another thread's slice comes after it."""
    first = ring.begin(TENANTS[0], 1.0, bench.now_ns)
    reader = RingReader(ring.path)
    reader.records["number"][first] = 0
    ring.begin(TENANTS[1], 1.0, bench.now_ns)
    return reader, first


def test_an_interval_waits_for_a_slice_that_is_numbered_and_not_written(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))], lag_ms=500)
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 1_000)
    reader, first = stalled(ring, bench)
    bench.run(books, 5_000)
    books.commit()
    assert "request/a" not in charged(books.journal.batches())
    assert sum(charged(books.journal.batches()).values()) <= 1_100 * 100_000
    reader.records["number"][first] = first + 1
    for sequence in (first, first + 1):
        ring.end(sequence, bench.now_ns)
    bench.run(books, 2_000)
    books.commit(final=True)
    assert booked(ring) == {first: (250_000_000, True), first + 1: (250_000_000, True)}


def test_it_does_not_wait_for_ever(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))], lag_ms=500)
    ring = bench.worker(7, WARM)
    books = opened(bench)
    _, first = stalled(ring, bench)
    bench.run(books, 12_000)
    ring.end(first + 1, bench.now_ns)
    bench.run(books, 1_000)
    batch = books.commit(final=True)
    assert batch is not None
    assert batch.body["lost_slices"] == 1
    assert booked(ring)[first + 1] == (1_200_000_000, True)


def test_a_stalled_process_that_dies_holds_up_nothing(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))], lag_ms=500)
    ring = bench.worker(7, WARM)
    books = opened(bench)
    stalled(ring, bench)
    bench.run(books, 1_000)
    bench.dead.add(7)
    bench.run(books, 1_000)
    books.commit()
    assert sum(charged(books.journal.batches()).values()) == 1_500 * 100_000


def test_a_meter_killed_between_journal_and_rings_leaves_no_receipt_short(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W))), cpu(counter((0, 10 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    sequence = ring.begin(TENANTS[0], 1.0, bench.now_ns)
    bench.run(books, 500)
    books.rings.commit = _killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        books.commit()
    assert booked(ring) == {sequence: (0, False)}
    again = opened(bench)
    assert booked(ring) == {sequence: (55_000_000, False)}
    opened(bench)  # killed once more: the same totals are written again
    assert booked(ring) == {sequence: (55_000_000, False)}
    ring.end(sequence, bench.now_ns)
    bench.run(again, 100)
    again.commit(final=True)
    assert charged(again.journal.batches())["request/a"] == booked(ring)[sequence][0] == 55_000_000


def test_what_was_prepared_for_a_batch_that_was_never_written_is_forgotten(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    sequence = ring.begin(TENANTS[0], 1.0, bench.now_ns)
    bench.run(books, 500)
    books.commit()
    bench.run(books, 500)
    books.journal.append = _killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        books.commit()
    again = opened(bench)
    assert booked(ring) == {sequence: (50_000_000, False)}
    ring.end(sequence, bench.now_ns)
    bench.run(again, 100)
    again.commit(final=True)
    assert charged(again.journal.batches())["request/a"] == booked(ring)[sequence][0] == 100_000_000


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
