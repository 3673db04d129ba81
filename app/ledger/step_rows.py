"""Step rows: how the energy of slices that last for many steps went over time, in a region at the end of a ring.

A step of continuous batching works for many requests at once, and each of them is in hundreds of steps. A slice for
each would push the receipts out of the ring in seconds; so a request has its slices once, open from its beginning to
its end (`state` PHASE), and what each step used for them is told here, in rows that are needed only until the meter
has booked them. The meter tells back how much each interval took, from which the process learns its prices. Knows
nothing of prices or of how energy is divided.

    writer.tell(start_ns, end_ns, [(sequence, power_mw), ...])      # in the replica
    rows = reader.poll()                                            # in the meter
    reader.show(Fact(start_ns, end_ns, energy_uj))                  # in the meter
    facts = writer.facts()                                          # in the replica

Rows become visible together, when their number is written. The region takes disk space only once it is used; an old
file without it has no rows.
"""

import mmap
import struct
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.ledger.account_tables import Region

STEP_ROW = np.dtype([("start_ns", "<u8"), ("end_ns", "<u8"), ("power_mw", "<f8"), ("sequence", "<u8")])
"""What one slice drew in one step, or in a few that are told together; `sequence` is that of its record."""

MAX_ROWS = 65_536
"""Rows kept: 64 sequences in 50 steps a second fill them in 20 s, ten times the settle lag."""
_FACTS = 64
_ROW = struct.Struct("<QQdQ")
_FACT = struct.Struct("<QQQ")
_U64 = struct.Struct("<Q")
_ROWS_TOLD_AT, _FACTS_TOLD_AT, _FACTS_AT = 0, 8, 64
_ROWS_AT = _FACTS_AT + _FACTS * _FACT.size
STEP_BYTES = _ROWS_AT + MAX_ROWS * _ROW.size
assert STEP_ROW.itemsize == _ROW.size  # noqa: S101 - an invariant of the file format

Rows = npt.NDArray[np.void]
NO_ROWS: Rows = np.empty(0, STEP_ROW)


class Fact(NamedTuple):
    """What the books charged to a process's phases over one interval of one of its devices."""

    start_ns: int
    end_ns: int
    energy_uj: int


class StepWriter:
    """The working process's end. Safe from several threads; never raises once the disk took the region."""

    def __init__(self, mapped: mmap.mmap, region: Region, allocate: Callable[[int, int], None]) -> None:
        """`allocate(at, size)` gives a part of the file its place on disk, or raises OSError."""
        self._map, self._at, self._allocate = mapped, region.at, allocate
        self._told = 0
        self._facts_read = 0
        self._usable: bool | None = None
        self._lock = threading.Lock()

    def tell(self, start_ns: int, end_ns: int, drawn: Iterable[tuple[int, float]]) -> bool:
        """What slices, by their sequence, drew from `start_ns` to `end_ns`, in milliwatts; False if the disk is full.

        Where no row is told of a time, the slices that are open share it by their own weights.
        """
        with self._lock:
            if self._usable is None:
                self._usable = self._backed()
            if not self._usable:
                return False
            number, pack, mapped, rows_at = self._told, _ROW.pack_into, self._map, self._at + _ROWS_AT
            for sequence, power_mw in drawn:
                pack(mapped, rows_at + number % MAX_ROWS * 32, start_ns, end_ns, power_mw, sequence)
                number += 1
            self._told = number
            _U64.pack_into(mapped, self._at + _ROWS_TOLD_AT, number)
        return True

    def facts(self) -> list[Fact]:
        """What the books have said since this was asked last, oldest first; the latest 64 at most."""
        told = int(_U64.unpack_from(self._map, self._at + _FACTS_TOLD_AT)[0])
        if told == self._facts_read:
            return []
        first = max(self._facts_read, told - _FACTS + 1)  # the oldest may be written over just now
        self._facts_read = told
        return [Fact(*_FACT.unpack_from(self._map, _fact_at(self._at, number))) for number in range(first, told)]

    def _backed(self) -> bool:
        try:
            self._allocate(self._at, STEP_BYTES)
        except OSError:
            return False
        return True


class StepReader:
    """The meter's end."""

    def __init__(self, mapped: mmap.mmap, region: Region) -> None:
        self._map, self._at = mapped, region.at
        self._exists = len(mapped) >= region.at + STEP_BYTES
        self._next = 0
        self.known_from_ns = 0
        """Rows of times before this may have been overwritten before they were read."""

    def poll(self) -> Rows:
        """Rows told since the last call, in order."""
        told = self._told
        if told == self._next:
            return NO_ROWS
        first = max(self._next, told - MAX_ROWS)
        rows = np.frombuffer(self._map, STEP_ROW, MAX_ROWS, self._at + _ROWS_AT)
        found: Rows = rows[np.arange(first, told) % MAX_ROWS]
        torn = max(0, self._told - MAX_ROWS - first)  # overwritten while they were copied
        if first + torn > self._next and len(found) > torn:
            self.known_from_ns = int(found["start_ns"][torn])
        self._next = told
        return found[torn:]

    def show(self, fact: Fact) -> None:
        """Tell the process what an interval took."""
        told = int(_U64.unpack_from(self._map, self._at + _FACTS_TOLD_AT)[0])
        _FACT.pack_into(self._map, _fact_at(self._at, told), *fact)
        _U64.pack_into(self._map, self._at + _FACTS_TOLD_AT, told + 1)

    @property
    def is_used(self) -> bool:
        """Whether the process has ever told a row."""
        return self._told > 0

    @property
    def _told(self) -> int:
        return int(_U64.unpack_from(self._map, self._at + _ROWS_TOLD_AT)[0]) if self._exists else 0


def _fact_at(region_at: int, number: int) -> int:
    return region_at + _FACTS_AT + number % _FACTS * _FACT.size
