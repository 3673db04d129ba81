"""The ring: how slices cross from a working process to the meter, and receipts back, through one mapped file.

A process writes a 64-byte record when a slice begins and completes it when the slice ends; the meter adds the energy
to the same record. So a slice outlives a killed process, a receipt is found by its id without an index, and
nobody waits for anybody. Knows nothing of sensors, nor of how energy is divided.

    writer = RingWriter.create(directory, header, capacity)      # in the replica
    slot = writer.begin(account, weight=3.0, start_ns=now)
    writer.end(slot, end_ns=later)
    reader = RingReader(path)                                    # in the meter
    for row in reader.poll(): ...

Bytes 0..4095 are the header, then 60 KiB of accounts (JSON lines, only ever appended), then the records, then room for
more accounts and for the rows of steps (step_rows.py), which takes disk space only when it is used.
A record's sequence number is written last, so a record is either whole or absent. The writer owns the first
40 bytes of a record, the meter the rest and one figure of the header.
"""

import contextlib
import hashlib
import itertools
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from app.domain.account import Account
from app.domain.reading import Grade
from app.domain.slice import ProcessKey, Resident
from app.errors import InvalidInput, NotFound
from app.ledger.account_tables import AccountLines, AccountTables, Region, account_of_labels
from app.ledger.step_rows import STEP_BYTES, StepReader, StepWriter

_MAGIC = b"JKRING01"
_HEADER = struct.Struct("<8sIIQQQ")  # magic, capacity, pid, started_ticks, closed_ns, seen_ns
_CLOSED_NS_AT, _SEEN_NS_AT, _POWER_AT, _PART_OF_POWER_AT = 24, 32, 40, 48
_HEADER_JSON_AT, _CHARGED_AT, _HEADER_BYTES = 64, 4064, 4096
_CHARGED = struct.Struct("<QQQ")
_ACCOUNTS_AT, _ACCOUNTS_BYTES = 4096, 61_440
_RECORDS_AT = _ACCOUNTS_AT + _ACCOUNTS_BYTES
_FIRST_ACCOUNTS, _MORE_BYTES = Region(_ACCOUNTS_AT, _ACCOUNTS_BYTES), 1_048_576
_HOLE_REACH = 64
_LENGTH = struct.Struct("<I")

RECORD = np.dtype(
    [
        ("start_ns", "<u8"),
        ("end_ns", "<u8"),
        ("weight", "<f8"),
        ("owner", "<u4"),
        ("part", "<u4"),
        ("number", "<u8"),  # sequence + 1; 0 means never written
        ("energy_uj", "<u8"),
        ("through_ns", "<u8"),
        ("grades", "<u4"),
        ("state", "<u4"),
    ]
)
"""One slice. `end_ns` 0: still open. `part`: the epoch of a job it belongs to, from 1; 0: none; of a phase see PHASE.
Energy is complete through `through_ns`; `grades` is a bit set of GRADE_BITS."""

_BEGIN = struct.Struct("<QQdIIQQQII")
_U64 = struct.Struct("<Q")
_U32 = struct.Struct("<I")
_F64 = struct.Struct("<d")
_NUMBER_AND_METER_PART = struct.Struct("<QQQII")
_PART_AT, _NUMBER_AT = 28, 32
assert RECORD.itemsize == _BEGIN.size == 64  # noqa: S101 - an invariant of the file format

_RECEIPT_ID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{12})-([0-9a-f]{1,16})")

SETTLED, PHASE, FOLLOWED = 1, 2, 4
"""Bits of `state`. PHASE: the slice is a phase of a request, and rows of steps tell how its energy went over time.
FOLLOWED: another phase of the request follows, `part` records later; `part` of the last one is the tokens it made."""
GRADE_BITS = {
    Grade.COUNTER: 1,
    Grade.INTEGRATED: 2,
    Grade.MODELLED: 4,
    Grade.APPORTIONED: 8,
    Grade.DISPUTED: 16,
}


def grades_text(bits: int) -> str:
    """`counter`, `modelled`, or the grades of a mixed figure joined by `+`; empty for none."""
    return "+".join(grade.value for grade, bit in GRADE_BITS.items() if bits & bit)


class Charged(NamedTuple):
    """What the books have charged to a process so far, in microjoules; the meter keeps it in the process's ring."""

    load_uj: int
    warm_uj: int
    request_uj: int
    """To the slices of its requests."""


@dataclass(frozen=True, slots=True)
class RingHeader:
    """Who writes a ring: fixed when the process opens it."""

    machine: str
    boot: str
    node: str
    resident: Resident
    gpu_share: float = 1.0
    """Part of each accelerator that the process reserved, 0..1."""
    host_share: float = 0.0
    """Part of the host's CPUs that the process reserved, 0..1."""
    born_ns: int = 0
    """Birth of the process on the monotonic clock."""
    nth: int = 0
    """A process that opens several rings numbers them from 0."""
    worker: int = -1
    """Rank of the process in its job; -1: it has none."""
    cpu_ns: int = -1
    """CPU time that the process had used when it opened the ring; -1: not told."""

    @property
    def ring_id(self) -> str:
        """12 hex digits naming this ring of this process of this boot for good."""
        process = self.resident.process
        text = f"{self.machine}/{self.boot}/{process.pid}/{process.started_ticks}"
        if self.nth:
            text += f"/{self.nth}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def node_tag(machine: str, boot: str) -> str:
    """8 hex digits naming a boot of a machine: the first part of a receipt id."""
    return hashlib.sha256(f"{machine}/{boot}".encode()).hexdigest()[:8]


def receipt_id(tag: str, ring_id: str, sequence: int) -> str:
    """`<node tag>-<ring id>-<sequence in hex>`: says which boot, process and record holds the receipt."""
    return f"{tag}-{ring_id}-{sequence:x}"


def parse_receipt_id(text: str) -> tuple[str, str, int]:
    """Node tag, ring id and sequence of a receipt id. Raises InvalidInput."""
    found = _RECEIPT_ID.fullmatch(text)
    if found is None:
        raise InvalidInput(f"receipt id must look like 1a2b3c4d-0123456789ab-1f, got {text!r}: copy it from a response")
    return found[1], found[2], int(found[3], 16)


def _header_json(header: RingHeader) -> bytes:
    resident = header.resident
    return orjson.dumps(
        {
            "machine": header.machine,
            "boot": header.boot,
            "node": header.node,
            "account": resident.account.labels(),
            "devices": sorted(resident.device_uuids),
            "gpu_share": header.gpu_share,
            "host_share": header.host_share,
            "born_ns": header.born_ns,
            "worker": header.worker,
            "cpu_ns": header.cpu_ns,
        }
    )


def _more_accounts(capacity: int) -> Region:
    """Behind the records."""
    return Region(_RECORDS_AT + capacity * RECORD.itemsize, _MORE_BYTES)


def _steps(capacity: int) -> Region:
    """Behind those."""
    more = _more_accounts(capacity)
    return Region(more.at + more.size, STEP_BYTES)


class RingWriter:
    """The working process's end. Safe from several threads; `begin` and `end` take about a microsecond each."""

    def __init__(self, path: Path, header: RingHeader, capacity: int) -> None:
        self.path, self.header, self._capacity = path, header, capacity
        more, steps = _more_accounts(capacity), _steps(capacity)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # a hole on a full disk would be SIGBUS later, not an error now
            os.posix_fallocate(descriptor, 0, more.at)
            os.truncate(descriptor, steps.at + steps.size)
            self._map = mmap.mmap(descriptor, steps.at + steps.size)
        finally:
            os.close(descriptor)
        self._numbers = itertools.count()
        self._latest: tuple[Account | None, int] = (None, 0)
        self._accounts = AccountTables(self._map, _FIRST_ACCOUNTS, _more_accounts(capacity), self._allocate)
        self.steps = StepWriter(self._map, steps, self._allocate)
        self._lock = threading.Lock()
        self.tag = node_tag(header.machine, header.boot)
        self.receipt_stem = f"{self.tag}-{header.ring_id}-"
        """What the ids of its receipts begin with; the sequence number in hexadecimal follows."""
        self._write_header()

    @classmethod
    def create(cls, directory: Path, header: RingHeader, capacity: int) -> "RingWriter":
        """A new ring in `directory` (made if absent) that readers see only when it is whole."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{header.ring_id}.ring"
        writer = cls(path.with_suffix(".new"), header, capacity)
        os.replace(writer.path, path)
        writer.path = path
        return writer

    def _write_header(self) -> None:
        text = _header_json(self.header)
        if len(text) > _CHARGED_AT - _HEADER_JSON_AT - 4:
            raise InvalidInput(f"ring header must fit {_CHARGED_AT - _HEADER_JSON_AT - 4} bytes, got {len(text)}")
        process = self.header.resident.process
        _HEADER.pack_into(self._map, 0, _MAGIC, self._capacity, process.pid, process.started_ticks, 0, 0)
        _LENGTH.pack_into(self._map, _HEADER_JSON_AT, len(text))
        self._map[_HEADER_JSON_AT + 4 : _HEADER_JSON_AT + 4 + len(text)] = text

    def begin(self, account: Account, weight: float, start_ns: int, part: int = 0) -> int:
        """Open a slice; returns its sequence number."""
        return self.record(account, weight, start_ns, 0, part)

    def record(self, account: Account, weight: float, start_ns: int, end_ns: int, part: int = 0, state: int = 0) -> int:
        """A slice that is over already, in one go (`end_ns` 0: it is not); returns its sequence number.

        `state` is PHASE for a phase of a request, else 0.
        """
        latest, owner = self._latest
        if latest is not account:  # hashing an account takes longer than all the rest
            owner = self._accounts.owner(account)
            self._latest = (account, owner)
        sequence = next(self._numbers)
        offset = _RECORDS_AT + (sequence % self._capacity) * 64
        _BEGIN.pack_into(self._map, offset, start_ns, end_ns, weight, owner, part, sequence + 1, 0, 0, 0, state)
        return sequence

    def end(self, sequence: int, end_ns: int) -> None:
        """Close a slice, if its record was not overwritten meanwhile; a second call changes nothing booked already."""
        offset = _RECORDS_AT + (sequence % self._capacity) * 64
        if _U64.unpack_from(self._map, offset + _NUMBER_AT)[0] == sequence + 1:
            _U64.pack_into(self._map, offset + 8, end_ns)

    def assign(self, sequence: int, part: int) -> None:
        """Put a slice into another part of its job. What a meter has credited before stays where it was."""
        offset = _RECORDS_AT + (sequence % self._capacity) * 64
        if _U64.unpack_from(self._map, offset + _NUMBER_AT)[0] == sequence + 1:
            _U32.pack_into(self._map, offset + _PART_AT, part)

    def begin_phases(self, account: Account, start_ns: int) -> tuple[int, int]:
        """Open the slices of a request's two phases; returns their sequence numbers. The receipt bears the first.

        The second is written first, so that whoever finds the first finds both.
        """
        with self._lock:
            first = next(self._numbers)
            second = self.record(account, 1.0, start_ns, 0, 0, PHASE)
            offset = _RECORDS_AT + (first % self._capacity) * 64
            owner, part, state = self._accounts.owner(account), second - first, PHASE | FOLLOWED
            _BEGIN.pack_into(self._map, offset, start_ns, 0, 1.0, owner, part, first + 1, 0, 0, 0, state)
        return first, second

    def touch(self, at_ns: int) -> None:
        """Say that this process is alive: what a meter that finds it dead has to go by."""
        _U64.pack_into(self._map, _SEEN_NS_AT, at_ns)

    def receipt_id(self, sequence: int) -> str:
        """The id under which the slice's receipt is found."""
        return f"{self.receipt_stem}{sequence:x}"

    def energy(self, sequence: int) -> tuple[int, int, bool] | None:
        """(energy_uj, grade bits, settled) as the meter booked it so far; None if the record was overwritten."""
        offset = _RECORDS_AT + (sequence % self._capacity) * 64
        number, energy_uj, _, grades, state = _NUMBER_AND_METER_PART.unpack_from(self._map, offset + _NUMBER_AT)
        return (energy_uj, grades, bool(state & SETTLED)) if number == sequence + 1 else None

    @property
    def slice_power_mw(self) -> float:
        """Mean power of a slice of this process lately, its accelerators together, as the meter found; 0: not known."""
        return float(_F64.unpack_from(self._map, _POWER_AT)[0])

    @property
    def slice_part(self) -> float:
        """Part of an accelerator's power that a slice gets while somebody works on it all the time; 0: not known."""
        return float(_F64.unpack_from(self._map, _PART_OF_POWER_AT)[0])

    @property
    def charged(self) -> Charged:
        """What the books have charged to this process so far."""
        return Charged(*_CHARGED.unpack_from(self._map, _CHARGED_AT))

    def close(self, at_ns: int) -> None:
        """Say that this process works no more. The file stays: receipts are read from it."""
        _U64.pack_into(self._map, _CLOSED_NS_AT, at_ns)

    def _allocate(self, at: int, size: int) -> None:
        with self.path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), at, size)


class RingReader:
    """The meter's end of one ring; also reads receipts of processes long gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        if len(self._map) < _RECORDS_AT:
            raise InvalidInput(f"{path} is no ring: it needs > {_RECORDS_AT} bytes, got {len(self._map)}; delete it")
        magic, self.capacity, pid, started_ticks, _, _ = _HEADER.unpack_from(self._map, 0)
        if magic != _MAGIC or not 0 < self.capacity * RECORD.itemsize <= len(self._map) - _RECORDS_AT:
            raise InvalidInput(f"{path} is not a ring of this version, got magic {magic!r}: delete it")
        self.header = self._read_header(ProcessKey(pid, started_ticks))
        self.ring_id = path.stem
        self.records: npt.NDArray[np.void] = np.frombuffer(self._map, RECORD, self.capacity, _RECORDS_AT)
        self._accounts = AccountLines(self._map, _FIRST_ACCOUNTS, _more_accounts(self.capacity))
        self.steps = StepReader(self._map, _steps(self.capacity))
        self._next = 0
        self.lost = 0
        """Records overwritten before they were read, or numbered and never written."""

    @property
    def closed_ns(self) -> int | None:
        """When the process closed its ring; None while it has not."""
        return int(_U64.unpack_from(self._map, _CLOSED_NS_AT)[0]) or None

    @property
    def last_sign_ns(self) -> int:
        """The latest time at which anything in the ring shows the process alive."""
        (seen_ns,) = _U64.unpack_from(self._map, _SEEN_NS_AT)
        return max(int(seen_ns), *(int(self.records[name].max()) for name in ("start_ns", "end_ns", "through_ns")))

    def show_slice_power(self, power_mw: float, part: float = 0.0) -> None:
        """Tell the process what a slice of it draws of its accelerators, for its provisional receipts."""
        _F64.pack_into(self._map, _POWER_AT, power_mw)
        _F64.pack_into(self._map, _PART_OF_POWER_AT, part)

    @property
    def charged(self) -> Charged:
        """What the books have charged to the process so far."""
        return Charged(*_CHARGED.unpack_from(self._map, _CHARGED_AT))

    def show_charged(self, charged: Charged) -> None:
        """Tell the process what the books have charged to it."""
        _CHARGED.pack_into(self._map, _CHARGED_AT, *charged)

    def account(self, owner: int) -> Account:
        """The account a record's `owner` stands for; the resident's where the table does not know it."""
        return self._accounts.at(owner) or self.header.resident.account

    def poll(self, final: bool = False) -> npt.NDArray[np.int64]:
        """Sequence numbers of the records begun since the last call, in order.

        A record that a stalled thread has numbered but not written holds back those after it until it is there;
        `final` (the process is dead, or has had its time) skips it.
        """
        numbers = self.records["number"]
        found: list[int] = []
        while True:
            number = int(numbers[self._next % self.capacity])
            if number > self._next + 1:  # overwritten: go on with the oldest that is still whole
                oldest = max(int(numbers.max()) - self.capacity, self._next)
                self.lost += oldest - self._next
                self._next = oldest
            elif number == self._next + 1:
                stop = self._next + self._run_length(numbers)
                found.extend(range(self._next, stop))
                self._next = stop
            elif final and (later := self._next_written(numbers)) is not None:
                self.lost += later - self._next
                self._next = later
            else:
                return np.array(found, dtype=np.int64)

    @property
    def has_hole(self) -> bool:
        """Whether a record is there that `poll` holds back, as one before it was numbered but never written."""
        ahead = (self._next + np.arange(min(_HOLE_REACH, self.capacity))) % self.capacity
        numbers = self.records["number"][ahead]
        return int(numbers[0]) <= self._next and int(numbers.max()) > self._next + 1

    def _run_length(self, numbers: npt.NDArray[np.uint64]) -> int:
        """How many records from `_next` on are consecutive, up to the end of the file."""
        slot = self._next % self.capacity
        run = numbers[slot:]
        wanted = np.arange(self._next + 1, self._next + 1 + len(run), dtype=np.uint64)
        if numbers[(slot + 1) % self.capacity] != self._next + 2:
            return 1
        different = np.flatnonzero(run != wanted)
        return int(different[0]) if len(different) else len(run)

    def _next_written(self, numbers: npt.NDArray[np.uint64]) -> int | None:
        later = numbers[numbers > self._next + 1]
        return int(later.min()) - 1 if len(later) else None

    def record(self, sequence: int) -> np.void:
        """The record of a slice. Raises NotFound once it was overwritten or if it never was."""
        row: np.void = self.records[sequence % self.capacity]
        if int(row["number"]) != sequence + 1:
            raise NotFound(
                f"receipt {sequence:x} of process {self.ring_id} is no longer kept (the last {self.capacity} are)"
            )
        return row

    def phases(self, sequence: int) -> list[np.void]:
        """The records of a receipt: one, or one for each phase of its request. Raises NotFound as `record` does."""
        rows = [self.record(sequence)]
        while int(rows[-1]["state"]) & FOLLOWED:
            sequence += int(rows[-1]["part"])
            rows.append(self.record(sequence))
        return rows

    def close(self) -> None:
        """Unmap the file."""
        self.records = np.empty(0, RECORD)
        with contextlib.suppress(BufferError):
            self._map.close()

    def _read_header(self, process: ProcessKey) -> RingHeader:
        (length,) = _LENGTH.unpack_from(self._map, _HEADER_JSON_AT)
        fields = orjson.loads(self._map[_HEADER_JSON_AT + 4 : _HEADER_JSON_AT + 4 + length])
        return RingHeader(
            machine=fields["machine"],
            boot=fields["boot"],
            node=fields["node"],
            resident=Resident(process, account_of_labels(fields["account"]), frozenset(fields["devices"])),
            gpu_share=fields["gpu_share"],
            host_share=fields["host_share"],
            born_ns=fields["born_ns"],
            worker=fields.get("worker", -1),
            cpu_ns=fields.get("cpu_ns", -1),
        )


def ring_paths(directory: Path) -> Iterator[Path]:
    """The rings in a directory; none if it does not exist."""
    return directory.glob("*.ring") if directory.is_dir() else iter(())
