"""The accounts of a ring: written once each by the working process, read by the meter, told by their place.

Two regions of JSON lines, each behind the length of what is written, only ever appended: a small one with every ring,
and a large one at the end of the file that takes disk space only when it is used. Knows nothing of slices.

    tables = AccountTables(mapped, first, more, path)
    owner = tables.owner(account)                        # in the working process
    AccountLines(mapped, first, more).at(owner)          # in the meter
"""

import mmap
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from app.domain.account import Account, AccountName

OTHERS = "(others)"
"""Tenant, or job, of work whose account found no place in the tables of its process."""
_RESERVED_BYTES = 4096  # of the last lines: for those that stand for all which found no place
_REMEMBERED = 65_536
_STEP = 65_536
_LENGTH = struct.Struct("<I")


def account_of_labels(labels: dict[str, Any]) -> Account:
    """The account whose `labels()` these are."""
    return Account(**{**labels, "name": AccountName(labels["name"])})


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes [at, at + size) of the file."""

    at: int
    size: int


class _Lines:
    """The lines of one region as they are appended; the length is written last."""

    def __init__(self, mapped: mmap.mmap, region: Region, backed: int) -> None:
        self._map, self.region = mapped, region
        self.backed = backed
        """How many of its bytes have their place on disk."""
        self.used = 0

    def append(self, line: bytes, reserved: int) -> bool:
        """Write `line`; False if that would leave less than `reserved` bytes."""
        start = self.region.at + 4 + self.used
        if 4 + self.used + len(line) + reserved > self.region.size:
            return False
        self._map[start : start + len(line)] = line
        self.used += len(line)
        _LENGTH.pack_into(self._map, self.region.at, self.used)
        return True


class AccountTables:
    """The working process's end. Safe from several threads."""

    def __init__(self, mapped: mmap.mmap, first: Region, more: Region, allocate: Callable[[int, int], None]) -> None:
        """`allocate(at, size)` gives a part of the file its place on disk, or raises OSError."""
        self._first, self._more = _Lines(mapped, first, first.size), _Lines(mapped, more, 0)
        self._allocate = allocate
        self._owners: dict[Account, int] = {}
        self._written = 0
        self._lock = threading.Lock()

    def owner(self, account: Account) -> int:
        """The account's place, made if it is new; that of all others where there is no room for it."""
        with self._lock:
            if account in self._owners:
                return self._owners[account]
            placed = self._place(account, _RESERVED_BYTES)
            if placed is None:
                others = replace(account, job=OTHERS) if account.job else replace(account, tenant=OTHERS)
                placed = self._owners.get(others)
                placed = self._place(others, 0) if placed is None else placed
            placed = placed or 0  # not even those: the process's first account rather than failing the work
            if len(self._owners) < _REMEMBERED:
                self._owners[account] = placed
            return placed

    def _place(self, account: Account, reserved: int) -> int | None:
        """Write `account` where there is room for it and `reserved` bytes beside; None if there is none."""
        line = orjson.dumps(account.labels()) + b"\n"
        fits = not self._more.used and self._first.append(line, 0)
        if not fits and not (self._is_backed(len(line)) and self._more.append(line, reserved)):
            return None
        self._owners[account] = self._written
        self._written += 1
        return self._owners[account]

    def _is_backed(self, needed: int) -> bool:
        """Whether the next `needed` bytes of the second region have their place on disk, made if they have not."""
        more = self._more
        if 4 + more.used + needed > more.backed:
            backed = min(more.backed + _STEP, more.region.size)
            try:
                self._allocate(more.region.at, backed)
            except OSError:
                return False
            more.backed = backed
        return 4 + more.used + needed <= more.backed


class AccountLines:
    """The meter's end."""

    def __init__(self, mapped: mmap.mmap, first: Region, more: Region) -> None:
        self._map, self._regions = mapped, (first, more)
        self._read = [0, 0]
        self._accounts: list[Account] = []

    def at(self, owner: int) -> Account | None:
        """The account in a place; None where there is none."""
        if owner >= len(self._accounts):
            lengths = [self._length(region) for region in reversed(self._regions)]
            for number, length in enumerate(reversed(lengths)):  # the second only grows once the first does not
                self._take_in(number, length)
        return self._accounts[owner] if owner < len(self._accounts) else None

    def _length(self, region: Region) -> int:
        """Bytes of lines in a region; 0 where the file, an old one, has no such region."""
        return int(_LENGTH.unpack_from(self._map, region.at)[0]) if len(self._map) >= region.at + 4 else 0

    def _take_in(self, number: int, length: int) -> None:
        start = self._regions[number].at + 4
        fresh = self._map[start + self._read[number] : start + length]
        self._read[number] = max(length, self._read[number])
        self._accounts += [account_of_labels(orjson.loads(line)) for line in fresh.splitlines()]
