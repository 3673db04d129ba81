"""The node journal: what was committed survives a kill, and what was not acknowledged is delivered again."""

import errno
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from app.ledger import journal as journal_module
from app.ledger.journal import GENESIS, Batch, Journal, digest_of, has_open_books, read_epoch


def values(batches: list[Batch]) -> list[int]:
    return [batch.body["n"] for batch in batches]


def opened(directory: Path, **more: int) -> Journal:
    return Journal(directory, "machine:node", **more)


def filled(directory: Path, count: int) -> Journal:
    journal = opened(directory)
    for n in range(count):
        journal.append({"n": n})
    return journal


def test_a_new_journal_is_empty(tmp_path: Path):
    journal = opened(tmp_path)
    assert (journal.last, journal.acknowledged, journal.unacknowledged(9)) == (None, (0, -1), [])


def test_batches_are_numbered_and_chained_from_the_beginning(tmp_path: Path):
    batches = list(filled(tmp_path, 3).batches())
    assert [batch.position for batch in batches] == [(1, 0), (1, 1), (1, 2)]
    assert [batch.previous for batch in batches] == [GENESIS, batches[0].digest, batches[1].digest]
    assert all(batch.digest == digest_of(batch.previous, batch.body) for batch in batches)


def test_the_digest_depends_on_every_figure_and_not_on_the_order_of_keys():
    assert digest_of(GENESIS, {"a": 1, "b": 2}) == digest_of(GENESIS, {"b": 2, "a": 1})
    assert digest_of(GENESIS, {"a": 1, "b": 2}) != digest_of(GENESIS, {"a": 1, "b": 3})
    assert digest_of(GENESIS, {"a": 1}) != digest_of("1" * 64, {"a": 1})


def test_what_was_appended_is_there_without_closing(tmp_path: Path):
    filled(tmp_path, 3)
    again = opened(tmp_path)
    assert values(again.unacknowledged(9)) == [0, 1, 2]
    assert again.last is not None
    assert again.last.body == {"n": 2}


def test_the_next_life_is_a_new_epoch_of_the_same_chain(tmp_path: Path):
    last = filled(tmp_path, 2).last
    batch = opened(tmp_path).append({"n": 2})
    assert batch.position == (2, 0)
    assert last is not None
    assert batch.previous == last.digest


def test_what_is_acknowledged_is_not_delivered_again(tmp_path: Path):
    journal = filled(tmp_path, 4)
    journal.acknowledge(journal.unacknowledged(9)[1])
    assert values(journal.unacknowledged(9)) == [2, 3]
    again = opened(tmp_path)
    assert (values(again.unacknowledged(9)), again.acknowledged) == ([2, 3], (1, 1))


def test_deliveries_are_limited_and_oldest_first(tmp_path: Path):
    assert values(filled(tmp_path, 5).unacknowledged(2)) == [0, 1]


def test_the_outbox_spans_lives(tmp_path: Path):
    journal = filled(tmp_path, 2)
    journal.acknowledge(journal.unacknowledged(1)[0])
    second = opened(tmp_path)
    second.append({"n": 2})
    third = opened(tmp_path)
    third.append({"n": 3})
    assert values(third.unacknowledged(9)) == [1, 2, 3]
    third.acknowledge(third.unacknowledged(9)[1])
    assert values(opened(tmp_path).unacknowledged(9)) == [3]


def test_a_lost_acknowledgement_means_delivering_again(tmp_path: Path):
    journal = filled(tmp_path, 2)
    journal.acknowledge(journal.unacknowledged(9)[1])
    (tmp_path / "acknowledged").write_bytes(b"[1,")
    assert values(opened(tmp_path).unacknowledged(9)) == [0, 1]


def test_a_torn_last_line_is_dropped(tmp_path: Path):
    filled(tmp_path, 3)
    path = tmp_path / "00000001.journal"
    os.truncate(path, path.stat().st_size - 5)
    again = opened(tmp_path)
    assert values(again.unacknowledged(9)) == [0, 1]
    assert again.append({"n": 9}).previous == again.unacknowledged(9)[1].digest


def test_a_last_line_without_its_newline_is_torn(tmp_path: Path):
    filled(tmp_path, 2)
    path = tmp_path / "00000001.journal"
    os.truncate(path, path.stat().st_size - 1)
    assert values(list(read_epoch(path))) == [0]


def test_reading_stops_at_an_altered_line(tmp_path: Path):
    filled(tmp_path, 3)
    path = tmp_path / "00000001.journal"
    path.write_bytes(path.read_bytes().replace(b'{"n":1}', b'{"n":7}'))
    assert values(list(opened(tmp_path).batches())) == [0]


def full_disk(after_bytes: int) -> Callable[[int, bytes], int]:
    """os.write on a disk that has room for `after_bytes` and no more."""
    room = after_bytes

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = os.pwrite(descriptor, bytes(data)[:room], 0)  # O_APPEND: at the end, wherever asked
        room -= taken
        return taken

    return write


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_full_disk_loses_nothing_that_was_written_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
):
    journal = filled(tmp_path, 2)
    with monkeypatch.context() as patched:
        patched.setattr(journal_module.os, "write", full_disk(room))
        with pytest.raises(OSError, match="No space left"):
            journal.append({"n": 2})
    journal.append({"n": 3})
    journal.append({"n": 4})
    assert values(list(journal.batches())) == values(journal.unacknowledged(9)) == [0, 1, 3, 4]
    assert [batch.sequence for batch in opened(tmp_path).unacknowledged(9)] == [0, 1, 2, 3]


def test_a_full_epoch_is_followed_by_another(tmp_path: Path):
    journal = opened(tmp_path, max_epoch_bytes=500)
    for n in range(6):
        journal.append({"n": n})
    assert len({batch.epoch for batch in journal.batches()}) > 1
    assert values(list(journal.batches())) == [0, 1, 2, 3, 4, 5]
    chain = list(journal.batches())
    assert [batch.previous for batch in chain[1:]] == [batch.digest for batch in chain[:-1]]


def test_old_epochs_go_once_they_are_acknowledged(tmp_path: Path):
    for n in range(journal_module.KEEP_EPOCHS + 4):
        journal = opened(tmp_path)
        journal.append({"n": n})
    assert len(list(journal.batches())) == journal_module.KEEP_EPOCHS + 4
    journal.acknowledge(journal.unacknowledged(99)[-1])
    again = opened(tmp_path)
    kept = values(list(again.batches()))
    assert kept == list(range(journal_module.KEEP_EPOCHS + 4))[-len(kept) :]
    assert len(kept) == journal_module.KEEP_EPOCHS - 1  # the new epoch is one of those kept, and still empty
    assert again.last is not None


def test_lives_that_wrote_nothing_do_not_push_out_the_last_batch(tmp_path: Path):
    journal = filled(tmp_path, 2)
    journal.acknowledge(journal.unacknowledged(9)[1])
    for _ in range(2 * journal_module.KEEP_EPOCHS):
        journal = opened(tmp_path)
    assert journal.last is not None
    assert journal.last.body == {"n": 1}


def test_a_renamed_node_continues_its_chain(tmp_path: Path):
    filled(tmp_path, 1)
    renamed = Journal(tmp_path, "machine:other")
    assert renamed.append({"n": 1}).meter == "machine:node"
    assert renamed.meter == "machine:node"


def test_an_unwritable_directory_is_said_at_once(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        opened(tmp_path / "file" / "journal")


def test_closing_twice_is_harmless(tmp_path: Path):
    journal = filled(tmp_path, 1)
    journal.close()
    journal.close()


def test_books_are_open_while_batches_wait_and_after_a_meter_that_did_not_close_them(tmp_path: Path):
    def resume(clean: bool) -> dict[str, object]:
        return {"resume": {"clean": clean}}

    assert not has_open_books(tmp_path / "never")
    journal = opened(tmp_path)
    assert not has_open_books(tmp_path)
    batch = journal.append(resume(clean=False))
    assert has_open_books(tmp_path)
    journal.acknowledge(batch)
    assert has_open_books(tmp_path)  # all is delivered, but nobody took a closing reading
    closing = journal.append(resume(clean=True))
    assert has_open_books(tmp_path)
    journal.acknowledge(closing)
    opened(tmp_path).close()  # the next life, which has written nothing yet
    assert not has_open_books(tmp_path)


# However long nobody acknowledges


def test_memory_holds_a_window_of_what_waits_and_the_rest_is_read_when_it_is_delivered(tmp_path: Path):
    count = 3 * journal_module.WINDOW
    journal = opened(tmp_path, max_epoch_bytes=30_000)
    for n in range(count):
        journal.append({"n": n})
    assert (journal.waiting, len(journal._window)) == (count, journal_module.WINDOW)
    delivered: list[int] = []
    while batches := journal.unacknowledged(50):
        assert len(journal._window) <= journal_module.WINDOW
        delivered += values(batches)
        journal.acknowledge(batches[-1])
        if len(delivered) == 100:
            journal.append({"n": count})
    assert delivered == list(range(count + 1))
    assert journal.waiting == 0


def test_what_waits_is_counted_again_by_the_next_life(tmp_path: Path):
    journal = filled(tmp_path, 5)
    journal.acknowledge(journal.unacknowledged(2)[-1])
    again = opened(tmp_path)
    assert (again.waiting, len(again._window)) == (3, 0)
    again.append({"n": 5})
    assert values(again.unacknowledged(9)) == [2, 3, 4, 5]


# What the store will never take


def test_refused_batches_are_set_aside_and_the_journal_goes_on_under_another_name(tmp_path: Path):
    journal = filled(tmp_path, 4)
    journal.acknowledge(journal.unacknowledged(2)[-1])
    last = journal.last
    journal.begin_anew("machine:anew")
    assert (journal.meter, journal.waiting, journal.unacknowledged(9)) == ("machine:anew", 0, [])
    assert journal.last is last  # until the next is written a dying meter's successor loses no more than it must
    [refused] = journal.refused()
    assert values(list(read_epoch(refused))) == [0, 1, 2, 3]
    batch = journal.append({"n": 4})
    assert (batch.meter, batch.previous) == ("machine:anew", GENESIS)
    assert journal.append({"n": 5}).previous == batch.digest
    again = opened(tmp_path)
    assert (again.meter, values(again.unacknowledged(9)), again.refused()) == ("machine:anew", [4, 5], [refused])


def test_beginning_anew_interrupted_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    filled(tmp_path, 2)
    journal = opened(tmp_path)
    journal.append({"n": 2})
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            journal.begin_anew("machine:anew")
    again = opened(tmp_path)
    assert (again.meter, values(again.unacknowledged(9))) == ("machine:node", [0, 1, 2])
    again.begin_anew("machine:anew")
    assert [values(list(read_epoch(path))) for path in again.refused()] == [[0, 1], [2]]


# Bytes


def test_a_batch_travels_and_is_stored_as_the_bytes_that_were_made_once(tmp_path: Path):
    batch = opened(tmp_path).append({"b": 1, "a": [1.5, None]})
    assert batch.payload == b'{"a":[1.5,null],"b":1}'
    copy = pickle.loads(pickle.dumps(batch))
    assert (copy, copy.__dict__.keys()) == (batch, set(Batch.__dataclass_fields__))
    assert copy.is_genuine
    assert not copy.altered({"b": 2}).is_genuine
    assert copy.altered({"b": 2}, redigest=True).is_genuine
    again = opened(tmp_path).unacknowledged(1)[0]
    assert (again.packed, again.body) == (batch.packed, {"b": 1, "a": [1.5, None]})


def test_a_journal_of_the_first_version_is_read_and_its_digests_hold(tmp_path: Path):
    body = {"b": 1, "a": 2}  # its records kept the order of keys
    header = {"meter": "m", "epoch": 1, "sequence": 0, "previous": GENESIS, "digest": digest_of(GENESIS, body)}
    record = orjson.dumps(header | {"body": body})
    (tmp_path / "00000001.journal").write_bytes(b"%08x %s\n" % (zlib.crc32(record), record))
    [batch] = opened(tmp_path).unacknowledged(9)
    assert (batch.body, batch.payload, batch.is_genuine) == (body, b'{"b":1,"a":2}', True)


def test_an_abridged_batch_travels_whole(tmp_path: Path):
    raw = [[n, 10 * n] for n in range(5)]
    contents = {"devices": [{"raw": raw}], "resume": {"clean": True, "devices": {}}}
    batch = opened(tmp_path).append(contents)
    batch.abridge()
    assert batch.body == {"devices": [{"raw": [[0, 0], [4, 40]]}], "resume": {"clean": True}}
    assert pickle.loads(pickle.dumps(batch)).body == contents
    odd = opened(tmp_path).append({"devices": None})
    odd.abridge()
    assert odd.body == {"devices": None}
