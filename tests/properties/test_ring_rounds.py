"""Properties of the ring: whatever the order of writing and reading, each slice is seen once or counted as lost."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.account import request_account, warm_account
from app.domain.slice import ProcessKey, Resident
from app.ledger.ring import RingHeader, RingReader, RingWriter, parse_receipt_id, receipt_id

HEADER = RingHeader("m", "b", "n", Resident(ProcessKey(1, 1), warm_account("m", "1"), frozenset()))
REQUEST = request_account("t", "m", "1")


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 20), st.lists(st.integers(0, 50), max_size=12))
def test_each_slice_is_seen_once_or_counted_as_lost(capacity: int, bursts: list[int]):
    with tempfile.TemporaryDirectory() as directory:
        writer = RingWriter.create(Path(directory), HEADER, capacity)
        reader = RingReader(writer.path)
        written, seen = 0, []
        for burst in bursts:
            for _ in range(burst):
                assert writer.begin(REQUEST, 1.0, written + 1) == written
                written += 1
            found = reader.poll().tolist()
            assert all(reader.record(sequence)["start_ns"] == sequence + 1 for sequence in found)
            seen += found
        assert seen == sorted(set(seen))
        assert len(seen) + reader.lost == written
        reader.close()


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 20), st.data())
def test_of_a_dead_process_every_whole_record_is_found(capacity: int, data: st.DataObject):
    with tempfile.TemporaryDirectory() as directory:
        writer = RingWriter.create(Path(directory), HEADER, capacity)
        reader = RingReader(writer.path)
        count = data.draw(st.integers(0, capacity))
        torn = data.draw(st.sets(st.integers(0, max(0, count - 1)), max_size=count))
        for n in range(count):
            writer.begin(REQUEST, 1.0, n)
        for n in torn:
            reader.records["number"][n] = 0
        assert reader.poll(final=True).tolist() == [n for n in range(count) if n not in torn]
        reader.close()


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=6, max_size=6), st.integers(0, 2**63))
def test_receipt_ids_are_read_as_they_are_written(tag: bytes, ring: bytes, sequence: int):
    assert parse_receipt_id(receipt_id(tag.hex(), ring.hex(), sequence)) == (tag.hex(), ring.hex(), sequence)
