"""Slices as the working process sees them: opened and closed in about a microsecond, priced from the node's board.

One process, no Ray: the ring takes the slice, the board gives what a provisional receipt needs. Nothing here raises
or waits; what cannot be done is left out.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from app.clock import Clock
from app.domain.account import Account
from app.ledger.board import BoardReader, Present, relevant, uuid_hash
from app.ledger.ring import RingWriter, grades_text
from app.units import NS_PER_S, carbon_ug, energy_of_power

BOARD_STALE_NS = 5 * NS_PER_S
"""A board older than this says that no meter watches the node."""
_BOARD_CACHE_NS = NS_PER_S // 20


@dataclass(frozen=True, slots=True)
class SliceEnergy:
    """Energy of one slice as far as it is known."""

    energy_uj: int
    carbon_ugco2e: int
    grade: str
    """`counter`, `integrated`, `modelled`, or several joined by `+`."""
    provisional: bool
    """True until the meter has booked all of it."""


class BoardCache:
    """The board of this node, looked at every 50 ms at most."""

    def __init__(self, path: Path, device_uuids: frozenset[str], clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._hashes = frozenset(map(uuid_hash, device_uuids))
        self._reader: BoardReader | None = None
        self._seen: tuple[float, list[Present]] | None = None
        self._seen_ns = -_BOARD_CACHE_NS
        self._intensity = 0.0

    @property
    def intensity_g_per_kwh(self) -> float:
        """As last shown; 0 before any meter showed one."""
        return self._intensity

    def present(self) -> tuple[float, list[Present]] | None:
        """(intensity_g_per_kwh, this process's devices); None when no meter shows them."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._seen_ns >= _BOARD_CACHE_NS:
            self._seen_ns = now_ns
            self._seen = self._look(now_ns)
        return self._seen

    def is_stale(self) -> bool:
        """True when no meter has written for BOARD_STALE_NS."""
        return self._fresh_reader(self._clock.monotonic_ns()) is None

    def _look(self, now_ns: int) -> tuple[float, list[Present]] | None:
        reader = self._fresh_reader(now_ns)
        shown = reader.read() if reader else None
        if shown is None:
            return None
        self._intensity = shown[0]
        return shown[0], [present for present in shown[1] if relevant(present, self._hashes)]

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
        self._open = 0
        self._lock = threading.Lock()

    def begin(self, account: Account, weight: float, start_ns: int | None = None) -> "OpenSlice":
        """Open a slice now, or at an earlier `start_ns`."""
        with self._lock:
            self._open += 1
        begun_ns = self.clock.monotonic_ns() if start_ns is None else start_ns
        return OpenSlice(self, self.ring.begin(account, weight, begun_ns), begun_ns, self._open)

    def end(self, sequence: int, end_ns: int) -> None:
        """Close a slice."""
        self.ring.end(sequence, end_ns)
        with self._lock:
            self._open -= 1

    def touch(self) -> None:
        """Say that this process is alive; to be called every few seconds."""
        self.ring.touch(self.clock.monotonic_ns())

    def close(self) -> None:
        """No more slices from this process."""
        self.ring.close(self.clock.monotonic_ns())


class OpenSlice:
    """A slice of this process; ends once, then tells its energy."""

    __slots__ = ("_book", "_cpu_ns", "_ended_ns", "_sequence", "_sharers", "_start_ns", "_used_ns")

    def __init__(self, book: SliceBook | None, sequence: int = 0, start_ns: int = 0, sharers: int = 1) -> None:
        self._book, self._sequence, self._start_ns = book, sequence, start_ns
        self._sharers = sharers
        self._cpu_ns = time.process_time_ns() if book else 0
        self._ended_ns = 0
        self._used_ns = 0

    @property
    def receipt_id(self) -> str:
        """Under which the receipt is found; empty when metering is off."""
        return self._book.ring.receipt_id(self._sequence) if self._book else ""

    def end(self) -> None:
        """Close the slice; a second call does nothing."""
        if self._book is None or self._ended_ns:
            return
        self._ended_ns = self._book.clock.monotonic_ns()
        self._used_ns = time.process_time_ns() - self._cpu_ns
        self._book.end(self._sequence, self._ended_ns)

    def energy(self) -> SliceEnergy | None:
        """The settled figure if the meter has booked it, else an estimate; None if no meter tells anything."""
        if self._book is None:
            return None
        shown = self._book.board.present()
        booked = self._book.ring.energy(self._sequence)
        if booked is not None and booked[2]:
            carbon_ugco2e = carbon_ug(booked[0], self._book.board.intensity_g_per_kwh)
            return SliceEnergy(booked[0], carbon_ugco2e, grades_text(booked[1]), provisional=False)
        return self._estimate(*shown) if shown and shown[1] else None

    def _estimate(self, intensity_g_per_kwh: float, devices: list[Present]) -> SliceEnergy:
        """This slice's share of the power of its devices, over its duration so far."""
        duration_ns = (self._ended_ns or self._book.clock.monotonic_ns()) - self._start_ns if self._book else 0
        energy_uj, grades = 0.0, 0
        for device in devices:
            grades |= device.grades
            if device.is_host and device.uj_per_cpu_ns:
                energy_uj += device.uj_per_cpu_ns * self._used_ns
            elif device.is_host:
                energy_uj += energy_of_power(device.floor_mw, duration_ns)
            else:
                energy_uj += energy_of_power(device.power_mw, duration_ns)
        total_uj = round(energy_uj / max(1, self._sharers))
        return SliceEnergy(total_uj, carbon_ug(total_uj, intensity_g_per_kwh), grades_text(grades), provisional=True)
