"""Rows of steps in a ring: told together, read once, lost when nobody reads; and what the books say of intervals."""

from pathlib import Path

import pytest

from app.domain.account import request_account, warm_account
from app.domain.slice import ProcessKey, Resident
from app.ledger.ring import FOLLOWED, PHASE, RingHeader, RingReader, RingWriter
from app.ledger.step_rows import MAX_ROWS, Fact

HEADER = RingHeader("m", "b", "n", Resident(ProcessKey(1, 1), warm_account("m", "1"), frozenset()))
REQUEST = request_account("t", "m", "1")


@pytest.fixture
def writer(tmp_path: Path) -> RingWriter:
    return RingWriter.create(tmp_path, HEADER, 64)


def test_rows_are_read_once_and_in_order(writer: RingWriter):
    reader = RingReader(writer.path)
    assert len(reader.steps.poll()) == 0
    assert not reader.steps.is_used
    assert writer.steps.tell(10, 20, [(3, 250.0), (4, 0.5)])
    assert writer.steps.tell(20, 30, [(3, 100.0)])
    assert reader.steps.poll().tolist() == [(10, 20, 250.0, 3), (10, 20, 0.5, 4), (20, 30, 100.0, 3)]
    assert len(reader.steps.poll()) == 0
    assert reader.steps.known_from_ns == 0


def test_of_rows_that_nobody_read_in_time_the_newest_are_left(writer: RingWriter):
    reader = RingReader(writer.path)
    for n in range(MAX_ROWS // 64 + 2):
        writer.steps.tell(n, n + 1, [(sequence, 1.0) for sequence in range(64)])
    rows = reader.steps.poll()
    assert len(rows) == MAX_ROWS
    assert reader.steps.known_from_ns == rows["start_ns"][0] == 2


def test_a_meter_that_comes_back_reads_what_is_still_there(writer: RingWriter):
    writer.steps.tell(1, 2, [(0, 1.0)])
    assert len(RingReader(writer.path).steps.poll()) == 1
    assert len(RingReader(writer.path).steps.poll()) == 1


def test_rows_take_disk_space_only_once_they_are_used(writer: RingWriter):
    before = writer.path.stat().st_blocks
    writer.steps.tell(1, 2, [(0, 1.0)])
    assert writer.path.stat().st_blocks >= before + 2 * 1024 * 1024 // 512


def test_on_a_full_disk_no_row_is_told_and_nothing_fails(writer: RingWriter, monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.steps, "_allocate", full)
    assert not writer.steps.tell(1, 2, [(0, 1.0)])
    assert not writer.steps.tell(1, 2, [(0, 1.0)])
    assert not RingReader(writer.path).steps.is_used


def test_facts_are_heard_once_the_latest_at_least(writer: RingWriter):
    reader = RingReader(writer.path)
    assert writer.steps.facts() == []
    reader.steps.show(Fact(1, 2, 30))
    reader.steps.show(Fact(2, 3, 40))
    assert writer.steps.facts() == [Fact(1, 2, 30), Fact(2, 3, 40)]
    assert writer.steps.facts() == []
    for n in range(100):
        reader.steps.show(Fact(n, n + 1, n))
    assert [fact.energy_uj for fact in writer.steps.facts()] == list(range(37, 100))


def test_a_request_of_two_phases_is_one_receipt_of_two_records(writer: RingWriter):
    first, second = writer.begin_phases(REQUEST, 5)
    writer.assign(second, 12)
    reader = RingReader(writer.path)
    prefill, decode = reader.phases(first)
    assert (prefill["start_ns"], prefill["state"], prefill["part"]) == (5, PHASE | FOLLOWED, second - first)
    assert (decode["start_ns"], decode["state"], decode["part"]) == (5, PHASE, 12)
    assert reader.poll().tolist() == [first, second]
    assert [row["number"] for row in reader.phases(writer.begin(REQUEST, 1.0, 7))] == [3]


def test_a_file_of_an_earlier_version_has_no_rows(writer: RingWriter):
    """It ends with the records."""
    data = writer.path.read_bytes()[: 4096 + 61_440 + 64 * 64]
    writer.path.write_bytes(data)
    reader = RingReader(writer.path)
    assert len(reader.steps.poll()) == 0
    assert not reader.steps.is_used
