"""Parts of jobs in a batch: exactly what slices were credited, by worker and epoch, with their time counted once."""

from collections.abc import Iterable
from pathlib import Path

from app.domain.account import FOREIGN, Account, job_account, request_account, warm_account
from app.domain.slice import ProcessKey, Resident
from app.ledger.journal import Batch
from app.ledger.ring import RingHeader, RingWriter
from app.units import NS_PER_MS
from tests.fixtures.books import GPU, Bench, booked, charged, counter, cpu, gpu

JOB = job_account("default", "digits", 1)
MEASURED = job_account("default", "prepare", 1, "measure")
WATT = 1_000  # milliwatts; for a millisecond 1,000 uJ


def worker(bench: Bench, pid: int, rank: int, resident: Account = JOB, devices: Iterable[str] = (GPU,)) -> RingWriter:
    """A training worker of `rank`, born now."""
    here = bench.place
    process = Resident(ProcessKey(pid, pid), resident, frozenset(devices))
    header = RingHeader(here.machine, here.boot, here.node, process, 1.0, 1.0, bench.now_ns, worker=rank)
    return RingWriter.create(bench.rings, header, 64)


def parts(batches: Iterable[Batch]) -> dict[tuple[str, int, int], tuple[int, int]]:
    """(energy_uj, time in ms) by (job, worker, part), of all batches."""
    sums: dict[tuple[str, int, int], tuple[int, int]] = {}
    for batch in batches:
        for row in batch.body["parts"]:
            key = row["account"]["job"], row["worker"], row["part"]
            energy_uj, time_ms = sums.get(key, (0, 0))
            sums[key] = energy_uj + row["energy_uj"], time_ms + row["time_ns"] // NS_PER_MS
    return sums


def test_each_epoch_has_what_its_slices_were_charged(tmp_path: Path):
    # 100 W, 300 W in the second epoch
    bench = Bench(tmp_path, [gpu(counter((0, 100 * WATT), (500, 300 * WATT), (1000, 100 * WATT)))])
    books = bench.open()
    books.tick()
    ring = worker(bench, 7, rank=3)
    for epoch in (1, 2):
        sequence = ring.begin(JOB, 1.0, bench.now_ns, epoch)
        bench.run(books, 500)
        ring.end(sequence, bench.now_ns)
        books.commit()
    bench.run(books, 200)
    books.commit(final=True)
    batches = list(books.journal.batches())
    assert parts(batches) == {("digits", 3, 1): (50_000_000, 500), ("digits", 3, 2): (150_000_000, 500)}
    # The 200 ms without a slice are the job's too, and belong to no part.
    assert charged(batches) == {"job/digits": 220_000_000}


def test_time_is_counted_once_however_many_devices_a_slice_is_open_on(tmp_path: Path):
    sensors = [cpu(counter((0, 10 * WATT))), gpu(counter((0, 100 * WATT))), gpu(counter((0, 100 * WATT)), uuid="GPU-2")]
    for watched in (sensors, sensors[1:]):
        bench = Bench(tmp_path / str(len(watched)), watched)
        books = bench.open()
        books.tick()
        ring = worker(bench, 7, rank=0, devices=(GPU, "GPU-2"))
        sequence = ring.begin(JOB, 1.0, bench.now_ns, 1)
        for _ in range(3):
            bench.table.work(7, 100)
            bench.run(books, 100)
        books.commit(final=True)
        energy_uj, time_ms = parts(books.journal.batches())["digits", 0, 1]
        assert (time_ms, energy_uj) == (300, booked(ring)[sequence][0])
        assert energy_uj >= 300 * 200_000


def test_requests_have_no_parts_and_a_block_in_a_replica_has_one_without_number(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * WATT)))])
    books = bench.open()
    books.tick()
    ring = bench.worker(7, warm_account("a", "1"))
    request = ring.begin(request_account("default", "a", "1"), 1.0, bench.now_ns)
    block = ring.begin(MEASURED, 3.0, bench.now_ns)
    bench.run(books, 100)
    ring.end(request, bench.now_ns)
    ring.end(block, bench.now_ns)
    books.commit(final=True)
    assert parts(books.journal.batches()) == {("prepare", -1, 0): (7_500_000, 100)}


def test_a_killed_meter_books_parts_once(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * WATT)))])
    books = bench.open()
    books.tick()
    books.commit()
    ring = worker(bench, 7, rank=0)
    ring.begin(JOB, 1.0, bench.now_ns, 1)
    bench.run(books, 300)
    books.commit()
    bench.run(books, 200)  # attributed, never committed
    again = bench.open()
    again.tick()
    bench.run(again, 100)
    again.commit(final=True)
    assert parts(again.journal.batches()) == {("digits", 0, 1): (60_000_000, 600)}


def test_a_block_of_a_process_that_came_and_went_between_two_looks_is_booked(tmp_path: Path):
    """50 ms of a task: born, measured, closed and gone within one sampling interval."""
    bench = Bench(tmp_path, [gpu(counter((0, 100 * WATT)))], lag_ms=2_000)
    books = bench.open()
    bench.run(books, 1_000)
    bench.advance(20)
    ring = bench.worker(7, FOREIGN, share=0.0)
    sequence = ring.begin(MEASURED, 1.0, bench.now_ns)
    bench.advance(50)
    ring.end(sequence, bench.now_ns)
    ring.close(bench.now_ns)
    bench.dead.add(7)
    bench.advance(30)
    books.tick()
    bench.run(books, 3_000)
    books.commit(final=True)
    ((energy_uj, time_ms),) = parts(books.journal.batches()).values()
    assert (energy_uj, time_ms) == (5_000_000, 50)
    assert booked(ring) == {sequence: (5_000_000, True)}
    assert charged(books.journal.batches())["job/prepare"] == 5_000_000


def test_the_first_block_of_an_old_process_gets_its_cpu_time_of_the_interval_in_which_it_came(tmp_path: Path):
    """A notebook: hours of CPU time behind it, 200 ms of work between two samples of an idle meter."""
    bench = Bench(tmp_path, [cpu(counter((0, 10 * WATT)))])
    books = bench.open()
    books.tick()
    bench.advance(100)
    bench.table.cpu_ns[7] = 3_600_000 * NS_PER_MS
    here, process = bench.place, Resident(ProcessKey(7, 7), FOREIGN, frozenset())
    header = RingHeader(here.machine, here.boot, here.node, process, 0.0, 0.0, 0, cpu_ns=3_600_000 * NS_PER_MS)
    ring = RingWriter.create(bench.rings, header, 64)
    sequence = ring.begin(MEASURED, 1.0, bench.now_ns)
    bench.table.work(7, 200)
    bench.advance(200)
    ring.end(sequence, bench.now_ns)
    bench.table.work(0, 100)
    bench.advance(200)
    books.tick()
    books.commit(final=True)
    # 10 W for 500 ms, no floor known yet: two thirds of the busy time are its own.
    assert charged(books.journal.batches()) == {"job/prepare": 3_333_333, "foreign": 1_666_667}
    assert booked(ring) == {sequence: (3_333_333, True)}


def test_a_block_that_nobody_watched_is_booked_by_the_meter_that_comes_for_it(tmp_path: Path):
    """The last meter has left cleanly; the process asks for one and is gone before that one starts."""
    bench = Bench(tmp_path, [gpu(counter((0, 100 * WATT)))])
    first = bench.open()
    bench.run(first, 1_000)
    first.commit(final=True)
    bench.advance(500)
    ring = bench.worker(7, FOREIGN, share=0.0)
    sequence = ring.begin(MEASURED, 1.0, bench.now_ns)
    bench.advance(50)
    ring.end(sequence, bench.now_ns)
    bench.dead.add(7)
    bench.advance(450)
    second = bench.open()
    second.tick()
    second.commit(final=True)
    assert booked(ring) == {sequence: (5_000_000, True)}
    assert charged(second.journal.batches()) == {
        "idle/watched": 90_000_000,  # from the first reading at 100 ms
        "idle/unwatched": 95_000_000,
        "job/prepare": 5_000_000,
    }
