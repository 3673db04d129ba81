"""Slices as the working process sees them: opened and closed in about two microseconds, priced from the node's board.

One process, no Ray: the ring takes the slice, the board gives what a provisional receipt needs. Nothing here raises
or waits; what cannot be done is left out.

An estimate is what attribution will most likely find: on the host the CPU time of the process for the slice, at the
pace that the board shows; on its accelerators the duration of the slice at the power of its slices lately, which
follows the present power where slices cover all of the time.

Reading a process's CPU clock walks all of its threads, which in a replica takes longer than the rest of a slice: it is
read every few milliseconds (`CpuUse`), and the slices since then share what was used by their durations.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import NamedTuple

from app.clock import Clock
from app.domain.account import Account
from app.engine.shares import Shares, fair_shares
from app.ledger.board import BoardReader, Present, relevant, uuid_hash
from app.ledger.pace import priced_uj
from app.ledger.ring import RingWriter, grades_text
from app.units import NS_PER_MS, NS_PER_S, energy_of_power, exact_carbon_ug

BOARD_STALE_NS = 5 * NS_PER_S
"""A board older than this says that no meter watches the node."""
_BOARD_CACHE_NS = NS_PER_S // 20
_CPU_READ_NS = NS_PER_S // 200
_FRESH_NS = NS_PER_MS  # no meter books what ended less than this ago
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


class CpuUse:
    """CPU time of this process per time of its slices, renewed at the end of a slice every few milliseconds.

    While slices follow each other all that the process uses is theirs, what it does between them included, as the
    books have it; after a pause counting begins anew with the next slice.
    """

    __slots__ = ("_clock", "_cpu_ns", "_read_ns", "_seen_ns", "_worked_ns", "per_ns")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cpu_ns = self._read_ns = self._worked_ns = 0
        self._seen_ns = -_CLOSE_NS
        self.per_ns = 1.0
        """CPU nanoseconds of a nanosecond of a slice; until it is known, one busy CPU."""

    def begin(self, now_ns: int) -> None:
        """A slice begins."""
        if now_ns - self._seen_ns >= _CLOSE_NS:
            self._restart(now_ns)
        self._seen_ns = now_ns

    def end(self, begun_ns: int, now_ns: int) -> float:
        """A slice that began at `begun_ns` ends; returns the CPU nanoseconds it used."""
        self._seen_ns = now_ns
        counted_ns = now_ns - (begun_ns if begun_ns > self._read_ns else self._read_ns)
        if counted_ns > 0:
            self._worked_ns += counted_ns
        if now_ns - self._read_ns >= _CPU_READ_NS:
            self._renew(now_ns, self._worked_ns)
        return self.per_ns * (now_ns - begun_ns)

    def look(self, begun_ns: int, now_ns: int) -> float:
        """CPU nanoseconds that a slice used so far which began at `begun_ns` and is still open."""
        self._renew(now_ns, self._worked_ns + now_ns - max(begun_ns, self._read_ns))
        return self.per_ns * (now_ns - begun_ns)

    def _renew(self, now_ns: int, worked_ns: int) -> None:
        before_ns = self._cpu_ns
        self._restart(now_ns)
        if worked_ns > 0:
            self.per_ns = (self._cpu_ns - before_ns) / worked_ns

    def _restart(self, now_ns: int) -> None:
        self._read_ns, self._cpu_ns, self._worked_ns = now_ns, self._clock.cpu_ns(), 0


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
    def accelerators(self) -> int:
        """How many this process holds."""
        return len(self._hashes)

    @property
    def intensity_g_per_kwh(self) -> float:
        """As last shown; 0 before any meter showed one."""
        return self._intensity

    @property
    def exists(self) -> bool:
        """Whether any meter ever showed one here."""
        return self._path.exists()

    def present(self, now_ns: int | None = None) -> Shown | None:
        """The present of this process's devices; None when no meter shows them."""
        if now_ns is None:
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
        self.cpu = CpuUse(clock)
        self._told_uj = 0

    def mark(self) -> int:
        """This moment, for a slice that is opened a little later and begins now."""
        now_ns = self.clock.monotonic_ns()
        self.cpu.begin(now_ns)
        return now_ns

    def begin(self, account: Account, weight: float, start_ns: int | None = None, part: int = 0) -> "OpenSlice":
        """Open a slice now, or since `start_ns`: a mark, or the birth of the process.

        `part` is the epoch of a job, from 1, 0: none.
        """
        begun_ns = self.mark() if start_ns is None else start_ns
        return OpenSlice(self, self.ring.begin(account, weight, begun_ns, part), begun_ns)

    def done(self, account: Account, weight: float, start_ns: int) -> "OpenSlice":
        """The slice of work that began at a mark and is over now."""
        now_ns = self.clock.monotonic_ns()
        piece = OpenSlice(self, self.ring.record(account, weight, start_ns, now_ns), start_ns)
        piece._ended_ns, piece._cpu_ns = now_ns, self.cpu.end(start_ns, now_ns)
        return piece

    def record(
        self, shared: Sequence[tuple[Account, float]], start_ns: int, end_ns: int, part: int = 0
    ) -> "list[OpenSlice]":
        """Slices of one interval that is over already: one for each account and weight that shared it, in order."""
        self.cpu.begin(end_ns)
        cpu_ns = self.cpu.end(start_ns, end_ns)
        whole = sum(weight for _, weight in shared)
        pieces = []
        for account, weight in shared:
            sequence = self.ring.record(account, weight, start_ns, end_ns, part)
            piece = OpenSlice(self, sequence, start_ns, len(shared), weight / whole)
            piece.close(end_ns, cpu_ns)
            pieces.append(piece)
        return pieces

    def begin_together(self, shared: Sequence[tuple[Account, float]], start_ns: int) -> "list[OpenSlice]":
        """Open slices of one interval that began at `start_ns`, a mark: one for each account and weight that shares it.

        A batch that runs longer than the settle lag is seen by the meter, and outlives its process, as any slice.
        """
        whole, count = sum(weight for _, weight in shared), len(shared)
        return [
            OpenSlice(self, self.ring.begin(account, weight, start_ns), start_ns, count, weight / whole)
            for account, weight in shared
        ]

    def end_together(self, pieces: "Sequence[OpenSlice]") -> None:
        """End the slices of one interval, all at the same moment."""
        if not pieces:
            return
        now_ns = self.clock.monotonic_ns()
        cpu_ns = self.cpu.end(now_ns - pieces[0].duration_ns, now_ns)
        for piece in pieces:
            piece.end_at(now_ns, cpu_ns)

    def worth_uj(self, start_ns: int, end_ns: int, accelerator_mw: float) -> float:
        """What attribution will most likely find of all that this process did in an interval that is over just now.

        `accelerator_mw` is what it drew of each accelerator that it holds, if that is known; 0: as the board shows. 0
        while no meter shows anything.
        """
        self.cpu.begin(end_ns)
        cpu_ns = self.cpu.end(start_ns, end_ns)
        shown = self.board.present()
        if shown is None:
            return 0.0
        duration_ns = end_ns - start_ns
        energy_uj = sum(priced_uj(host.pace, host.floor_mw, cpu_ns, duration_ns) for host in shown.hosts)
        if shown.accelerators_mw:
            power_mw = accelerator_mw * self.board.accelerators or shown.working_mw or shown.accelerators_mw
            energy_uj += energy_of_power(power_mw, duration_ns)
        return energy_uj

    def shares(self, energy_uj: int) -> Shares:
        """What a request that was told `energy_uj` carries of load and warm, of all requests told so far.

        To be asked once for a request.
        """
        charged = self.ring.charged
        self._told_uj += energy_uj
        told_uj = self._told_uj
        return fair_shares(charged, energy_uj, charged.request_uj if charged.request_uj > told_uj else told_uj)

    def touch(self) -> None:
        """Say that this process is alive; to be called every few seconds."""
        self.ring.touch(self.clock.monotonic_ns())

    def close(self) -> None:
        """No more slices from this process."""
        self.ring.close(self.clock.monotonic_ns())

    def discard(self) -> None:
        """Delete the file; slices of this process still tell what they know."""
        self.ring.path.unlink(missing_ok=True)


class OpenSlice:
    """A slice of this process; ends once, then tells its energy."""

    __slots__ = ("_begun_ns", "_book", "_count", "_cpu_ns", "_ended_ns", "_sequence", "_share")

    def __init__(
        self, book: SliceBook | None, sequence: int = 0, begun_ns: int = 0, count: int = 1, share: float = 1.0
    ) -> None:
        """`share` is its part of the weight of the `count` slices that were recorded for one interval."""
        self._book, self._sequence, self._begun_ns = book, sequence, begun_ns
        self._count, self._share = count, share
        self._ended_ns: int | None = None
        self._cpu_ns = 0.0

    @property
    def receipt_id(self) -> str:
        """Under which the receipt is found; empty when metering is off."""
        return self._book.ring.receipt_id(self._sequence) if self._book else ""

    def end(self) -> None:
        """Close the slice; a second call does nothing."""
        book = self._book
        if book is None or self._ended_ns is not None:
            return
        now_ns = self._ended_ns = book.clock.monotonic_ns()
        self._cpu_ns = book.cpu.end(self._begun_ns, now_ns)
        book.ring.end(self._sequence, now_ns)

    def end_at(self, ended_ns: int, cpu_ns: float) -> None:
        """Close the slice at `ended_ns`, when the CPU time of its interval is known."""
        if self._book is not None:
            self.close(ended_ns, cpu_ns)
            self._book.ring.end(self._sequence, ended_ns)

    def close(self, ended_ns: int, cpu_ns: float) -> None:
        """Note the end, which its record tells, too, and the CPU time of the interval."""
        self._ended_ns, self._cpu_ns = ended_ns, cpu_ns

    @property
    def duration_ns(self) -> int:
        """From its beginning to its end, or to now while it is open; 0 when metering is off."""
        if self._book is None:
            return 0
        return (self._book.clock.monotonic_ns() if self._ended_ns is None else self._ended_ns) - self._begun_ns

    def assign(self, part: int) -> None:
        """Put the slice into another part of its job; certain only while no meter has booked any of it."""
        if self._book:
            self._book.ring.assign(self._sequence, part)

    @property
    def is_settled(self) -> bool:
        """Whether the meter has booked all of it; False too when its record is no longer kept."""
        booked = self._book.ring.energy(self._sequence) if self._book else None
        return booked is not None and booked[2]

    @property
    def booked_uj(self) -> int:
        """What the meter has charged to it up to now, open or ended: all of it once it is settled."""
        told = self._book.ring.energy(self._sequence) if self._book else None
        return told[0] if told else 0

    def energy(self) -> SliceEnergy | None:
        """The settled figure if the meter has booked it, else an estimate; None if no meter tells anything."""
        book = self._book
        if book is None:
            return None
        now_ns = book.clock.monotonic_ns()
        shown = book.board.present(now_ns)
        ended_ns = self._ended_ns
        is_fresh = ended_ns is None or now_ns - ended_ns < _FRESH_NS
        booked = None if is_fresh else book.ring.energy(self._sequence)
        if booked is not None and booked[2]:
            carbon_ugco2e = exact_carbon_ug(booked[0], book.board.intensity_g_per_kwh)
            return SliceEnergy(booked[0], carbon_ugco2e, grades_text(booked[1]), False)
        if shown is None:
            return None
        energy_uj = self._estimate_uj(book, shown, now_ns)
        return SliceEnergy(energy_uj, exact_carbon_ug(energy_uj, shown.intensity_g_per_kwh), shown.grade, True)

    def receipt(self) -> dict[str, bool | int | float | str]:
        """What a request that is over is told: `receipt_id`, the fields of `SliceEnergy`, carbon rounded, and what it
        carries of load and warm of its process. To be asked once.

        Empty with metering off, without figures while no meter tells any.
        """
        book = self._book
        if book is None:
            return {}
        receipt_id = f"{book.ring.receipt_stem}{self._sequence:x}"
        told = self.energy()
        if told is None:
            return {"receipt_id": receipt_id, "provisional": True}
        energy_uj, carbon_ugco2e, grade, provisional = told
        load_share_uj, warm_share_uj = book.shares(energy_uj)
        return {
            "receipt_id": receipt_id,
            "energy_uj": energy_uj,
            "carbon_ugco2e": round(carbon_ugco2e),
            "grade": grade,
            "provisional": provisional,
            "load_share_uj": load_share_uj,
            "warm_share_uj": warm_share_uj,
        }

    def _estimate_uj(self, book: SliceBook, shown: Shown, now_ns: int) -> int:
        if self._ended_ns is None:
            duration_ns, cpu_ns = now_ns - self._begun_ns, book.cpu.look(self._begun_ns, now_ns)
        else:
            duration_ns, cpu_ns = self._ended_ns - self._begun_ns, self._cpu_ns
        energy_uj = 0.0
        for host in shown.hosts:
            energy_uj += self._share * priced_uj(host.pace, host.floor_mw, cpu_ns, duration_ns)
        if shown.accelerators_mw:
            power_mw = shown.working_mw and book.ring.slice_part * shown.working_mw
            power_mw = power_mw or book.ring.slice_power_mw
            # what the meter found is of a mean slice, what the board shows of all of them
            part = self._count * self._share if power_mw else self._share
            energy_uj += part * energy_of_power(power_mw or shown.accelerators_mw, duration_ns)
        return round(energy_uj)
