"""Slices as the working process sees them: opened and closed in about a microsecond, priced from the node's board.

One process, no Ray: the ring takes the slice, the board gives what a provisional receipt needs. Nothing here raises
or waits; what cannot be done is left out.
"""

from functools import reduce
from operator import or_
from pathlib import Path
from typing import NamedTuple

from app.clock import Clock
from app.domain.account import Account
from app.ledger.board import BoardReader, relevant, uuid_hash
from app.ledger.ring import RingWriter, grades_text
from app.units import NS_PER_S, energy_of_power, exact_carbon_ug

BOARD_STALE_NS = 5 * NS_PER_S
"""A board older than this says that no meter watches the node."""
_BOARD_CACHE_NS = NS_PER_S // 20


class SliceEnergy(NamedTuple):
    """Energy of one slice as far as it is known."""

    energy_uj: int
    carbon_ugco2e: float
    """Not rounded: a step of training emits less than a microgram, an epoch does not."""
    grade: str
    """`counter`, `integrated`, `modelled`, or several joined by `+`."""
    provisional: bool
    """True until the meter has booked all of it."""


class Shown(NamedTuple):
    """What the board says to this process."""

    intensity_g_per_kwh: float
    power_mw: float
    """Present power of the accelerators it holds and the floor of the host: what a slice draws as long as the
    meter has not seen one of this process settled."""
    grade: str


class BoardCache:
    """The board of this node, looked at every 50 ms at most."""

    def __init__(self, path: Path, device_uuids: frozenset[str], clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._hashes = frozenset(map(uuid_hash, device_uuids))
        self._reader: BoardReader | None = None
        self._seen: Shown | None = None
        self._seen_ns = -_BOARD_CACHE_NS
        self._intensity = 0.0

    @property
    def intensity_g_per_kwh(self) -> float:
        """As last shown; 0 before any meter showed one."""
        return self._intensity

    def present(self) -> Shown | None:
        """The present of this process's devices; None when no meter shows them."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._seen_ns >= _BOARD_CACHE_NS:
            self._seen_ns = now_ns
            self._seen = self._look(now_ns)
        return self._seen

    def is_stale(self) -> bool:
        """True when no meter has written for BOARD_STALE_NS."""
        return self._fresh_reader(self._clock.monotonic_ns()) is None

    def _look(self, now_ns: int) -> Shown | None:
        reader = self._fresh_reader(now_ns)
        board = reader.read() if reader else None
        if board is None:
            return None
        self._intensity = board[0]
        devices = [present for present in board[1] if relevant(present, self._hashes)]
        if not devices:
            return None
        power_mw = sum(device.floor_mw if device.is_host else device.power_mw for device in devices)
        return Shown(self._intensity, power_mw, grades_text(reduce(or_, (device.grades for device in devices))))

    def _fresh_reader(self, now_ns: int) -> BoardReader | None:
        """The board while a meter writes it. A stale one is opened anew each time: its file may have been replaced."""
        reader = self._reader
        if reader is None or now_ns - reader.updated_ns() > BOARD_STALE_NS:
            try:
                reader = self._reader = BoardReader(self._path)
            except (OSError, ValueError):
                return None
        return reader if now_ns - reader.updated_ns() <= BOARD_STALE_NS else None


class SliceBook:
    """The open and closed slices of this process."""

    def __init__(self, ring: RingWriter, board: BoardCache, clock: Clock) -> None:
        self.ring, self.board, self.clock = ring, board, clock

    def begin(self, account: Account, weight: float, start_ns: int | None = None) -> "OpenSlice":
        """Open a slice now, or at an earlier `start_ns`."""
        begun_ns = self.clock.monotonic_ns() if start_ns is None else start_ns
        return OpenSlice(self, self.ring.begin(account, weight, begun_ns), begun_ns)

    def touch(self) -> None:
        """Say that this process is alive; to be called every few seconds."""
        self.ring.touch(self.clock.monotonic_ns())

    def close(self) -> None:
        """No more slices from this process."""
        self.ring.close(self.clock.monotonic_ns())


class OpenSlice:
    """A slice of this process; ends once, then tells its energy."""

    __slots__ = ("_book", "_ended_ns", "_sequence", "_start_ns")

    def __init__(self, book: SliceBook | None, sequence: int = 0, start_ns: int = 0) -> None:
        self._book, self._sequence, self._start_ns = book, sequence, start_ns
        self._ended_ns = 0

    @property
    def receipt_id(self) -> str:
        """Under which the receipt is found; empty when metering is off."""
        return self._book.ring.receipt_id(self._sequence) if self._book else ""

    def end(self) -> None:
        """Close the slice; a second call does nothing."""
        if self._book is None or self._ended_ns:
            return
        self._ended_ns = self._book.clock.monotonic_ns()
        self._book.ring.end(self._sequence, self._ended_ns)

    def energy(self) -> SliceEnergy | None:
        """The settled figure if the meter has booked it, else an estimate; None if no meter tells anything.

        The estimate is the slice's duration times what a slice of this process drew lately.
        """
        book = self._book
        if book is None:
            return None
        shown = book.board.present()
        booked = book.ring.energy(self._sequence)
        if booked is not None and booked[2]:
            carbon_ugco2e = exact_carbon_ug(booked[0], book.board.intensity_g_per_kwh)
            return SliceEnergy(booked[0], carbon_ugco2e, grades_text(booked[1]), False)
        if shown is None:
            return None
        duration_ns = (self._ended_ns or book.clock.monotonic_ns()) - self._start_ns
        energy_uj = energy_of_power(book.ring.slice_power_mw or shown.power_mw, duration_ns)
        return SliceEnergy(energy_uj, exact_carbon_ug(energy_uj, shown.intensity_g_per_kwh), shown.grade, True)
