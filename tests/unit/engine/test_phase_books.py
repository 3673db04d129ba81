"""Requests of many steps: one receipt, told by phase; estimated at once, settled by the meter, outliving a process."""

from pathlib import Path

import pytest

from app.domain.account import request_account, warm_account
from app.engine.phases import PhaseBook, PhasedSlice, PhaseWork
from app.engine.receipts import ReceiptDesk
from app.engine.slices import BoardCache, SliceBook
from app.ledger.board import BoardWriter, Present, uuid_hash
from app.ledger.ring import RingReader, RingWriter, node_tag
from app.ledger.step_rows import Fact
from app.units import NS_PER_MS
from tests.fixtures.books import GPU, Bench, charged, counter, cpu, gpu

WARM = warm_account("m", "1")
ACME, RIVAL = request_account("acme", "m", "1"), request_account("rival", "m", "1")


class Replica:
    """A process that generates on a GPU of 300 W; the meter reads every 100 ms."""

    def __init__(self, directory: Path, lag_ms: int = 0) -> None:
        self.bench = Bench(directory, [gpu(counter((0, 300_000)))], lag_ms)
        self.ring: RingWriter = self.bench.worker(7, WARM)
        self.board = BoardWriter(directory / "board")
        board = BoardCache(directory / "board", frozenset({GPU}), self.bench.clock)
        self.phases = PhaseBook(SliceBook(self.ring, board, self.bench.clock))
        self.books = self.bench.open()
        self.books.tick()

    def does(self, length_ms: int, *done: tuple[PhasedSlice, float, float, int], known_mw: float = 0.0) -> None:
        """A step of `length_ms`: (work, prefill mW, decode mW, new tokens)."""
        start_ns = self.bench.now_ns
        self.bench.advance(length_ms)
        works = [PhaseWork(work, prefill, decode, 0, tokens) for work, prefill, decode, tokens in done]
        self.phases.record(start_ns, self.bench.now_ns, works, known_mw)

    def show(self, working_mw: float = 0.0) -> None:
        present = Present(uuid_hash(GPU), False, 1, 300_000.0, 80_000.0, working_mw=working_mw)
        self.board.write(self.bench.now_ns, 360.0, [present])

    def desk(self) -> ReceiptDesk:
        tag = node_tag("machine", "boot")
        return ReceiptDesk(tag, lambda ring: RingReader(self.bench.rings / f"{ring}.ring"), lambda _: True, 0)


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path)


def test_a_request_is_charged_what_its_steps_drew_by_phase(replica: Replica):
    """30 J in 100 ms: a reads 60 ms at 4 parts, then both decode 40 ms at 1 and 3 parts: 240, 40 and 120 of 400."""
    a, b = replica.phases.begin(ACME), replica.phases.begin(RIVAL)
    replica.does(60, (a, 4.0, 0.0, 1))
    replica.does(40, (a, 0.0, 1.0, 1), (b, 0.0, 3.0, 1))
    a.end()
    b.end()
    replica.books.tick()
    replica.books.commit(final=True)
    told = a.told()
    assert (told.prefill_uj, told.decode_uj, told.whole.energy_uj) == (18_000_000, 3_000_000, 21_000_000)
    assert (told.tokens, told.uj_per_token, told.whole.grade) == (2, 10_500_000.0, "counter")
    assert not told.whole.provisional
    assert a.is_settled
    assert b.told().decode_uj == 9_000_000
    assert charged(replica.books.journal.batches()) == {"request/m": 30_000_000}


def test_its_receipt_is_found_by_one_id(replica: Replica):
    a = replica.phases.begin(ACME)
    replica.does(50, (a, 4.0, 0.0, 1))
    replica.does(50, (a, 0.0, 4.0, 3))
    replica.books.tick()
    replica.books.commit()
    open_one = replica.desk().receipt(a.receipt_id)
    assert (open_one.provisional, open_one.duration_ns, open_one.uj_per_token) == (True, 0, None)
    a.end()
    replica.bench.run(replica.books, 100)
    replica.books.commit(final=True)
    receipt = replica.desk().receipt(a.receipt_id)
    assert (receipt.prefill_uj, receipt.decode_uj, receipt.energy_uj) == (15_000_000, 15_000_000, 30_000_000)
    assert (receipt.provisional, receipt.tenant) == (False, "acme")
    assert (receipt.duration_ns, receipt.uj_per_token) == (100 * NS_PER_MS, 7_500_000.0)
    assert replica.desk().receipts([a.receipt_id]).receipts == (receipt,)


def test_a_receipt_of_one_slice_has_no_phases(replica: Replica):
    sequence = replica.ring.begin(ACME, 1.0, replica.bench.now_ns)
    receipt = replica.desk().receipt(replica.ring.receipt_id(sequence))
    assert (receipt.prefill_uj, receipt.decode_uj, receipt.uj_per_token) == (None, None, None)


def test_it_is_settled_only_when_both_phases_are(replica: Replica):
    a = replica.phases.begin(ACME)
    replica.does(100, (a, 1.0, 0.0, 1))
    a.end()
    reader = RingReader(replica.ring.path)
    reader.records["state"][0] |= 1
    assert not a.is_settled
    assert replica.desk().receipt(a.receipt_id).provisional
    reader.records["state"][1] |= 1
    assert a.is_settled
    assert not replica.desk().receipt(a.receipt_id).provisional


def test_what_nobody_told_of_is_shared_by_those_who_were_open(replica: Replica):
    """A step longer than the settle lag: two requests, 30 J."""
    a, b = replica.phases.begin(ACME), replica.phases.begin(RIVAL)
    replica.bench.run(replica.books, 100)
    a.end()
    b.end()
    replica.books.commit(final=True)
    assert (a.told().whole.energy_uj, b.told().whole.energy_uj) == (15_000_000, 15_000_000)


def test_a_killed_replica_leaves_what_it_told_and_its_open_requests_end_with_it(tmp_path: Path):
    replica = Replica(tmp_path)
    a, b = replica.phases.begin(ACME), replica.phases.begin(RIVAL)
    replica.does(100, (a, 3.0, 0.0, 1), (b, 0.0, 1.0, 1))
    replica.books.tick()
    replica.bench.dead.add(7)
    replica.bench.run(replica.books, 200)
    replica.books.commit(final=True)
    receipt = replica.desk().receipt(a.receipt_id)
    assert not receipt.provisional
    # 22.5 of the 30 J of their step, and until the death is noticed half of what the device drew
    assert receipt.prefill_uj >= 22_500_000
    both_uj = receipt.energy_uj + replica.desk().receipt(b.receipt_id).energy_uj
    assert both_uj == charged(replica.books.journal.batches())["request/m"]


def test_a_meter_that_was_away_books_by_the_rows_that_are_left(tmp_path: Path):
    replica = Replica(tmp_path)
    replica.bench.run(replica.books, 100)
    replica.books.commit()
    replica.books.journal.close()
    a, b = replica.phases.begin(ACME), replica.phases.begin(RIVAL)
    replica.does(100, (a, 3.0, 0.0, 1), (b, 0.0, 1.0, 1))
    a.end()
    b.end()
    books = replica.bench.open()
    books.tick()
    books.commit(final=True)
    assert (a.told().prefill_uj, b.told().decode_uj) == (22_500_000, 7_500_000)


def test_slices_beside_it_weigh_as_powers(replica: Replica):
    """1,000 mW beside 3,000 mW."""
    a = replica.phases.begin(ACME)
    sequence = replica.ring.begin(RIVAL, 1_000.0, replica.bench.now_ns)
    replica.does(100, (a, 0.0, 3_000.0, 1))
    replica.ring.end(sequence, replica.bench.now_ns)
    a.end()
    replica.books.tick()
    replica.books.commit(final=True)
    assert a.told().whole.energy_uj == 22_500_000
    assert replica.ring.energy(sequence)[0] == 7_500_000


def test_before_any_meter_there_is_an_id_and_no_energy(replica: Replica):
    a = replica.phases.begin(ACME)
    assert a.receipt_id == replica.ring.receipt_id(0)
    assert a.told() is None
    assert a.energy() is None


def test_an_open_request_tells_what_it_used_so_far(replica: Replica):
    """At 200 W while somebody works, 50 ms are 10 J: 3 and 1 parts."""
    replica.show(working_mw=200_000.0)
    a, b = replica.phases.begin(ACME), replica.phases.begin(RIVAL)
    replica.does(50, (a, 3.0, 0.0, 1), (b, 0.0, 1.0, 2))
    told = a.told()
    assert (told.prefill_uj, told.decode_uj, told.whole.provisional) == (7_500_000, 0, True)
    assert told.whole.carbon_ugco2e == pytest.approx(750)
    assert b.told().decode_uj == 2_500_000


def test_known_powers_price_a_step_better_than_what_the_board_shows(replica: Replica):
    """600 W for 50 ms, though the device drew 200 W lately."""
    replica.show(working_mw=200_000.0)
    a = replica.phases.begin(ACME)
    replica.does(50, (a, 3.0, 0.0, 1), known_mw=600_000.0)
    assert a.told().prefill_uj == 30_000_000


def test_an_estimate_is_never_less_than_what_is_booked(replica: Replica):
    a = replica.phases.begin(ACME)
    replica.does(100, (a, 1.0, 0.0, 1))
    replica.books.tick()
    replica.books.commit()
    replica.bench.advance(60)
    replica.show()
    assert a.told().whole.provisional
    assert a.told().prefill_uj == 30_000_000


def test_the_process_hears_what_intervals_took(replica: Replica):
    a = replica.phases.begin(ACME)
    replica.does(100, (a, 1.0, 0.0, 1))
    replica.books.tick()
    assert replica.phases.facts() == [Fact(0, 100 * NS_PER_MS, 30_000_000)]
    assert replica.phases.facts() == []


def test_without_accelerators_it_hears_of_the_cpu(tmp_path: Path):
    bench = Bench(tmp_path, [cpu(counter((0, 50_000)))])
    ring = bench.worker(7, WARM, devices=[])
    phases = PhaseBook(SliceBook(ring, BoardCache(tmp_path / "board", frozenset(), bench.clock), bench.clock))
    bench.table.work(7, 1)
    books = bench.open()
    books.tick()
    a = phases.begin(ACME)
    bench.advance(100)
    bench.table.work(7, 80)
    phases.record(0, bench.now_ns, [PhaseWork(a, 1.0, 0.0, 1, 0)], 0.0)
    books.tick()
    assert phases.facts() == [Fact(0, 100 * NS_PER_MS, 5_000_000)]


def test_with_metering_off_there_is_nothing_to_tell():
    work = PhasedSlice(None, ACME)
    work.add(1.0, 2.0, 3)
    work.end()
    assert (work.receipt_id, work.told(), work.is_settled, work.tokens, work.duration_ns) == ("", None, False, 3, 0)
