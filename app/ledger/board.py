"""The board: one small mapped file in which a meter shows the present of its node, for provisional receipts.

The meter is its only writer; replicas read it without asking anybody. Nothing on it is ever booked. Knows nothing of
slices or accounts.

A board is `_HEADER` followed by one `_ENTRY` per device. The meter makes the version odd while it writes, so a reader
that sees the same even version before and after has a whole picture.
"""

import contextlib
import functools
import hashlib
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from app.ledger.pace import NO_PACE, Pace

_MAGIC = b"JKBOARD2"
_HEADER = struct.Struct("<8sQQdI4x")  # magic, version, updated_ns, intensity_g_per_kwh (PUE included), devices
_ENTRY = struct.Struct("<QIIdd4dd")  # uuid hash, is host, grade bits, power_mw, floor_mw, pace, working_mw
_BYTES = 65_536
MAX_DEVICES = (_BYTES - _HEADER.size) // _ENTRY.size


@dataclass(frozen=True, slots=True)
class Present:
    """One device now."""

    uuid_hash: int
    is_host: bool
    grades: int
    """Bit set of ring.GRADE_BITS."""
    power_mw: float
    floor_mw: float
    """Power when nobody works on it."""
    pace: Pace = NO_PACE
    """Of a host device."""
    working_mw: float = 0.0
    """Of an accelerator: power while somebody works on it all the time; 0: nobody did lately."""


@functools.cache
def uuid_hash(uuid: str) -> int:
    """64 bits standing for a device's UUID on the board."""
    return int.from_bytes(hashlib.blake2b(uuid.encode(), digest_size=8).digest(), "little")


class BoardWriter:
    """The meter's end."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _BYTES)
            self._map = mmap.mmap(descriptor, _BYTES)
        finally:
            os.close(descriptor)
        self._version = 0

    def write(self, now_ns: int, intensity_g_per_kwh: float, devices: list[Present]) -> None:
        """Show `devices` (at most MAX_DEVICES) as of `now_ns`."""
        shown = devices[:MAX_DEVICES]
        self._version += 2
        _HEADER.pack_into(self._map, 0, _MAGIC, self._version - 1, now_ns, intensity_g_per_kwh, len(shown))
        for index, present in enumerate(shown):
            _ENTRY.pack_into(
                self._map,
                _HEADER.size + index * _ENTRY.size,
                present.uuid_hash,
                present.is_host,
                present.grades,
                present.power_mw,
                present.floor_mw,
                *present.pace,
                present.working_mw,
            )
        _HEADER.pack_into(self._map, 0, _MAGIC, self._version, now_ns, intensity_g_per_kwh, len(shown))

    def close(self) -> None:
        """Leave the file; its age tells readers that nobody writes."""
        self._map.close()


class BoardReader:
    """A replica's end. Opening is retried by the caller: the board appears with the node's first meter."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES, access=mmap.ACCESS_READ)

    def updated_ns(self) -> int:
        """Monotonic time of the last write; 0 if there was none."""
        magic, _, updated_ns, _, _ = _HEADER.unpack_from(self._map, 0)
        return int(updated_ns) if magic == _MAGIC else 0

    def read(self) -> tuple[float, list[Present]] | None:
        """(intensity_g_per_kwh, devices); None while nothing whole is there."""
        for _ in range(3):
            magic, version, _, intensity, count = _HEADER.unpack_from(self._map, 0)
            if magic != _MAGIC or version % 2 or count > MAX_DEVICES:
                continue
            devices = [self._entry(index) for index in range(count)]
            if _HEADER.unpack_from(self._map, 0)[1] == version:
                return intensity, devices
        return None

    def _entry(self, index: int) -> Present:
        hashed, is_host, grades, power_mw, floor_mw, *pace, working_mw = _ENTRY.unpack_from(
            self._map, _HEADER.size + index * _ENTRY.size
        )
        return Present(hashed, bool(is_host), grades, power_mw, floor_mw, Pace(*pace), working_mw)

    def close(self) -> None:
        """Unmap the file."""
        with contextlib.suppress(BufferError):
            self._map.close()


def relevant(present: Present, hashes: frozenset[int]) -> bool:
    """True for host devices and for accelerators whose hash is in `hashes`."""
    return present.is_host or present.uuid_hash in hashes
