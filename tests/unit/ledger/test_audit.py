"""The audit: clean books pass, and every kind of tampering is found with a line that says where."""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import pytest

from app.domain.account import GAP, Account, request_account, warm_account
from app.ledger.audit import ChainTally, Whole, Witness, account_text, movement_of, tally_chain
from app.ledger.journal import Batch, Journal
from tests.fixtures.batches import body

REQUEST, WARM = request_account("default", "minilm", "1"), warm_account("minilm", "1")
METER, KEY = "machine:node", "machine/boot/GPU-1"


@pytest.fixture
def batches(tmp_path: Path) -> list[Batch]:
    journal = Journal(tmp_path, METER)
    return [
        journal.append(body([(0, 0), (1, 10)], {REQUEST: 7, WARM: 3})),
        journal.append(body([(1, 10), (2, 30)], {REQUEST: 20})),
        journal.append(body([(2, 30), (3, 35)], {WARM: 3, GAP: 2})),
    ]


def tally(batches: Iterable[Batch], from_genesis: bool = True) -> ChainTally:
    return tally_chain(METER, batches, from_genesis)


def balances(of: dict[Account, int]) -> dict[tuple[str, str, str], int]:
    return {(KEY, account_text(account.labels()), "counter"): energy_uj for account, energy_uj in of.items()}


def compare_balances(chains: Iterable[ChainTally], found: dict[tuple[str, str, str], int]) -> list[str]:
    whole = Whole()
    for chain in chains:
        whole.add(chain)
    return whole.compare_balances(found)


def compare_journal(stored: Iterable[Batch], journal: Iterable[Batch], acknowledged: tuple[int, int]) -> list[str]:
    """What the audit of `stored` finds when the node's journal holds `journal`."""
    witness = Witness(tally(journal, from_genesis=False).digests, acknowledged)
    return tally_chain(METER, stored, witness=witness).faults


def altered(batch: Batch, energy_uj: int, redigest: bool = False) -> Batch:
    """The batch with another figure in its first posting, and another digest if asked."""
    changed = deepcopy(batch.body)
    changed["postings"][0]["energy_uj"] = energy_uj
    return batch.altered(changed, redigest)


def test_clean_books_pass(batches: list[Batch]):
    found = tally(batches)
    device = found.devices[KEY]
    assert (found.faults, device.movement_uj, device.posted_uj, device.gap_uj, device.batches) == ([], 35, 35, 2, 3)
    assert compare_balances([found], balances({REQUEST: 27, WARM: 6, GAP: 2})) == []
    assert compare_journal(batches, batches, acknowledged=(1, 2)) == []


def test_a_posting_that_was_changed_is_found_twice(batches: list[Batch]):
    faults = tally([batches[0], altered(batches[1], 25), batches[2]]).faults
    assert faults == [
        "meter machine:node, batch 1.1: its digest does not match its contents; the batch was altered",
        "meter machine:node, batch 1.1: machine/boot/GPU-1 moved 20 uJ, posted 25 (+5 uJ)",
    ]


def test_a_posting_changed_with_its_digest_breaks_the_chain_after_it(batches: list[Batch]):
    faults = tally([batches[0], altered(batches[1], 25, redigest=True), batches[2]]).faults
    assert faults == [
        "meter machine:node, batch 1.1: machine/boot/GPU-1 moved 20 uJ, posted 25 (+5 uJ)",
        "meter machine:node, batch 1.2: the chain is broken; a batch before it was removed, added or altered",
    ]


def test_energy_moved_from_one_account_to_another_with_a_new_digest_differs_from_the_journal(batches: list[Batch]):
    changed = deepcopy(batches[2].body)
    changed["postings"][0]["energy_uj"], changed["postings"][1]["energy_uj"] = 5, 0
    forged = batches[2].altered(changed, redigest=True)
    stored = [*batches[:2], forged]
    assert tally(stored).faults == []
    assert compare_journal(stored, batches, acknowledged=(1, 2)) == [
        "meter machine:node, batch 1.2: the store's digest differs from the node's journal"
    ]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_batch_removed_from_the_beginning_or_the_middle_breaks_the_chain(batches: list[Batch], missing: int):
    left = [batch for batch in batches if batch.sequence != missing]
    assert f"meter machine:node, batch 1.{missing + 1}: the chain is broken; " in tally(left).faults[0]


def test_a_batch_removed_from_the_middle_leaves_a_hole_between_readings(batches: list[Batch]):
    assert (
        "meter machine:node, batch 1.2: machine/boot/GPU-1 begins at reading (2, 30), the last one ended at (1, 10)"
        in tally([batches[0], batches[2]]).faults
    )


def test_a_batch_removed_from_the_end_differs_from_the_journal(batches: list[Batch]):
    assert tally(batches[:2]).faults == []
    assert compare_journal(batches[:2], batches, acknowledged=(1, 2)) == [
        "meter machine:node, batch 1.2: in the node's journal and acknowledged, but not in the store"
    ]


def test_a_batch_removed_from_the_end_differs_from_the_balances_too(batches: list[Batch]):
    faults = compare_balances([tally(batches[:2])], balances({REQUEST: 27, WARM: 6, GAP: 2}))
    assert len(faults) == 2
    assert "name=gap|tenant=|version=, grade counter, has a balance of 2 uJ, its postings add up to 0 uJ" in faults[0]
    assert "name=warm|tenant=|version=1, grade counter, has a balance of 6 uJ, its postings add up to 3 uJ" in faults[1]


def test_a_batch_on_its_way_is_no_fault(batches: list[Batch]):
    assert compare_journal(batches[:2], batches, acknowledged=(1, 1)) == []


def test_a_batch_that_the_meter_never_wrote_is_found(batches: list[Batch]):
    assert compare_journal(batches, [batches[0], batches[2]], acknowledged=(1, 2)) == [
        "meter machine:node, batch 1.1: in the store, not in the node's journal"
    ]


def test_a_balance_that_was_changed_is_found(batches: list[Batch]):
    faults = compare_balances([tally(batches)], balances({REQUEST: 27, WARM: 5, GAP: 2}))
    assert faults == [
        "machine/boot/GPU-1: account attempt=0|job=|kind=|model=minilm|name=warm|tenant=|version=1, grade counter, "
        "has a balance of 5 uJ, its postings add up to 6 uJ; the balances were altered"
    ]


def test_a_balance_nobody_posted_is_found(batches: list[Batch]):
    faults = compare_balances([tally(batches)], balances({REQUEST: 27, WARM: 6, GAP: 2, warm_account("x", "1"): 9}))
    assert len(faults) == 1
    assert "model=x" in faults[0]


def test_a_negative_posting_is_a_fault_even_if_the_sum_is_right(tmp_path: Path):
    batch = Journal(tmp_path, METER).append(body([(0, 0), (1, 10)], {REQUEST: 15, WARM: -5}))
    assert tally([batch]).faults == ["meter machine:node, batch 1.0: a posting of -5 uJ; postings are never negative"]


def test_a_posting_without_a_reading_is_a_fault(tmp_path: Path):
    batch = Journal(tmp_path, METER).append(body(postings={WARM: 5}))
    assert tally([batch]).faults == ["meter machine:node, batch 1.0: machine/boot/GPU-1 moved 0 uJ, posted 5 (+5 uJ)"]


def test_a_journal_that_begins_late_is_judged_from_where_it_begins(batches: list[Batch]):
    assert tally(batches[1:], from_genesis=False).faults == []


def test_two_meters_of_one_device_add_up(batches: list[Batch], tmp_path: Path):
    other = Journal(tmp_path / "other", "machine:other").append(body([(3, 35), (4, 40)], {WARM: 5}))
    chains = [tally(batches), tally_chain("machine:other", [other])]
    assert compare_balances(chains, balances({REQUEST: 27, WARM: 11, GAP: 2})) == []


@pytest.mark.parametrize(
    ("grade", "absence", "raw", "moved_uj"),
    [
        ("counter", None, [(0, 10), (1, 30), (2, 5)], 25),  # 20, then a reset
        ("modelled", None, [(0, 10), (1, 30), (2, 5), (3, 6)], 21),  # a correction moves nothing
        ("counter", "dead", [(0, 10), (10**12, 99)], 89),
        ("integrated", None, [(0, 2_000), (1_000_000, 4_000)], 3_000),  # 3 W for a millisecond
        ("integrated", "unwatched", [(0, 2_000), (10**9, 4_000), (10**9 + 1_000_000, 4_000)], 4_000),
        ("counter", None, [(0, 10)], 0),
    ],
)
def test_movement_is_recomputed_by_the_rules_of_deltas(
    grade: str, absence: str | None, raw: list[tuple[int, int]], moved_uj: int
):
    assert movement_of(body(raw, grade=grade, absence=absence)["devices"][0]) == moved_uj
