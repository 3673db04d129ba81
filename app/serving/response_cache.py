"""Answers kept for requests that come again, bit by bit the same: bounded in bytes and in age, apart for each tenant.

Knows nothing of wires or accounts; what an answer is worth is told with it. It lives and dies with its replica. A key
is a digest (BLAKE2b, 256 bits) of the tenant, the inputs as decoded and the outputs asked for; the version need not be
in it, as a cache belongs to one.

    cache = ResponseCache(max_bytes=64_000_000, ttl_s=300, clock=clock)
    key = key_of("acme", inputs, outputs=())
    cache.put(key, outputs, origin)
    cache.get(key)                               # Kept(outputs, origin), or None
"""

import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

import numpy as np

from app.clock import Clock
from app.units import NS_PER_S

Origin = TypeVar("Origin")
Arrays = Mapping[str, np.ndarray]

_ENTRY_BYTES = 1024
"""What an entry takes beside its tensors: key, links, origin, and an array's own record for a few outputs."""


@dataclass(frozen=True, slots=True)
class Kept(Generic[Origin]):
    """An answer. Its arrays are read-only: every hit gives the same ones."""

    outputs: Arrays
    origin: Origin
    size_bytes: int
    until_ns: int


def key_of(tenant: str, inputs: Arrays, outputs: Sequence[str]) -> bytes:
    """The digest; the order in which inputs came does not matter, that of the outputs asked for does."""
    digest = blake2b(digest_size=32)
    _add(digest, tenant.encode())
    for name in sorted(inputs):
        array = inputs[name]
        _add(digest, f"{name}\0{array.dtype.str}{array.shape}".encode())
        if array.dtype.hasobject:
            for item in array.reshape(-1):
                _add(digest, item)
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    for name in outputs:
        _add(digest, name.encode())
    return digest.digest()


class ResponseCache(Generic[Origin]):
    """Least recently used leaves first. Used from one thread."""

    def __init__(self, max_bytes: int, ttl_s: float, clock: Clock) -> None:
        self._max_bytes, self._ttl_ns, self._clock = max_bytes, round(ttl_s * NS_PER_S), clock
        self._kept: OrderedDict[bytes, Kept[Origin]] = OrderedDict()
        self.size_bytes = 0
        """Of all that is kept; never more than the bound."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> Kept[Origin] | None:
        """What was kept for `key` and is not too old."""
        kept = self._kept.get(key)
        if kept is not None and kept.until_ns <= self._clock.monotonic_ns():
            self._remove(key)
            kept = None
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept

    def put(self, key: bytes, outputs: Arrays, origin: Origin) -> None:
        """Keep copies of `outputs`, in place of what was kept for `key`; not at all what exceeds the bound alone."""
        size_bytes = _ENTRY_BYTES + sum(map(_size_bytes, outputs.values()))
        if size_bytes > self._max_bytes:
            return
        self._remove(key)
        while self.size_bytes + size_bytes > self._max_bytes:
            self._remove(next(iter(self._kept)))
        until_ns = self._clock.monotonic_ns() + self._ttl_ns
        self._kept[key] = Kept({name: _own(array) for name, array in outputs.items()}, origin, size_bytes, until_ns)
        self.size_bytes += size_bytes

    def _remove(self, key: bytes) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self.size_bytes -= gone.size_bytes


def _add(digest: "blake2b", part: bytes) -> None:
    # preceded by its length, so that no two sequences of parts give the same bytes
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)


def _size_bytes(array: np.ndarray) -> int:
    if not array.dtype.hasobject:
        return array.nbytes
    return array.nbytes + sum(map(sys.getsizeof, array.reshape(-1)))


def _own(array: np.ndarray) -> np.ndarray:
    """A copy: a view would keep the outputs of its whole batch."""
    copy = np.array(array, order="C", copy=True)
    copy.flags.writeable = False
    return copy
