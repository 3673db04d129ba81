"""Slices as the working process sees them: opened and closed in about two microseconds, priced from the node's board.

One process, no Ray: the ring takes the slice, the board gives what a provisional receipt needs. Nothing here raises
or waits; what cannot be done is left out.

An estimate is what attribution will most likely find: on the host the CPU time of the process while the slice was
open, at the pace that the board shows; on its accelerators the duration of the slice at the power of its slices lately,
which follows the present power where slices cover all of the time.
"""

from functools import reduce
from operator import or_
from pathlib import Path
from typing import NamedTuple

from app.clock import Clock
from app.domain.account import Account
from app.engine.shares import NO_SHARES, Shares, fair_shares
from app.ledger.board import BoardReader, Present, relevant, uuid_hash
from app.ledger.pace import priced_uj
from app.ledger.ring import RingWriter, grades_text
from app.units import NS_PER_S, energy_of_power, exact_carbon_ug

BOARD_STALE_NS = 5 * NS_PER_S
"""A board older than this says that no meter watches the node."""
_BOARD_CACHE_NS = NS_PER_S // 20
_CLOSE_NS = NS_PER_S // 10  # one reading at 10 Hz: what the process does around its slices in it is charged to them


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
    accelerators_mw: float
    """Present power of the accelerators it holds: what a slice draws of them as long as none has been booked."""
    working_mw: float
    """Their power while somebody works on them all the time; 0: nobody did lately."""
    hosts: tuple[Present, ...]
    grade: str


class Mark(NamedTuple):
    """A moment in the life of this process."""

    at_ns: int
    cpu_ns: int
    """CPU time used so far."""


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

    @property
    def exists(self) -> bool:
        """Whether any meter ever showed one here."""
        return self._path.exists()

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
        hosts = tuple(device for device in devices if device.is_host)
        power_mw = sum(device.power_mw for device in devices if not device.is_host)
        working_mw = sum(device.working_mw for device in devices if not device.is_host)
        grades = grades_text(reduce(or_, (device.grades for device in devices)))
        return Shown(self._intensity, power_mw, working_mw, hosts, grades)

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
        self._ended = Mark(-_CLOSE_NS, 0)
        self._told_uj = 0

    def mark(self) -> Mark:
        """This moment, for a slice that is opened now or a little later.

        Shortly after another slice CPU time counts from the end of that one, as the books have it.
        """
        now_ns, ended = self.clock.monotonic_ns(), self._ended
        return Mark(now_ns, ended.cpu_ns if now_ns - ended.at_ns < _CLOSE_NS else self.clock.cpu_ns())

    def begin(
        self,
        account: Account,
        weight: float,
        start_ns: int | None = None,
        part: int = 0,
        since: Mark | None = None,
    ) -> "OpenSlice":
        """Open a slice now, `since` an earlier mark, or, for the birth of the process, at `start_ns`.

        `part` is the epoch of a job, from 1, 0: none.
        """
        if start_ns is not None:
            return OpenSlice(self, self.ring.begin(account, weight, start_ns, part), Mark(start_ns, 0))
        begun = since or self.mark()
        return OpenSlice(self, self.ring.begin(account, weight, begun.at_ns, part), begun)

    def record(self, account: Account, weight: float, start_ns: int, end_ns: int, part: int = 0) -> "OpenSlice":
        """A slice that is over already; several of one interval share it by their weights."""
        return OpenSlice(self, self.ring.record(account, weight, start_ns, end_ns, part), Mark(start_ns, 0), end_ns)

    def now(self) -> Mark:
        """This moment as it is."""
        return Mark(self.clock.monotonic_ns(), self.clock.cpu_ns())

    def ended(self) -> Mark:
        """Note that a slice ends now."""
        self._ended = self.now()
        return self._ended

    def shares(self, told: SliceEnergy) -> Shares:
        """What a request that was `told` its energy carries of load and warm, of all requests told so far."""
        charged = self.ring.charged
        self._told_uj += told.energy_uj
        return fair_shares(charged, told.energy_uj, max(charged.request_uj, self._told_uj))

    def touch(self) -> None:
        """Say that this process is alive; to be called every few seconds."""
        self.ring.touch(self.clock.monotonic_ns())

    def close(self) -> None:
        """No more slices from this process."""
        self.ring.close(self.clock.monotonic_ns())

    def discard(self) -> None:
        """Delete the file; slices of this process still tell what they know."""
        self.ring.path.unlink(missing_ok=True)


_NO_MARK = Mark(0, 0)


class OpenSlice:
    """A slice of this process; ends once, then tells its energy."""

    __slots__ = ("_begun", "_book", "_ended", "_sequence")

    def __init__(
        self, book: SliceBook | None, sequence: int = 0, begun: Mark = _NO_MARK, ended_ns: int | None = None
    ) -> None:
        self._book, self._sequence, self._begun = book, sequence, begun
        # of work that is reported afterwards nobody has read the CPU clock: one busy CPU is as good a guess as any
        self._ended = None if ended_ns is None else Mark(ended_ns, begun.cpu_ns + ended_ns - begun.at_ns)

    @property
    def receipt_id(self) -> str:
        """Under which the receipt is found; empty when metering is off."""
        return self._book.ring.receipt_id(self._sequence) if self._book else ""

    def end(self) -> None:
        """Close the slice; a second call does nothing."""
        if self._book is None or self._ended:
            return
        self._ended = self._book.ended()
        self._book.ring.end(self._sequence, self._ended.at_ns)

    @property
    def duration_ns(self) -> int:
        """From its beginning to its end, or to now while it is open; 0 when metering is off."""
        return (self._ended or self._book.now()).at_ns - self._begun.at_ns if self._book else 0

    def assign(self, part: int) -> None:
        """Put the slice into another part of its job; certain only while no meter has booked any of it."""
        if self._book:
            self._book.ring.assign(self._sequence, part)

    @property
    def is_settled(self) -> bool:
        """Whether the meter has booked all of it; False too when its record is no longer kept."""
        booked = self._book.ring.energy(self._sequence) if self._book else None
        return booked is not None and booked[2]

    def energy(self) -> SliceEnergy | None:
        """The settled figure if the meter has booked it, else an estimate; None if no meter tells anything."""
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
        energy_uj = self._estimate_uj(book, shown)
        return SliceEnergy(energy_uj, exact_carbon_ug(energy_uj, shown.intensity_g_per_kwh), shown.grade, True)

    def shares(self, told: SliceEnergy) -> Shares:
        """What the request carries of load and warm of its process, when its energy is as `told`; to be asked once."""
        return self._book.shares(told) if self._book else NO_SHARES

    def _estimate_uj(self, book: SliceBook, shown: Shown) -> int:
        begun, until = self._begun, self._ended or book.now()
        duration_ns, cpu_ns = until.at_ns - begun.at_ns, until.cpu_ns - begun.cpu_ns
        energy_uj = 0.0
        for host in shown.hosts:
            energy_uj += priced_uj(host.pace, host.floor_mw, cpu_ns, duration_ns)
        if shown.accelerators_mw:
            power_mw = shown.working_mw and book.ring.slice_part * shown.working_mw
            energy_uj += energy_of_power(power_mw or book.ring.slice_power_mw or shown.accelerators_mw, duration_ns)
        return round(energy_uj)
