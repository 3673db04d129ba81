"""The host's energy where nobody could read a CPU clock: in a dead meter's time, and of processes that died."""

from pathlib import Path

from app.domain.account import request_account, warm_account
from app.engine.node_books import NodeBooks
from app.ledger.ring import RingWriter
from app.units import NS_PER_MS
from tests.fixtures.books import Bench, booked, charged, counter, cpu

WARM, REQUEST = warm_account("a", "1"), request_account("default", "a", "1")
W = 1_000


def host(tmp_path: Path) -> tuple[Bench, RingWriter]:
    """100 W of CPUs; process 7 is ours and Ray's, 9 is Ray's alone."""
    bench = Bench(tmp_path, [cpu(counter((0, 100 * W)))])
    bench.table.ray = frozenset({7, 9})
    bench.table.cpu_ns = {7: 10**9, 9: 10**9}
    return bench, bench.worker(7, WARM, share=0.0)


def opened(bench: Bench) -> NodeBooks:
    books = bench.open()
    books.tick()
    return books


def test_the_kernels_clocks_explain_a_dead_meters_time(tmp_path: Path):
    bench, ring = host(tmp_path)
    books = opened(bench)
    books.commit()
    bench.run(books, 100)  # the first batch, so that there is something to resume from
    books.commit()
    sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
    for pid, cpu_ms in ((7, 500), (9, 200), (0, 300)):
        bench.table.work(pid, cpu_ms)
    bench.advance(1_000)
    again = opened(bench)
    ring.end(sequence, bench.now_ns)
    again.commit(final=True)
    postings = charged(again.journal.batches())
    assert postings == {
        "idle/watched": 10_000_000,
        "request/a": 50_000_000,
        "system": 20_000_000,
        "foreign": 30_000_000,
    }
    assert booked(ring)[sequence] == (50_000_000, True)


def test_a_process_that_dies_is_charged_for_its_last_interval(tmp_path: Path):
    """It used 80 of each 100 ms; after 50 ms of the last interval, and 45 ms of busy time, its clock is gone."""
    bench, ring = host(tmp_path)
    books = opened(bench)
    sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
    for _ in range(5):
        bench.table.work(7, 80)
        bench.run(books, 100)
    bench.advance(50)
    bench.table.busy_ns += 45 * NS_PER_MS
    ring.close(bench.now_ns)
    bench.dead.add(7)
    del bench.table.cpu_ns[7]
    bench.advance(50)
    books.tick()
    books.commit(final=True)
    postings = charged(books.journal.batches())
    # 40 ms of the 45 are its own: at the pace of the interval before for the 50 ms that it lived
    assert postings["request/a"] == booked(ring)[sequence][0] == 5 * 10_000_000 + 10_000_000 * 40 // 45 + 1
    assert postings["foreign"] == 10_000_000 * 5 // 45


def test_it_is_never_charged_more_than_the_busy_time_that_nobody_explains(tmp_path: Path):
    bench, ring = host(tmp_path)
    books = opened(bench)
    ring.begin(REQUEST, 1.0, bench.now_ns)
    bench.table.work(7, 100)
    bench.run(books, 100)
    ring.close(bench.now_ns + 50 * NS_PER_MS)
    bench.dead.add(7)
    del bench.table.cpu_ns[7]
    bench.table.work(9, 90)
    bench.table.busy_ns += 10 * NS_PER_MS
    bench.run(books, 100)
    books.commit(final=True)
    assert charged(books.journal.batches()) == {"request/a": 10_000_000 + 1_000_000, "system": 9_000_000}


def test_who_died_in_a_dead_meters_time_had_one_cpu_while_it_worked(tmp_path: Path):
    bench, ring = host(tmp_path)
    books = opened(bench)
    bench.run(books, 100)
    books.commit()
    sequence = ring.record(REQUEST, 1.0, bench.now_ns, bench.now_ns + 200 * NS_PER_MS)
    bench.table.busy_ns += 1_000 * NS_PER_MS
    bench.dead.add(7)
    del bench.table.cpu_ns[7]
    bench.advance(1_000)
    again = opened(bench)
    again.commit(final=True)
    postings = charged(again.journal.batches())
    # the floor of 100 W takes the 800 ms without a slice; of the other 20 J/1000 it has 200 of 1,000 ms of busy time
    assert booked(ring)[sequence] == (4_000_000, True)
    assert postings == {"idle/watched": 90_000_000, "request/a": 4_000_000, "foreign": 16_000_000}
