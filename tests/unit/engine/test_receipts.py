"""Receipts: what one request used, found by its id on the node that served it."""

from pathlib import Path

import pytest

from app.domain.account import job_account, load_account, request_account, warm_account
from app.engine.receipts import ReceiptDesk
from app.engine.views import MeasuredReceipt
from app.errors import InvalidInput, NotFound
from app.ledger.ring import RingReader, node_tag
from app.units import NS_PER_S
from tests.fixtures.books import Bench, counter, cpu, gpu

WARM, REQUEST = warm_account("minilm", "1"), request_account("acme", "minilm", "1")
TAG = node_tag("machine", "boot")
WALL_MINUS_MONOTONIC_NS = 1_700_000_000 * NS_PER_S


def desk(bench: Bench, tag: str = TAG, watched: bool = True) -> ReceiptDesk:
    opened = lambda ring_id: RingReader(bench.rings / f"{ring_id}.ring")  # noqa: E731
    return ReceiptDesk(tag, opened, lambda _: watched, WALL_MINUS_MONOTONIC_NS)


def read(bench: Bench, receipt_id: str, tag: str = TAG) -> MeasuredReceipt:
    return desk(bench, tag).receipt(receipt_id)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, [gpu(counter((0, 100_000))), cpu(counter((0, 50_000)))])


def test_a_receipt_is_provisional_until_it_is_booked(bench: Bench):
    ring = bench.worker(7, WARM)
    books = bench.open()
    books.tick()
    sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
    receipt_id = ring.receipt_id(sequence)
    bench.run(books, 200)
    before = read(bench, receipt_id)
    assert (before.provisional, before.energy_uj, before.grade, before.duration_ns) == (True, 0, "", 0)
    ring.end(sequence, bench.now_ns)
    books.commit(final=True)
    after = read(bench, receipt_id)
    assert after == MeasuredReceipt(
        receipt_id=receipt_id,
        account="request",
        tenant="acme",
        model="minilm",
        version="1",
        job="",
        node="node",
        energy_uj=200 * 150_000,
        grade="counter+modelled",
        provisional=False,
        load_share_uj=0,
        warm_share_uj=0,
        shares_final=False,
        duration_ns=NS_PER_S // 5,
        wall_time_s=1_700_000_000.0,
    )


def test_the_receipt_of_a_job_names_it(bench: Bench):
    job = job_account("acme", "digits", 2)
    ring = bench.worker(7, job)
    sequence = ring.begin(job, 1.0, bench.now_ns)
    receipt = read(bench, ring.receipt_id(sequence))
    assert (receipt.account, receipt.job, receipt.model) == ("job", "digits", "")


def test_a_receipt_of_another_node_or_boot_is_not_here(bench: Bench):
    ring = bench.worker(7, WARM)
    with pytest.raises(NotFound, match=f"is of node {TAG}, this is 00000000"):
        read(bench, ring.receipt_id(ring.begin(REQUEST, 1.0, 1)), tag="00000000")


def test_a_process_that_was_never_here_has_left_no_receipts(bench: Bench):
    with pytest.raises(NotFound, match="has left no receipts on this node"):
        read(bench, f"{TAG}-0123456789ab-0")


def test_a_receipt_that_was_overwritten_or_never_given_is_not_found(bench: Bench):
    ring = bench.worker(7, WARM)
    for n in range(65):
        ring.begin(REQUEST, 1.0, n)
    with pytest.raises(NotFound, match="the last 64 are"):
        read(bench, ring.receipt_id(0))
    with pytest.raises(NotFound, match="the last 64 are"):
        read(bench, ring.receipt_id(99))


def test_what_is_no_receipt_id_is_refused(bench: Bench):
    with pytest.raises(InvalidInput, match="receipt id must look like"):
        read(bench, "../../etc/passwd")


def test_many_receipts_are_told_at_once_and_why_others_are_not(bench: Bench):
    first, second = bench.worker(7, WARM), bench.worker(8, WARM)
    ids = [ring.receipt_id(ring.begin(REQUEST, 1.0, 1)) for ring in (first, second, first)]
    gone, foreign = first.receipt_id(99), f"{TAG}-0123456789ab-0"
    answer = desk(bench).receipts([*ids, gone, foreign, "nonsense"])
    assert sorted(receipt.receipt_id for receipt in answer.receipts) == sorted(ids)
    assert sorted(answer.missing) == sorted([gone, foreign, "nonsense"])
    assert "is no longer kept" in answer.missing[gone]
    assert "has left no receipts" in answer.missing[foreign]
    assert "must look like" in answer.missing["nonsense"]


def test_a_request_carries_its_part_of_load_and_warm_time_beside_its_energy(bench: Bench):
    """200 ms of load, 100 ms warm, requests of 100 and 300 ms, 100 ms warm, all at 150 W: 1:3 of 30 J and of 30 J."""
    ring = bench.worker(7, WARM, share=1.0)
    books = bench.open()
    books.tick()
    load = ring.begin(load_account("minilm", "1"), 1.0, bench.now_ns)
    bench.run(books, 200)
    ring.end(load, bench.now_ns)
    bench.run(books, 100)
    ids = []
    for duration_ms in (100, 300):
        sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
        ids.append(ring.receipt_id(sequence))
        bench.run(books, duration_ms)
        ring.end(sequence, bench.now_ns)
    bench.run(books, 100)
    books.commit(final=True)
    charged = RingReader(ring.path).charged
    assert charged.load_uj + charged.warm_uj + charged.request_uj == 800 * 150_000
    small, large = (desk(bench, watched=False).receipt(receipt_id) for receipt_id in ids)
    assert (small.energy_uj + large.energy_uj, small.shares_final) == (charged.request_uj, True)
    assert large.load_share_uj == charged.load_uj * large.energy_uj // charged.request_uj > 2 * small.load_share_uj
    assert 0 <= charged.load_uj - small.load_share_uj - large.load_share_uj < 2
    assert 0 <= charged.warm_uj - small.warm_share_uj - large.warm_share_uj < 2
    assert charged.warm_uj > 0
    of_load = read(bench, ring.receipt_id(load))
    assert (of_load.account, of_load.load_share_uj, of_load.warm_share_uj) == ("load", 0, 0)
