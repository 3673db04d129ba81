"""The books of one node, driven by hand: every figure is power times time, worked in the test."""

import dataclasses
import errno
from pathlib import Path

import pytest

from app.clock import ManualClock
from app.domain.account import job_account, load_account, request_account, warm_account
from app.domain.reading import Grade, ProcessUse
from app.engine.node_books import NodeBooks
from app.ledger.audit import tally_chain
from app.ledger.ring import RingReader, RingWriter
from app.units import NS_PER_MS
from tests.fixtures.books import GPU, Bench, booked, charged, counter, cpu, gpu

WARM, REQUEST, LOAD = warm_account("a", "1"), request_account("default", "a", "1"), load_account("a", "1")
W = 1_000  # milliwatts in a watt: one watt for a millisecond is 1,000 uJ


def opened(bench: Bench) -> NodeBooks:
    """A meter that has taken its baseline."""
    books = bench.open()
    books.tick()
    return books


def done(books: NodeBooks) -> dict[str, int]:
    books.commit(final=True)
    return charged(books.journal.batches())


def serve(ring: RingWriter, bench: Bench, books: NodeBooks, duration_ms: int, weight: float = 1.0) -> int:
    """One request over `duration_ms` of ticks."""
    sequence = ring.begin(REQUEST, weight, bench.now_ns)
    bench.run(books, duration_ms)
    ring.end(sequence, bench.now_ns)
    return sequence


# One accelerator


def test_a_node_without_work_is_idle(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 60 * W)))])
    books = opened(bench)
    bench.run(books, 1_000)
    assert done(books) == {"idle/watched": 60_000 * 1_000}


def test_load_warm_request_and_idle_each_get_their_time(tmp_path: Path):
    power = counter((0, 50 * W), (500, 200 * W), (900, 80 * W), (1500, 300 * W), (1800, 80 * W), (2100, 50 * W))
    bench = Bench(tmp_path, [gpu(power)])
    books = opened(bench)
    bench.run(books, 500)
    ring = bench.worker(7, WARM)
    load = ring.begin(LOAD, 1.0, bench.now_ns)
    bench.run(books, 400)
    ring.end(load, bench.now_ns)
    bench.run(books, 600)
    request = serve(ring, bench, books, 300)
    bench.run(books, 300)
    ring.close(bench.now_ns)
    bench.run(books, 200)
    assert done(books) == {
        "idle/watched": (500 + 200) * 50_000,
        "load/a": 400 * 200_000,
        "warm/a": (600 + 300) * 80_000,
        "request/a": 300 * 300_000,
    }
    assert booked(ring) == {load: (400 * 200_000, True), request: (300 * 300_000, True)}


def test_a_request_between_two_samples_gets_its_energy_once_the_floor_is_known(tmp_path: Path):
    # 80 W but for 1030..1180 ms, a request at 300 W
    bench = Bench(tmp_path, [gpu(counter((0, 80 * W), (1030, 300 * W), (1180, 80 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 1_000)
    sequence = ring.begin(REQUEST, 1.0, 1030 * NS_PER_MS)
    bench.run(books, 100)
    ring.end(sequence, 1180 * NS_PER_MS)
    bench.run(books, 300)
    postings = done(books)
    assert postings["request/a"] == pytest.approx(150 * 300_000, rel=1e-5)
    assert postings == {"warm/a": 145_000_000 - postings["request/a"], "request/a": booked(ring)[sequence][0]}


def test_concurrent_requests_share_by_weight(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 300 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    small = ring.begin(REQUEST, 1.0, bench.now_ns)
    large = ring.begin(REQUEST, 2.0, bench.now_ns)
    bench.run(books, 100)
    ring.end(small, bench.now_ns)
    ring.end(large, bench.now_ns)
    assert done(books) == {"request/a": 30_000_000}
    assert booked(ring) == {small: (10_000_000, True), large: (20_000_000, True)}


def test_two_processes_on_one_accelerator_share_what_they_use_and_what_they_wait(tmp_path: Path):
    bench = Bench(tmp_path, [sensor := gpu(counter((0, 100 * W), (1000, 400 * W), (1300, 100 * W)))])
    sensor.uses = [ProcessUse(7, 0.75), ProcessUse(8, 0.25)]
    one = bench.worker(7, WARM, share=0.5)
    two = bench.worker(8, warm_account("b", "1"), share=0.25)
    books = opened(bench)
    bench.run(books, 1_000)
    first = one.begin(REQUEST, 5.0, bench.now_ns)
    second = two.begin(request_account("default", "b", "1"), 500.0, bench.now_ns)
    bench.run(books, 300)
    one.end(first, bench.now_ns)
    two.end(second, bench.now_ns)
    assert done(books) == {
        "warm/a": 50_000_000,
        "warm/b": 25_000_000,
        "idle/watched": 25_000_000,
        "request/a": 90_000_000,  # 120 J/1000, three quarters of it
        "request/b": 30_000_000,
    }


def test_utilisation_is_that_of_the_intervals_second_not_of_the_present(tmp_path: Path):
    """Booked two seconds later, when the process that did the work is long idle and the other one is busy."""
    bench = Bench(tmp_path, [sensor := gpu(counter((0, 100 * W)))], lag_ms=2_000)
    one, two = bench.worker(7, WARM), bench.worker(8, warm_account("b", "1"))
    books = opened(bench)
    sensor.uses = [ProcessUse(7, 0.9), ProcessUse(8, 0.0)]
    waiting = two.begin(request_account("default", "b", "1"), 1.0, bench.now_ns)
    sequence = serve(one, bench, books, 1_000)
    sensor.uses = [ProcessUse(7, 0.0), ProcessUse(8, 0.9)]
    bench.run(books, 3_000)
    two.end(waiting, bench.now_ns)
    books.commit(final=True)
    assert booked(one) == {sequence: (100_000_000, True)}
    assert booked(two) == {waiting: (300_000_000, True)}


def test_a_foreign_process_is_charged_and_teaches_no_floor(tmp_path: Path):
    bench = Bench(tmp_path, [sensor := gpu(counter((0, 50 * W), (1000, 250 * W)))])
    books = opened(bench)
    bench.run(books, 1_000)
    books.commit()
    sensor.uses = [ProcessUse(4711, 0.8)]
    bench.run(books, 1_000)
    assert done(books) == {"idle/watched": 2_000 * 50_000, "foreign": 1_000 * 200_000}
    assert books.tracks[GPU].floor.floor_mw == 50 * W


def test_a_process_that_does_not_hold_the_device_pays_nothing_for_it(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W))), gpu(counter((0, 200 * W)), uuid="GPU-2")])
    ring = bench.worker(7, WARM, devices=[GPU])
    books = opened(bench)
    serve(ring, bench, books, 100)
    books.commit(final=True)
    assert charged(books.journal.batches(), GPU) == {"request/a": 10_000_000}
    assert charged(books.journal.batches(), "GPU-2") == {"idle/watched": 20_000_000}


def test_work_reported_late_still_finds_its_energy_within_the_lag(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))], lag_ms=2_000)
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 1_500)
    sequence = ring.begin(REQUEST, 1.0, 200 * NS_PER_MS)
    ring.end(sequence, 700 * NS_PER_MS)
    bench.run(books, 3_000)
    done(books)
    assert booked(ring) == {sequence: (500 * 100_000, True)}


def test_nothing_is_booked_before_the_lag(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))], lag_ms=2_000)
    books = opened(bench)
    bench.run(books, 1_900)
    assert books.commit() is None
    bench.run(books, 300)
    batch = books.commit()
    assert batch is not None
    assert charged([batch]) == {"idle/watched": 200 * 100_000}


def test_sampled_power_is_integrated(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(lambda ms: 100 * W + 100 * ms, grade=Grade.INTEGRATED)])  # 100 W rising 100 W/s
    books = opened(bench)
    bench.run(books, 1_000)
    assert done(books) == {"idle/watched": 150_000_000}


# Death, absence, trouble


def test_a_meter_that_is_killed_loses_nothing_and_books_nothing_twice(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 500)
    first = serve(ring, bench, books, 500)
    books.commit()
    second = serve(ring, bench, books, 300)  # attributed, never committed
    del books
    bench.advance(200)
    again = bench.open()
    again.tick()
    bench.run(again, 500)
    assert done(again) == {"request/a": 800 * 100_000, "warm/a": 1_200 * 100_000}
    assert booked(ring) == {first: (50_000_000, True), second: (30_000_000, True)}


def test_what_a_dead_meters_time_does_not_explain_is_a_gap(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W), (500, 250 * W), (1500, 100 * W)))])
    books = opened(bench)
    bench.run(books, 500)
    books.commit()
    bench.advance(1_000)
    again = opened(bench)
    assert done(again) == {"idle/watched": 1_500 * 100_000, "gap/dead-meter": 1_000 * 150_000}


def test_a_meter_that_left_cleanly_leaves_unwatched_time(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    books = opened(bench)
    bench.run(books, 500)
    books.commit(final=True)
    bench.advance(3_600_000)
    again = opened(bench)
    bench.run(again, 500)
    assert done(again) == {"idle/watched": 1_000 * 100_000, "idle/unwatched": 3_600_000 * 100_000}


def test_sampled_power_invents_nothing_for_unwatched_time(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(lambda ms: 100 * W, grade=Grade.INTEGRATED)])
    books = opened(bench)
    bench.run(books, 500)
    books.commit(final=True)
    bench.advance(3_600_000)
    again = opened(bench)
    bench.run(again, 500)
    assert done(again) == {"idle/watched": 1_000 * 100_000}


def test_another_boot_is_another_baseline(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    books = opened(bench)
    bench.run(books, 500)
    books.commit()
    sensor = gpu(counter((0, 100 * W)))
    sensor.device = dataclasses.replace(sensor.device, boot="next")
    bench.advance(10_000)
    rebooted = Bench(tmp_path, [sensor], boot="next")
    again = opened(rebooted)
    rebooted.run(again, 300)
    again.commit(final=True)
    batches = list(again.journal.batches())
    assert [sum(posting["energy_uj"] for posting in batch.body["postings"]) for batch in batches] == [
        50_000_000,
        30_000_000,
    ]
    assert tally_chain("machine:node", batches).faults == []


def test_a_sensor_that_fails_for_a_while_is_caught_up(tmp_path: Path):
    bench = Bench(tmp_path, [sensor := gpu(counter((0, 100 * W)))])
    books = opened(bench)
    bench.run(books, 300)
    sensor.failing = "the GPU does not answer"
    bench.run(books, 400)
    assert books.failures == {GPU: "the GPU does not answer"}
    books.commit()
    sensor.failing = ""
    bench.run(books, 300)
    assert books.failures == {}
    assert done(books) == {"idle/watched": 100_000_000}
    assert tally_chain("machine:node", books.journal.batches()).faults == []


def test_a_device_that_one_meter_could_not_open_is_taken_up_by_the_next(tmp_path: Path):
    device = gpu(counter((0, 100 * W)))
    bench = Bench(tmp_path, [device, cpu(counter((0, 10 * W)))])
    books = opened(bench)
    bench.run(books, 500)
    books.commit(final=True)
    bench.sensors = [bench.sensors[1]]
    without = opened(bench)
    bench.run(without, 500)
    without.commit(final=True)
    bench.sensors = [device, bench.sensors[0]]
    again = opened(bench)
    bench.run(again, 500)
    again.commit(final=True)
    assert sum(charged(again.journal.batches(), GPU).values()) == 1_500 * 100_000
    assert tally_chain("machine:node", again.journal.batches()).faults == []


def test_a_journal_that_cannot_be_written_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    sequence = serve(ring, bench, books, 500)
    with monkeypatch.context() as patched:
        patched.setattr(books.journal, "append", _full)
        with pytest.raises(OSError, match="no space"):
            books.commit()
    assert booked(ring) == {sequence: (0, False)}
    bench.run(books, 500)
    assert done(books) == {"request/a": 50_000_000, "warm/a": 50_000_000}
    assert booked(ring) == {sequence: (50_000_000, True)}


def _full(body: object) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def test_a_killed_process_has_its_open_slice_ended_and_paid(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 300)
    sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
    bench.run(books, 200)
    bench.dead.add(7)
    bench.run(books, 500)
    # found dead at 600 ms: up to then the slice is charged
    assert done(books) == {"warm/a": 30_000_000, "request/a": 30_000_000, "idle/watched": 40_000_000}
    assert booked(ring) == {sequence: (30_000_000, True)}
    assert not books.rings.rings


def test_a_process_that_died_unseen_does_not_pay_for_the_night(tmp_path: Path):
    """Killed together with its meter, in mid-request; the next meter comes ten hours later."""
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 1_000)
    sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
    bench.run(books, 400)
    books.commit()
    bench.advance(100)
    ring.touch(bench.now_ns)  # its last sign of life, at 1,500 ms
    bench.dead.add(7)
    bench.advance(36_000_000)
    again = opened(bench)
    postings = done(again)
    assert booked(ring) == {sequence: (500 * 100_000, True)}
    assert postings["request/a"] == 500 * 100_000
    assert postings["warm/a"] <= 1_100 * 100_000
    assert sum(postings.values()) == 36_001_500 * 100_000


def test_a_damaged_weight_cannot_stop_the_meter(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    sequences = [ring.begin(REQUEST, weight, bench.now_ns) for weight in (float("nan"), -1.0, 0.0, 1.0)]
    sequences.append(ring.begin(REQUEST, float("inf"), bench.now_ns))
    bench.run(books, 100)
    assert done(books) == {"request/a": 10_000_000}
    assert sum(energy_uj for energy_uj, _ in booked(ring).values()) == 10_000_000


def test_a_damaged_ring_is_passed_over(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    bench.rings.mkdir(parents=True)
    (bench.rings / "0123456789ab.ring").write_bytes(b"JKRING01")
    (bench.rings / "empty.ring").write_bytes(b"")
    ring = bench.worker(7, WARM)
    books = opened(bench)
    serve(ring, bench, books, 100)
    assert done(books) == {"request/a": 10_000_000}


# The host


def host(tmp_path: Path) -> tuple[Bench, RingWriter, RingWriter]:
    """100 W of CPUs; processes 7 and 8 are ours and Ray's, 9 is Ray's alone."""
    bench = Bench(tmp_path, [cpu(counter((0, 100 * W)))])
    bench.table.ray = frozenset({7, 8, 9})
    bench.table.cpu_ns = {7: 10**9, 8: 10**9, 9: 10**9}
    return bench, bench.worker(7, WARM, share=0.0), bench.worker(8, warm_account("b", "1"), share=0.0)


def test_host_energy_goes_by_cpu_time(tmp_path: Path):
    bench, one, two = host(tmp_path)
    books = opened(bench)
    first = one.begin(REQUEST, 1.0, bench.now_ns)
    second = two.begin(job_account("default", "j", 1), 1.0, bench.now_ns)
    bench.advance(100)
    for pid, cpu_ms in ((7, 50), (8, 20), (9, 10), (0, 20)):
        bench.table.work(pid, cpu_ms)
    books.tick()
    one.end(first, bench.now_ns)
    two.end(second, bench.now_ns)
    assert done(books) == {"request/a": 5_000_000, "job/j": 2_000_000, "system": 1_000_000, "foreign": 2_000_000}
    assert (booked(one), booked(two)) == ({first: (5_000_000, True)}, {second: (2_000_000, True)})


def test_rounding_of_the_kernels_busy_time_is_carried_not_called_foreign(tmp_path: Path):
    bench, one, _ = host(tmp_path)
    books = opened(bench)
    sequence = one.begin(REQUEST, 1.0, bench.now_ns)
    for tick in range(10):
        bench.advance(100)
        bench.table.cpu_ns[7] += 4 * NS_PER_MS  # 4 ms of work a tick, told in jiffies of 10 ms, late
        bench.table.busy_ns = (4 * (tick + 1) // 10) * 10 * NS_PER_MS
        books.tick()
    one.end(sequence, bench.now_ns)
    assert done(books) == {"request/a": 100_000_000}


def test_the_uncovered_floor_of_a_host_is_the_residents_by_reservation(tmp_path: Path):
    bench = Bench(tmp_path, [cpu(counter((0, 100 * W)))])
    bench.worker(7, WARM, share=0.25)
    books = opened(bench)
    bench.run(books, 1_000)
    assert done(books) == {"warm/a": 25_000_000, "idle/watched": 75_000_000}


def test_a_process_that_dies_in_a_dead_meters_time_is_paid_by_time(tmp_path: Path):
    bench, one, _ = host(tmp_path)
    books = opened(bench)
    bench.run(books, 500)
    sequence = one.begin(REQUEST, 1.0, bench.now_ns)
    books.commit()
    bench.advance(100)
    one.end(sequence, bench.now_ns)
    one.close(bench.now_ns)
    bench.dead.add(7)
    del bench.table.cpu_ns[7]
    bench.advance(100)
    again = opened(bench)
    again.commit(final=True)
    # 10 J/1000 of floor for 100 uncovered ms; of the other 10 the slice explains all that 100 W can make in 100 ms
    assert booked(one) == {sequence: (10_000_000, True)}
    assert sum(charged(again.journal.batches()).values()) == 700 * 100_000


# Accelerator and host together


def test_receipts_add_up_to_the_ledgers_work_on_all_devices(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 77_777))), cpu(counter((0, 33_333)))])
    rings = [bench.worker(7, WARM, share=0.3), bench.worker(8, warm_account("b", "1"), share=0.3)]
    books = opened(bench)
    for step in range(50):
        ring = rings[step % 2]
        sequence = ring.begin((REQUEST, LOAD)[step % 3 == 0], 1.0 + step, bench.now_ns + step * 100_000)
        bench.advance(37)
        bench.table.work(7, step % 7)
        bench.table.work(8, step % 3)
        bench.table.work(0, step % 2)
        books.tick()
        ring.end(sequence, bench.now_ns + 3_333_333)
        if step % 10 == 9:
            books.commit()
            _receipts_equal_work(books, rings)
    bench.run(books, 200)
    books.commit(final=True)
    _receipts_equal_work(books, rings)
    assert all(settled for ring in rings for _, settled in booked(ring).values())


def _receipts_equal_work(books: NodeBooks, rings: list[RingWriter]) -> None:
    postings = charged(books.journal.batches())
    work_uj = sum(energy_uj for name, energy_uj in postings.items() if name.split("/")[0] in ("request", "load", "job"))
    assert work_uj == sum(energy_uj for ring in rings for energy_uj, _ in booked(ring).values()) > 0


def test_a_receipt_of_both_devices_names_both_grades(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W))), cpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    sequence = serve(ring, bench, books, 100)
    done(books)
    assert ring.energy(sequence) == (20_000_000, 1 | 4, True)


def test_a_slice_is_settled_only_when_every_readable_device_has_been_booked(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W))), slow := cpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    bench.run(books, 100)
    books.commit()
    slow.clock = ManualClock(bench.now_ns)  # this sensor says the same as before for a while
    sequence = serve(ring, bench, books, 100)
    books.commit()
    assert booked(ring) == {sequence: (10_000_000, False)}
    slow.clock = bench.clock
    bench.run(books, 100)
    books.commit()
    assert booked(ring) == {sequence: (20_000_000, True)}


# What a batch says


def test_a_batch_names_residents_failures_and_vitals(tmp_path: Path):
    bench = Bench(tmp_path, [sensor := gpu(counter((0, 100 * W)))])
    bench.worker(7, WARM)
    bench.worker(8, job_account("default", "digits", 1))
    books = opened(bench)
    bench.run(books, 1_000)
    sensor.failing = "the GPU is lost"
    books.tick()
    batch = books.commit()
    assert batch is not None
    assert batch.body["residents"] == ["a@1", "digits"]
    assert batch.body["failures"] == {GPU: "the GPU is lost"}
    assert batch.body["vitals"][GPU]["power_mw"] == 100 * W
    assert batch.body["vitals"][GPU]["temperature_c"] == 40.0
    assert batch.body["wall_ns"] - batch.body["wall_minus_monotonic_ns"] == bench.now_ns


def test_nothing_new_makes_no_batch(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    books = opened(bench)
    assert books.commit() is None


def test_a_node_without_a_sensor_keeps_no_more_slices_than_a_ring_holds(tmp_path: Path):
    bench = Bench(tmp_path, [])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    for _ in range(200):
        ring.end(ring.begin(REQUEST, 1.0, bench.now_ns), bench.now_ns + 1)
        bench.run(books, 100)
        assert books.commit() is None
    assert next(iter(books.rings.rings.values())).open_count <= 64


def test_the_postings_can_be_recomputed_from_the_journals_raw_readings(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 123_457), (700, 55_555))), cpu(counter((0, 9_999)))])
    ring = bench.worker(7, WARM, share=0.3)
    books = opened(bench)
    for _ in range(4):
        serve(ring, bench, books, 200)
        books.commit()
    books.commit(final=True)
    tally = tally_chain("machine:node", books.journal.batches())
    assert tally.faults == []
    for sensor in bench.sensors:
        movement_uj = round(sensor._value(800)) - round(sensor._value(0))
        device = tally.devices[sensor.device.key]
        assert (device.movement_uj, device.posted_uj) == (movement_uj, movement_uj)


def test_a_resumed_meter_does_not_call_what_its_predecessor_read_lost(tmp_path: Path):
    bench = Bench(tmp_path, [gpu(counter((0, 100 * W)))])
    ring = bench.worker(7, WARM)
    books = opened(bench)
    for _ in range(100):
        ring.end(ring.begin(REQUEST, 1.0, bench.now_ns), bench.now_ns + NS_PER_MS)
        bench.run(books, 100)
    books.commit()
    again = opened(bench)
    bench.run(again, 100)
    batch = again.commit()
    assert batch is not None
    assert batch.body["lost_slices"] == 0
    assert RingReader(ring.path).capacity == 64
