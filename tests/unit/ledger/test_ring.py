"""The ring between a working process and its meter: slices one way, energy the other."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from app.domain.account import Account, job_account, load_account, request_account, warm_account
from app.domain.slice import ProcessKey, Resident
from app.errors import InvalidInput, NotFound
from app.ledger import ring as ring_module
from app.ledger.account_tables import OTHERS
from app.ledger.ring import (
    RECORD,
    RingHeader,
    RingReader,
    RingWriter,
    grades_text,
    node_tag,
    parse_receipt_id,
    receipt_id,
    ring_paths,
)

REQUEST = request_account("default", "minilm", "1")
CAPACITY = 64


def header(pid: int = 7, account: Account | None = None) -> RingHeader:
    resident = Resident(ProcessKey(pid, 99), account or warm_account("minilm", "1"), frozenset({"GPU-1", "GPU-2"}))
    return RingHeader("machine", "boot", "node", resident, 0.5, 0.25, 1234)


@pytest.fixture
def writer(tmp_path: Path) -> RingWriter:
    return RingWriter.create(tmp_path, header(), CAPACITY)


@pytest.fixture
def reader(writer: RingWriter) -> RingReader:
    return RingReader(writer.path)


def polled(reader: RingReader, final: bool = False) -> list[int]:
    return reader.poll(final).tolist()


# One process, one meter


def test_the_header_crosses_whole(reader: RingReader):
    assert reader.header == header()
    assert reader.ring_id == header().ring_id
    assert reader.capacity == CAPACITY


def test_a_ring_appears_in_its_directory_only_when_it_is_whole(writer: RingWriter, tmp_path: Path):
    assert list(ring_paths(tmp_path)) == [writer.path]
    assert [path.name for path in tmp_path.iterdir()] == [f"{header().ring_id}.ring"]


def test_no_directory_has_no_rings(tmp_path: Path):
    assert list(ring_paths(tmp_path / "none")) == []


def test_a_slice_crosses_when_it_begins_and_is_completed_when_it_ends(writer: RingWriter, reader: RingReader):
    sequence = writer.begin(REQUEST, 3.0, 100)
    assert polled(reader) == [sequence]
    row = reader.record(sequence)
    assert (row["start_ns"], row["end_ns"], row["weight"], reader.account(row["owner"])) == (100, 0, 3.0, REQUEST)
    writer.end(sequence, 250)
    assert reader.record(sequence)["end_ns"] == 250
    assert polled(reader) == []


def test_energy_goes_back_through_the_same_record(writer: RingWriter, reader: RingReader):
    sequence = writer.begin(REQUEST, 1.0, 100)
    assert writer.energy(sequence) == (0, 0, False)
    reader.records["energy_uj"][sequence] = 1_500
    reader.records["grades"][sequence] = 5
    reader.records["state"][sequence] = 1
    assert writer.energy(sequence) == (1_500, 5, True)


def test_accounts_are_told_apart_and_written_once(writer: RingWriter, reader: RingReader):
    accounts = [load_account("minilm", "1"), REQUEST, request_account("acme", "minilm", "1"), REQUEST]
    sequences = [writer.begin(account, 1.0, 1) for account in accounts]
    assert [reader.account(reader.record(sequence)["owner"]) for sequence in sequences] == accounts
    assert reader.record(1)["owner"] == reader.record(3)["owner"]


def test_an_account_that_the_table_does_not_know_is_the_residents(reader: RingReader):
    assert reader.account(17) == warm_account("minilm", "1")


def owners_of(writer: RingWriter, reader: RingReader, accounts: list[Account]) -> list[Account]:
    """Who is charged for a slice of each account, as the meter reads it."""
    return [reader.account(int(reader.record(writer.begin(account, 1.0, 1))["owner"])) for account in accounts]


def test_thousands_of_tenants_have_their_own_accounts(writer: RingWriter, reader: RingReader):
    accounts = [request_account(f"tenant-{n}", "minilm", "1") for n in range(5_000)]
    assert owners_of(writer, reader, accounts) == accounts
    assert owners_of(writer, reader, accounts[::-1]) == accounts[::-1]


def test_tenants_beyond_the_tables_are_charged_together_by_model(writer: RingWriter, reader: RingReader):
    long = "x" * 1_000
    accounts = [request_account(f"{long}{n}", "minilm", "1") for n in range(1_100)]
    found = owners_of(writer, reader, accounts)
    assert found[:900] == accounts[:900]
    assert set(found[-9:]) == {request_account(OTHERS, "minilm", "1")}
    assert owners_of(writer, reader, [request_account(long, "other", "1")]) == [request_account(OTHERS, "other", "1")]
    assert owners_of(writer, reader, [job_account("t", long, 1)]) == [job_account("t", OTHERS, 1)]


def test_an_account_larger_than_the_tables_is_still_its_models(writer: RingWriter, reader: RingReader):
    huge = request_account("x" * 2_000_000, "minilm", "1")
    assert owners_of(writer, reader, [huge]) == [request_account(OTHERS, "minilm", "1")]


def test_on_a_full_disk_further_tenants_are_charged_together(
    writer: RingWriter, reader: RingReader, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(ring_module.os, "posix_fallocate", full)
    accounts = [request_account(f"tenant-{n}", "minilm", "1") for n in range(2_000)]
    found = owners_of(writer, reader, accounts)
    assert found[:300] == accounts[:300]
    assert len(set(found)) < len(accounts)


def test_work_that_is_over_is_recorded_in_one_go(writer: RingWriter, reader: RingReader):
    sequence = writer.record(REQUEST, 3.0, 100, 200, part=2)
    assert polled(reader) == [sequence]
    row = reader.record(sequence)
    assert (row["start_ns"], row["end_ns"], row["weight"], row["part"]) == (100, 200, 3.0, 2)


def test_a_closed_ring_says_when(writer: RingWriter, reader: RingReader):
    assert reader.closed_ns is None
    writer.close(777)
    assert reader.closed_ns == 777


def test_the_last_sign_of_life_is_the_latest_of_all(writer: RingWriter, reader: RingReader):
    writer.begin(REQUEST, 1.0, 100)
    assert reader.last_sign_ns == 100
    writer.end(0, 300)
    assert reader.last_sign_ns == 300
    writer.touch(5_000)
    assert reader.last_sign_ns == 5_000


def test_a_header_that_does_not_fit_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match="ring header must fit"):
        RingWriter.create(tmp_path, header(account=warm_account("m" * 5_000, "1")), CAPACITY)


# Full rings


def test_the_ring_goes_round(writer: RingWriter, reader: RingReader):
    seen = []
    for start in range(0, 5 * CAPACITY, 48):
        for n in range(48):
            writer.end(writer.begin(REQUEST, 1.0, start + n), start + n + 1)
        seen += polled(reader)
    assert seen == list(range(len(seen)))
    assert reader.lost == 0


def test_overwritten_slices_are_counted_and_the_oldest_whole_one_is_kept(writer: RingWriter, reader: RingReader):
    for n in range(CAPACITY + 10):
        writer.begin(REQUEST, 1.0, n)
    assert polled(reader) == list(range(10, CAPACITY + 10))
    assert reader.lost == 10


def test_rounds_that_nobody_read_are_lost_and_counted(writer: RingWriter, reader: RingReader):
    for n in range(10):
        writer.begin(REQUEST, 1.0, n)
    assert len(polled(reader)) == 10
    for n in range(3 * CAPACITY):
        writer.begin(REQUEST, 1.0, n)
    assert polled(reader) == list(range(10 + 2 * CAPACITY, 10 + 3 * CAPACITY))
    assert reader.lost == 2 * CAPACITY


def test_a_receipt_that_was_overwritten_is_not_found(writer: RingWriter, reader: RingReader):
    for n in range(CAPACITY + 1):
        writer.begin(REQUEST, 1.0, n)
    assert writer.energy(0) is None
    with pytest.raises(NotFound, match="no longer kept"):
        reader.record(0)
    assert reader.record(CAPACITY)["start_ns"] == CAPACITY


def test_the_end_of_an_overwritten_slice_does_not_end_another(writer: RingWriter, reader: RingReader):
    long_one = writer.begin(REQUEST, 1.0, 5)
    for n in range(CAPACITY):
        writer.begin(REQUEST, 1.0, n)
    writer.end(long_one, 999)
    assert reader.record(CAPACITY)["end_ns"] == 0


# Torn writes


def test_a_record_without_its_number_is_absent_and_holds_back_those_after_it(writer: RingWriter, reader: RingReader):
    for n in range(3):
        writer.begin(REQUEST, 1.0, n)
    reader.records["number"][1] = 0  # a thread took the number 1 and was stopped before it wrote
    assert polled(reader) == [0]
    assert polled(reader) == []
    reader.records["number"][1] = 2
    assert polled(reader) == [1, 2]


def test_of_a_dead_process_a_torn_record_is_skipped(writer: RingWriter, reader: RingReader):
    for n in range(4):
        writer.begin(REQUEST, 1.0, n)
    reader.records["number"][[0, 2]] = 0
    assert polled(reader, final=True) == [1, 3]


def test_several_threads_write_each_slice_once(tmp_path: Path):
    writer = RingWriter.create(tmp_path, header(), 4096)
    reader = RingReader(writer.path)

    def work(tenant: int) -> None:
        for n in range(500):
            writer.end(writer.begin(request_account(f"t{tenant}", "minilm", "1"), float(tenant), n + 1), n + 2)

    threads = [threading.Thread(target=work, args=(tenant,)) for tenant in range(1, 5)]
    seen: list[int] = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen += polled(reader)
    seen += polled(reader)
    assert seen == list(range(2000))
    rows = reader.records[:2000]
    assert np.all(rows["end_ns"] > rows["start_ns"])
    tenants = [reader.account(int(owner)).tenant for owner in range(4)]
    assert all(tenants[row["owner"]] == f"t{int(row['weight'])}" for row in rows)
    for tenant in range(1, 5):
        assert np.array_equal(rows["start_ns"][rows["weight"] == tenant], np.arange(1, 501))


KILLED = """
import sys, time
from pathlib import Path
from app.domain.account import request_account, warm_account
from app.domain.slice import ProcessKey, Resident
from app.ledger.ring import RingHeader, RingWriter
resident = Resident(ProcessKey(7, 99), warm_account("minilm", "1"), frozenset())
writer = RingWriter.create(Path(sys.argv[1]), RingHeader("machine", "boot", "node", resident), 64)
writer.end(writer.begin(request_account("default", "minilm", "1"), 1.0, 100), 200)
writer.begin(request_account("default", "minilm", "1"), 2.0, 300)
print("open", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_its_slices(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, cwd=os.getcwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        process.send_signal(signal.SIGKILL)
    reader = RingReader(next(ring_paths(tmp_path)))
    assert polled(reader, final=True) == [0, 1]
    assert [int(end) for end in reader.records["end_ns"][:2]] == [200, 0]
    assert reader.closed_ns is None


# Wrong files


@pytest.mark.parametrize("content", [b"", b"JKRING01", b"JKRING01" * 20_000, b"\0" * 70_000])
def test_a_file_that_is_no_ring_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "0123456789ab.ring"
    path.write_bytes(content)
    with pytest.raises((InvalidInput, ValueError)):  # an empty file cannot be mapped: ValueError
        RingReader(path)


def test_a_ring_that_was_cut_short_is_refused(writer: RingWriter):
    os.truncate(writer.path, ring_module._RECORDS_AT + RECORD.itemsize * (CAPACITY - 1))
    with pytest.raises(InvalidInput, match="not a ring of this version"):
        RingReader(writer.path)


# Receipt ids


def test_a_receipt_id_names_boot_process_and_record(writer: RingWriter):
    text = writer.receipt_id(31)
    assert text == receipt_id(node_tag("machine", "boot"), header().ring_id, 31)
    assert parse_receipt_id(text) == (node_tag("machine", "boot"), header().ring_id, 31)


def test_another_boot_process_or_start_is_another_receipt():
    ids = {
        RingHeader(machine, boot, "n", Resident(ProcessKey(pid, ticks), REQUEST, frozenset())).ring_id
        for machine in "ab"
        for boot in "cd"
        for pid in (1, 2)
        for ticks in (3, 4)
    }
    assert len(ids) == 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1a2b3c4d-0123456789ab",
        "1a2b3c4d-0123456789ab-",
        "1a2b3c4d-0123456789ab-xyz",
        "1a2b3c4d-../../etc/ab-1",
        "1a2b3c4d-0123456789ab-1\n",
        "1A2B3C4D-0123456789ab-1",
        "1_2b3c4d-0123456789ab-1",
        "1a2b3c4d-0123456789ab-+1",
    ],
)
def test_anything_else_is_not_a_receipt_id(text: str):
    with pytest.raises(InvalidInput, match="receipt id must look like 1a2b3c4d-0123456789ab-1f"):
        parse_receipt_id(text)


def test_grades_are_named_weakest_last():
    assert [grades_text(bits) for bits in (0, 1, 2, 4, 5)] == [
        "",
        "counter",
        "integrated",
        "modelled",
        "counter+modelled",
    ]
