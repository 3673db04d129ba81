"""Slices as a replica sees them: receipts at once, settled figures later, nothing without a meter."""

import statistics
import time
from pathlib import Path

import pytest

from app.clock import ManualClock, SystemClock
from app.domain.account import request_account, warm_account
from app.domain.slice import ProcessKey, Resident
from app.engine.slices import BoardCache, OpenSlice, Shown, SliceBook
from app.ledger.board import MAX_DEVICES, BoardReader, BoardWriter, Present, relevant, uuid_hash
from app.ledger.pace import Pace
from app.ledger.ring import Charged, RingHeader, RingReader, RingWriter
from app.units import NS_PER_MS, NS_PER_S

REQUEST = request_account("default", "minilm", "1")
GPU = Present(uuid_hash("GPU-1"), False, 1, 300_000.0, 80_000.0)
OTHER_GPU = Present(uuid_hash("GPU-2"), False, 1, 900_000.0, 80_000.0)
PACE = Pace(marginal_mw=30_000.0, tick_ns=100e6, busy_ns=150e6, covered_ns=100e6)
HOST = Present(uuid_hash("cpu-1"), True, 4, 100_000.0, 20_000.0)
PACED_HOST = Present(uuid_hash("cpu-1"), True, 4, 100_000.0, 20_000.0, PACE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NS_PER_S)


@pytest.fixture
def board(tmp_path: Path) -> BoardWriter:
    return BoardWriter(tmp_path / "board")


@pytest.fixture
def book(tmp_path: Path, clock: ManualClock) -> SliceBook:
    resident = Resident(ProcessKey(7, 99), warm_account("minilm", "1"), frozenset({"GPU-1"}))
    ring = RingWriter.create(tmp_path / "rings", RingHeader("m", "b", "n", resident), 64)
    return SliceBook(ring, BoardCache(tmp_path / "board", frozenset({"GPU-1"}), clock), clock)


def settle(book: SliceBook, sequence: int, energy_uj: int, grades: int = 1) -> None:
    """What the meter writes when it has booked a slice."""
    row = RingReader(book.ring.path).records[sequence : sequence + 1]
    row["energy_uj"], row["grades"], row["state"] = energy_uj, grades, 1


def test_before_any_meter_there_is_a_receipt_id_and_no_energy(book: SliceBook):
    piece = book.begin(REQUEST, 1.0)
    piece.end()
    assert piece.receipt_id == book.ring.receipt_id(0)
    assert piece.energy() is None
    assert book.board.is_stale()


def test_right_after_its_end_a_slice_is_estimated_from_the_power_shown(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    board.write(clock.monotonic_ns(), 360.0, [GPU, OTHER_GPU])
    piece = book.begin(REQUEST, 1.0)
    clock.advance(100 * NS_PER_MS)
    piece.end()
    clock.advance(50 * NS_PER_MS)
    energy = piece.energy()
    assert energy is not None
    # 300 W for 100 ms; another process's GPU is left out. 30 J at 360 g/kWh = 3 mg
    assert (energy.energy_uj, energy.carbon_ugco2e, energy.grade, energy.provisional) == (
        30_000_000,
        3_000,
        "counter",
        True,
    )


def test_an_open_slice_is_estimated_up_to_now(book: SliceBook, board: BoardWriter, clock: ManualClock):
    board.write(clock.monotonic_ns(), 0.0, [GPU])
    piece = book.begin(REQUEST, 1.0)
    clock.advance(10 * NS_PER_MS)
    energy = piece.energy()
    assert energy is not None
    assert energy.energy_uj == 3_000_000


def test_accelerators_are_estimated_by_time_and_the_host_by_cpu_time(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    """50 W of accelerators for 100 ms are 5 J. A CPU second costs 30 J, and 20 J of floor x 100/150: 43.3 J; 60 ms of
    it 2.6 J."""
    board.write(clock.monotonic_ns(), 0.0, [GPU, PACED_HOST])
    RingReader(book.ring.path).show_slice_power(50_000.0)
    piece = book.begin(REQUEST, 1.0)
    clock.advance(100 * NS_PER_MS)
    clock.work(60 * NS_PER_MS)
    piece.end()
    clock.work(500 * NS_PER_MS)
    energy = piece.energy()
    assert energy is not None
    assert (energy.energy_uj, energy.grade) == (7_600_000, "counter+modelled")


def test_what_a_process_does_between_close_slices_counts_with_the_next(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    """1 ms of CPU time is 43,333 uJ: 2 ms after a slice that ended just now, but 1 ms after one long ago."""
    board.write(clock.monotonic_ns(), 0.0, [PACED_HOST])
    told = []
    for pause_ms in (50, 1_000):
        earlier = book.begin(REQUEST, 1.0)
        clock.advance(5 * NS_PER_MS)
        earlier.end()
        clock.work(NS_PER_MS)
        clock.advance(pause_ms * NS_PER_MS)
        board.write(clock.monotonic_ns(), 0.0, [PACED_HOST])
        piece = book.begin(REQUEST, 1.0)
        clock.advance(10 * NS_PER_MS)
        clock.work(NS_PER_MS)
        piece.end()
        told.append(piece.energy().energy_uj)
    assert told == [86_667, 43_333]


def test_a_slice_may_begin_at_an_earlier_mark(book: SliceBook, board: BoardWriter, clock: ManualClock):
    board.write(clock.monotonic_ns(), 0.0, [PACED_HOST])
    mark = book.mark()
    clock.advance(NS_PER_MS)
    clock.work(NS_PER_MS)
    piece = book.begin(REQUEST, 1.0, mark)
    clock.advance(9 * NS_PER_MS)
    clock.work(3 * NS_PER_MS)
    piece.end()
    assert RingReader(book.ring.path).record(0)["start_ns"] == mark
    assert (piece.duration_ns, piece.energy().energy_uj) == (10 * NS_PER_MS, 4 * 43_333 + 1)


def test_slices_shorter_than_a_look_at_the_cpu_clock_share_what_was_used_by_their_durations(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    """5 ms of slices used 2 ms of CPU time, as a look then finds: 400 us for the next, of 1 ms."""
    board.write(clock.monotonic_ns(), 0.0, [PACED_HOST])
    for duration_ms in (3, 2, 1):
        piece = book.begin(REQUEST, 1.0)
        clock.advance(duration_ms * NS_PER_MS)
        clock.work(NS_PER_MS)
        piece.end()
    assert piece.energy().energy_uj == 400 * 43_333 // 1_000


def test_slices_of_one_batch_are_estimated_by_their_weights(book: SliceBook, board: BoardWriter, clock: ManualClock):
    board.write(clock.monotonic_ns(), 0.0, [PACED_HOST])
    begun = book.mark()
    clock.advance(10 * NS_PER_MS)
    clock.work(4 * NS_PER_MS)
    ended = clock.monotonic_ns()
    light, heavy = book.record([(REQUEST, 1.0), (REQUEST, 3.0)], begun, ended)
    assert (light.energy().energy_uj, heavy.energy().energy_uj) == (43_333, 3 * 43_333 + 1)


def test_slices_of_an_open_batch_begin_and_end_together_and_are_estimated_by_their_weights(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    board.write(clock.monotonic_ns(), 0.0, [PACED_HOST])
    begun = book.mark()
    light, heavy = book.begin_together([(REQUEST, 1.0), (REQUEST, 3.0)], begun)
    clock.advance(10 * NS_PER_MS)
    clock.work(4 * NS_PER_MS)
    rows = RingReader(book.ring.path).records[:2]
    assert [int(row["end_ns"]) for row in rows] == [0, 0]
    book.end_together([light, heavy])
    assert {(int(row["start_ns"]), int(row["end_ns"])) for row in rows} == {(begun, clock.monotonic_ns())}
    assert (light.energy().energy_uj, heavy.energy().energy_uj) == (43_333, 3 * 43_333 + 1)


def test_shares_are_by_energy_among_what_was_booked_or_told(book: SliceBook):
    """A load of 1,000 uJ: all of it for the first, a third for the second that used half as much as the first; once
    the books know of 400 uJ, those count."""
    RingReader(book.ring.path).show_charged(Charged(load_uj=1_000, warm_uj=90, request_uj=0))
    assert book.shares(100) == (1_000, 90)
    assert book.shares(50) == (333, 30)
    RingReader(book.ring.path).show_charged(Charged(load_uj=1_000, warm_uj=100, request_uj=400))
    assert book.shares(40) == (100, 10)


def test_work_told_when_it_is_over_is_the_slice_it_would_have_been(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    board.write(clock.monotonic_ns(), 360.0, [GPU])
    RingReader(book.ring.path).show_charged(Charged(load_uj=6_000_000, warm_uj=0, request_uj=0))
    told = []
    for _ in range(2):
        mark = book.mark()
        clock.advance(NS_PER_MS)
        told.append(book.done(REQUEST, 2.0, mark))
        clock.advance(10 * NS_PER_MS)
    begun = book.begin(REQUEST, 2.0)
    clock.advance(NS_PER_MS)
    begun.end()
    rows = RingReader(book.ring.path).records[:3]
    assert [int(row["end_ns"] - row["start_ns"]) for row in rows] == 3 * [NS_PER_MS]
    assert len({(float(row["weight"]), int(row["owner"]), int(row["part"])) for row in rows}) == 1
    assert told[0].energy() == begun.energy()
    # 300 W for 1 ms; 0.3 J at 360 g/kWh = 30 ug; half of the load, since both were told as much
    assert told[1].receipt() | {"receipt_id": ""} == {
        "receipt_id": "",
        "energy_uj": 300_000,
        "carbon_ugco2e": 30,
        "grade": "counter",
        "provisional": True,
        "load_share_uj": 6_000_000,
        "warm_share_uj": 0,
    }
    assert told[0].receipt()["load_share_uj"] == 3_000_000
    assert (told[0].receipt_id, told[1].receipt_id) == (book.ring.receipt_id(0), book.ring.receipt_id(1))


def test_before_any_meter_a_receipt_is_its_id(book: SliceBook):
    assert book.done(REQUEST, 1.0, book.mark()).receipt() == {
        "receipt_id": book.ring.receipt_id(0),
        "provisional": True,
    }
    assert OpenSlice(None).receipt() == {}


def test_the_host_is_estimated_by_its_floor_until_its_pace_is_known(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    board.write(clock.monotonic_ns(), 0.0, [HOST])
    piece = book.begin(REQUEST, 1.0)
    clock.advance(100 * NS_PER_MS)
    piece.end()
    energy = piece.energy()
    assert energy is not None
    assert (energy.energy_uj, energy.grade) == (2_000_000, "modelled")


def test_the_settled_figure_replaces_the_estimate(book: SliceBook, board: BoardWriter, clock: ManualClock):
    board.write(clock.monotonic_ns(), 360.0, [GPU])
    piece = book.begin(REQUEST, 1.0)
    clock.advance(100 * NS_PER_MS)
    piece.end()
    clock.advance(2 * NS_PER_S)
    board.write(clock.monotonic_ns(), 360.0, [GPU])
    settle(book, 0, 20_000_000, grades=1 | 4)
    energy = piece.energy()
    assert energy is not None
    assert (energy.energy_uj, energy.carbon_ugco2e, energy.grade, energy.provisional) == (
        20_000_000,
        2_000,
        "counter+modelled",
        False,
    )


def test_a_settled_figure_keeps_its_carbon_when_the_meter_has_gone(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    board.write(clock.monotonic_ns(), 360.0, [GPU])
    piece = book.begin(REQUEST, 1.0)
    assert piece.energy()
    piece.end()
    settle(book, 0, 10_000_000)
    clock.advance(3600 * NS_PER_S)
    energy = piece.energy()
    assert energy is not None
    assert (energy.energy_uj, energy.carbon_ugco2e) == (10_000_000, 1_000)


def test_ending_twice_changes_nothing(book: SliceBook, clock: ManualClock):
    piece = book.begin(REQUEST, 1.0)
    piece.end()
    clock.advance(NS_PER_S)
    piece.end()
    assert RingReader(book.ring.path).record(0)["end_ns"] == NS_PER_S


def test_a_slice_may_begin_in_the_past(book: SliceBook):
    book.begin(REQUEST, 1.0, start_ns=123).end()
    row = RingReader(book.ring.path).record(0)
    assert (row["start_ns"], row["end_ns"]) == (123, NS_PER_S)


def test_with_metering_off_the_same_calls_do_nothing():
    piece = OpenSlice(None)
    piece.end()
    assert (piece.receipt_id, piece.energy()) == ("", None)


def test_a_closed_book_says_when_it_closed(book: SliceBook):
    book.touch()
    book.close()
    reader = RingReader(book.ring.path)
    assert (reader.closed_ns, reader.last_sign_ns) == (NS_PER_S, NS_PER_S)


# The board


def test_a_board_that_nobody_writes_is_stale_after_five_seconds(
    book: SliceBook, board: BoardWriter, clock: ManualClock
):
    board.write(clock.monotonic_ns(), 0.0, [GPU])
    clock.advance(5 * NS_PER_S)
    assert not book.board.is_stale()
    clock.advance(1)
    assert book.board.is_stale()
    assert book.board.present() is None


def test_a_board_that_was_replaced_is_found(book: SliceBook, board: BoardWriter, clock: ManualClock, tmp_path: Path):
    board.write(clock.monotonic_ns(), 0.0, [GPU])
    assert book.board.present() is not None
    (tmp_path / "board").unlink()
    clock.advance(6 * NS_PER_S)
    assert book.board.is_stale()
    BoardWriter(tmp_path / "board").write(clock.monotonic_ns(), 0.0, [GPU])
    assert not book.board.is_stale()
    clock.advance(50 * NS_PER_MS)
    assert book.board.present() == Shown(0.0, 300_000.0, 0.0, (), "counter")


def test_the_board_is_looked_at_every_50_ms_at_most(book: SliceBook, board: BoardWriter, clock: ManualClock):
    board.write(clock.monotonic_ns(), 1.0, [GPU])
    assert book.board.present() == Shown(1.0, 300_000.0, 0.0, (), "counter")
    board.write(clock.monotonic_ns(), 2.0, [GPU])
    assert book.board.present() == Shown(1.0, 300_000.0, 0.0, (), "counter")
    clock.advance(50 * NS_PER_MS)
    assert book.board.present() == Shown(2.0, 300_000.0, 0.0, (), "counter")


def test_a_board_in_the_middle_of_writing_tells_nothing(tmp_path: Path):
    writer = BoardWriter(tmp_path / "board")
    reader = BoardReader(tmp_path / "board")
    assert (reader.updated_ns(), reader.read()) == (0, None)
    writer.write(5, 1.0, [GPU])
    assert (reader.updated_ns(), reader.read()) == (5, (1.0, [GPU]))
    writer._map[8] = 3  # the version, odd while a meter writes
    assert reader.read() is None
    writer.write(6, 2.0, [HOST])
    assert reader.read() == (2.0, [HOST])
    reader.close()


def test_a_board_without_its_magic_is_no_board(tmp_path: Path):
    (tmp_path / "board").write_bytes(b"\xff" * 65_536)
    reader = BoardReader(tmp_path / "board")
    assert (reader.updated_ns(), reader.read()) == (0, None)


def test_a_file_too_short_is_not_opened_yet(book: SliceBook, tmp_path: Path):
    (tmp_path / "board").write_bytes(b"JKBOARD1")
    assert book.board.is_stale()


def test_a_board_holds_as_many_devices_as_fit(tmp_path: Path):
    writer = BoardWriter(tmp_path / "board")
    writer.write(1, 0.0, [GPU] * (MAX_DEVICES + 5))
    shown = BoardReader(tmp_path / "board").read()
    assert shown is not None
    assert len(shown[1]) == MAX_DEVICES


def test_a_process_sees_the_host_and_its_own_accelerators():
    hashes = frozenset({uuid_hash("GPU-1")})
    assert [relevant(present, hashes) for present in (GPU, OTHER_GPU, HOST)] == [True, False, True]


# Cost


def test_a_slice_and_its_energy_cost_microseconds(tmp_path: Path):
    clock = SystemClock()
    resident = Resident(ProcessKey(7, 99), warm_account("minilm", "1"), frozenset({"GPU-1"}))
    ring = RingWriter.create(tmp_path / "rings", RingHeader("m", "b", "n", resident), 4096)
    BoardWriter(tmp_path / "board").write(clock.monotonic_ns(), 0.0, [GPU, HOST])
    book = SliceBook(ring, BoardCache(tmp_path / "board", frozenset({"GPU-1"}), clock), clock)
    costs_ns = []
    for _ in range(2_000):
        began = time.perf_counter_ns()
        piece = book.begin(REQUEST, 1.0)
        piece.end()
        piece.energy()
        costs_ns.append(time.perf_counter_ns() - began)
    assert statistics.median(costs_ns) < 40_000  # about 8 us on an idle core
