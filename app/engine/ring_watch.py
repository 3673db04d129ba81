"""The rings of a node as its meter sees them: which slices may touch an interval, and what energy they got.

Opens the ring of every process, follows its slices until they are settled, and notices when a process died. Knows
nothing of sensors, nor of how energy is divided.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain.account import AccountName
from app.domain.reading import Delta, Device
from app.domain.slice import ProcessKey
from app.errors import InvalidInput
from app.ledger.attribution import Claim
from app.ledger.ring import GRADE_BITS, SETTLED, RingReader, ring_paths
from app.units import NS_PER_S, power_of_energy

_FAR_NS = np.iinfo(np.int64).max
_WEIGHT_BOUNDS = (1e-9, 1e18)
_DEAD_RINGS_KEPT = 64
_KEEP = 0.9
_LIST_EVERY_NS = NS_PER_S  # a directory's time stamp is too coarse to tell two changes within a few ms

Alive = Callable[[ProcessKey], bool]


class WatchedRing:
    """One ring with the slices that are not settled yet."""

    def __init__(self, reader: RingReader) -> None:
        self.reader = reader
        self.header = reader.header
        self.ended_ns: int | None = None
        """When the process closed its ring or was found dead."""
        self._seen_alive = False
        self._active: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._credit: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._grades: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._energy_uj = self._time_ns = 0.0

    @property
    def open_count(self) -> int:
        """Slices followed and not settled."""
        return len(self._active)

    def poll(self, now_ns: int, alive: Alive) -> None:
        """Take in new slices; on the process's end, end its open slices with it."""
        if self.ended_ns is None:
            closed_ns = self.reader.closed_ns
            if closed_ns is not None or not alive(self.header.resident.process):
                self.ended_ns = closed_ns or (now_ns if self._seen_alive else self._last_sign_ns(now_ns))
        self._seen_alive = True
        fresh = self.reader.poll(final=self.ended_ns is not None)
        if len(fresh):
            self._active = np.concatenate((self._active, fresh))
            self._credit = np.concatenate((self._credit, np.zeros(len(fresh), np.int64)))
            self._grades = np.concatenate((self._grades, np.zeros(len(fresh), np.uint32)))
        if len(self._active) > self.reader.capacity:  # nothing commits, as no device can be read
            self._keep(self.reader.records["number"][self._slots()] == self._active.astype(np.uint64) + 1)
        if self.ended_ns is not None and len(self._active):
            slots = self._slots()
            still_open = slots[self.reader.records["end_ns"][slots] == 0]
            self.reader.records["end_ns"][still_open] = self.ended_ns

    def _last_sign_ns(self, now_ns: int) -> int:
        """When a process that was found dead at the first look worked last: who knows how long it has been dead."""
        return min(now_ns, max(self.header.born_ns, self.reader.last_sign_ns))

    def claim(self, delta: Delta, used: float | None) -> tuple[Claim, npt.NDArray[np.int64]] | None:
        """What this process may claim of `delta`, with the positions of its slices for `credit`."""
        resident = self.header.resident
        if not delta.device.kind.is_host and delta.device.uuid not in resident.device_uuids:
            return None
        share = self.header.host_share if delta.device.kind.is_host else self.header.gpu_share
        share *= self._residency(delta)
        rows = self.reader.records[self._slots()]
        starts = rows["start_ns"].astype(np.int64)
        ends = np.where(rows["end_ns"] == 0, _FAR_NS, rows["end_ns"]).astype(np.int64)
        whole = rows["number"] == self._active.astype(np.uint64) + 1
        positions = np.flatnonzero((starts < delta.end_ns) & (ends > delta.start_ns) & whole)
        if not len(positions) and not share and not used:
            return None
        claim = Claim(
            resident.account,
            share,
            used,
            starts[positions],
            ends[positions],
            np.nan_to_num(rows["weight"][positions].astype(np.float64)).clip(*_WEIGHT_BOUNDS),
        )
        return claim, positions

    def _residency(self, delta: Delta) -> float:
        """Part of the interval in which the process lived, 0..1."""
        until_ns = delta.end_ns if self.ended_ns is None else min(self.ended_ns, delta.end_ns)
        return max(0, until_ns - max(self.header.born_ns, delta.start_ns)) / delta.duration_ns

    def credit(self, positions: npt.NDArray[np.int64], parts: npt.NDArray[np.int64], delta: Delta) -> None:
        """Remember energy for slices until the next commit."""
        self._credit[positions] += parts
        self._grades[positions] |= np.uint32(GRADE_BITS[delta.device.grade])

    def charges(self, positions: npt.NDArray[np.int64], parts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """(owner index, energy) sums of `parts` by the account of each slice."""
        owners = self.reader.records["owner"][self._slots()[positions]]
        for owner in np.unique(owners):
            yield int(owner), int(parts[owners == owner].sum())

    def commit(self, through_ns: int) -> None:
        """Write the energy into the records and let go of slices that ended before `through_ns`."""
        if not len(self._active):
            return
        slots = self._slots()
        records = self.reader.records
        whole = records["number"][slots] == self._active.astype(np.uint64) + 1
        kept = slots[whole]
        records["energy_uj"][kept] += self._credit[whole].astype(np.uint64)
        records["grades"][kept] |= self._grades[whole]
        records["through_ns"][kept] = through_ns
        self._credit[:] = 0
        ends = records["end_ns"][slots]
        done = whole & (ends != 0) & (ends <= through_ns)
        self._learn_power(records[slots[done]])
        records["state"][slots[done]] |= SETTLED
        self._keep(whole & ~done)

    def _learn_power(self, settled: npt.NDArray[np.void]) -> None:
        """Mean power of this process's slices over about the last ten commits; loads are another kind of work."""
        loads = [owner for owner in np.unique(settled["owner"]) if self._is_load(int(owner))]
        rows = settled[~np.isin(settled["owner"], loads)]
        if not len(rows):
            return
        self._energy_uj = self._energy_uj * _KEEP + float(rows["energy_uj"].sum())
        self._time_ns = self._time_ns * _KEEP + float((rows["end_ns"] - rows["start_ns"]).sum())
        if self._time_ns:
            self.reader.show_slice_power(power_of_energy(round(self._energy_uj), round(self._time_ns)))

    def _is_load(self, owner: int) -> bool:
        return self.reader.account(owner).name is AccountName.LOAD

    def skip_settled(self) -> None:
        """After a restart: forget what an earlier life of the meter settled, and what it read before it was lost."""
        settled = (self.reader.records["state"][self._slots()] & SETTLED) != 0
        if np.any(settled):
            self.reader.lost = 0
        self._keep(~settled)

    def _keep(self, which: npt.NDArray[np.bool_]) -> None:
        self._active, self._credit, self._grades = self._active[which], self._credit[which], self._grades[which]

    def _slots(self) -> npt.NDArray[np.int64]:
        slots: npt.NDArray[np.int64] = self._active % self.reader.capacity
        return slots


class RingWatch:
    """All rings of a state directory that belong to this boot."""

    def __init__(self, directory: Path, boot: str, alive: Alive, receipt_age_s: float) -> None:
        self._directory, self._boot, self._alive = directory, boot, alive
        self._receipt_age_s = receipt_age_s
        self._known: set[Path] = set()
        self._stamp_ns = -1
        self._listed_ns = -_LIST_EVERY_NS
        self.rings: dict[str, WatchedRing] = {}

    def poll(self, now_ns: int) -> None:
        """Find new rings, take in new slices, notice deaths."""
        self._discover(now_ns)
        for ring in self.rings.values():
            ring.poll(now_ns, self._alive)

    def commit(self, through_ns: int) -> None:
        """Commit every ring, and stop watching those whose process is gone and whose slices are settled."""
        for ring_id, ring in list(self.rings.items()):
            ring.commit(through_ns)
            if ring.ended_ns is not None and ring.ended_ns <= through_ns and not ring.open_count:
                ring.reader.close()
                del self.rings[ring_id]

    def are_busy(self, device: Device) -> bool:
        """Whether any slice that is not settled may touch `device`."""
        return any(
            ring.open_count and (device.kind.is_host or device.uuid in ring.header.resident.device_uuids)
            for ring in self.rings.values()
        )

    @property
    def living(self) -> list[WatchedRing]:
        """Rings of processes that still work."""
        return [ring for ring in self.rings.values() if ring.ended_ns is None]

    def open_for_receipt(self, ring_id: str) -> RingReader:
        """A reader of any ring still on disk, watched or not. Raises FileNotFoundError."""
        return RingReader(self._directory / f"{ring_id}.ring")

    def drop_old(self, wall_ns: int) -> None:
        """Delete rings of ended processes beyond the age and number that are kept."""
        now_s = wall_ns / NS_PER_S
        idle = [path for path in ring_paths(self._directory) if path.stem not in self.rings]
        idle.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for position, path in enumerate(idle):
            if position >= _DEAD_RINGS_KEPT or now_s - path.stat().st_mtime > self._receipt_age_s:
                path.unlink(missing_ok=True)
                self._known.discard(path)

    def _discover(self, now_ns: int) -> None:
        try:
            stamp_ns = self._directory.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if stamp_ns == self._stamp_ns and now_ns - self._listed_ns < _LIST_EVERY_NS:
            return
        self._stamp_ns, self._listed_ns = stamp_ns, now_ns
        for path in ring_paths(self._directory):
            if path not in self._known:
                self._known.add(path)
                with contextlib.suppress(InvalidInput, OSError, ValueError):
                    self._watch(path, now_ns)

    def _watch(self, path: Path, now_ns: int) -> None:
        reader = RingReader(path)
        if reader.header.boot != self._boot:
            reader.close()
            return
        ring = WatchedRing(reader)
        ring.poll(now_ns, self._alive)
        ring.skip_settled()
        self.rings[path.stem] = ring
