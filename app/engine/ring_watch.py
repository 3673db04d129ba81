"""The rings of a node as its meter sees them: which slices may touch an interval, and what energy they got.

Opens the ring of every process, follows its slices until they are settled, and notices when a process died. Knows
nothing of sensors, nor of how energy is divided.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.domain.account import Account, AccountName
from app.domain.reading import Delta, DeltaKind, Device, DeviceKind, Grade
from app.domain.slice import ProcessKey
from app.engine.write_back import Totals, WriteBack, write_totals
from app.errors import InvalidInput
from app.ledger.attribution import Claim, Steps
from app.ledger.pace import Drawn, union_ns
from app.ledger.ring import GRADE_BITS, PHASE, SETTLED, Charged, RingReader, ring_paths
from app.ledger.step_rows import MAX_ROWS, NO_ROWS, Fact, Rows
from app.units import NS_PER_S

_FAR_NS = np.iinfo(np.int64).max
_WEIGHT_BOUNDS = (1e-9, 1e18)
_DEAD_RINGS_KEPT, _DEAD_RINGS_BYTES = 512, 256 * 1024 * 1024
_BLOCK_BYTES = 512  # of stat's st_blocks; a ring is a file with holes
_HOLE_NS = 10 * NS_PER_S  # a thread that is stopped for longer in between two instructions does not hold up the books
_LIST_EVERY_NS = NS_PER_S  # a directory's time stamp is too coarse to tell two changes within a few ms

Alive = Callable[[ProcessKey], bool]


class WatchedRing:
    """One ring with the slices that are not settled yet."""

    def __init__(self, reader: RingReader, instances: Mapping[str, Device]) -> None:
        self.reader = reader
        self.header = reader.header
        self.held: dict[str, float] = {}
        """Part of each accelerator that the process can use, by UUID; that of its instances where it holds such."""
        for uuid in self.header.resident.device_uuids:
            instance = instances.get(uuid)
            whole = instance.parent if instance else uuid
            self.held[whole] = self.held.get(whole, 0.0) + (instance.compute_share if instance else 1.0)
        self.ended_ns: int | None = None
        """When the process closed its ring or was found dead."""
        self.hole_ns: int | None = None
        """Since when a record is missing that a thread has numbered and not written; None: none is."""
        self._seen_alive = False
        self._active: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._credit: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._grades: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._steps: Rows = NO_ROWS
        self._lead = min(self.held, default="")
        self._drawn = Drawn()
        self._charged = Charged(0, 0, 0)

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
        overdue = self.hole_ns is not None and now_ns - self.hole_ns > _HOLE_NS
        fresh = self.reader.poll(final=self.ended_ns is not None or overdue)
        if not self.reader.has_hole or self.ended_ns is not None:
            self.hole_ns = None
        elif self.hole_ns is None:
            self.hole_ns = now_ns
        if len(fresh):
            self._active = np.concatenate((self._active, fresh))
            self._credit = np.concatenate((self._credit, np.zeros(len(fresh), np.int64)))
            self._grades = np.concatenate((self._grades, np.zeros(len(fresh), np.uint32)))
        if len(told := self.reader.steps.poll()):
            self._steps = np.concatenate((self._steps, told))[-MAX_ROWS:]
            if len(self._steps) == MAX_ROWS:  # nothing commits
                self.reader.steps.known_from_ns = int(self._steps["start_ns"][0])
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
        if not self.holds(delta.device):
            return None
        resident, part = self.header.resident, self.held.get(delta.device.uuid, 1.0)
        share = self.header.host_share if delta.device.kind.is_host else self.header.gpu_share * part
        share *= self.residency(delta)
        rows = self.reader.records[self._slots()]
        starts = rows["start_ns"].astype(np.int64)
        ends = np.where(rows["end_ns"] == 0, _FAR_NS, rows["end_ns"]).astype(np.int64)
        whole = rows["number"] == self._active.astype(np.uint64) + 1
        there = (starts < delta.end_ns) & (ends > delta.start_ns)
        told = self._told_of(delta)
        if len(told):  # an engine may tell of a request a moment before it begins, or after it ended
            there |= np.isin(self._active, told["sequence"].astype(np.int64))
        positions = np.flatnonzero(there & whole)
        if not len(positions) and not share and not used:
            return None
        claim = Claim(
            resident.account,
            share,
            used,
            starts[positions],
            ends[positions],
            np.nan_to_num(rows["weight"][positions].astype(np.float64)).clip(*_WEIGHT_BOUNDS),
            rows["owner"][positions].astype(np.int64),
            compute_share=part,
            apportioned=self._is_apportioned(delta.device),
            steps=self._steps_of(told, delta, positions) if len(told) else None,
        )
        return claim, positions

    def _told_of(self, delta: Delta) -> Rows:
        """Rows of steps on the interval; none where what is known of them does not reach back to its beginning."""
        if not len(self._steps) or delta.start_ns < self.reader.steps.known_from_ns:
            return NO_ROWS
        told: Rows = self._steps[(self._steps["start_ns"] < delta.end_ns) & (self._steps["end_ns"] > delta.start_ns)]
        return told

    def _steps_of(self, told: Rows, delta: Delta, positions: npt.NDArray[np.int64]) -> Steps | None:
        """What its slices at `positions` drew in their steps.

        Slices that are no phases of requests are in it with their weight as their power: it is their process that
        compares them.
        """
        if not len(positions):
            return None
        sequences = self._active[positions].astype(np.uint64)
        at = np.searchsorted(sequences, told["sequence"]).clip(max=len(sequences) - 1)
        known = sequences[at] == told["sequence"]
        told, at = told[known], at[known]
        rows = self.reader.records[self._slots()[positions]]
        plain = np.flatnonzero((rows["state"] & PHASE) == 0)
        ends = np.where(rows["end_ns"] == 0, delta.end_ns, rows["end_ns"])
        return Steps(
            np.concatenate((told["start_ns"], rows["start_ns"][plain])).astype(np.int64),
            np.concatenate((told["end_ns"], ends[plain])).astype(np.int64),
            np.nan_to_num(np.concatenate((told["power_mw"], rows["weight"][plain]))).clip(0.0, _WEIGHT_BOUNDS[1]),
            np.concatenate((at, plain)),
        )

    def holds(self, device: Device) -> bool:
        """Whether the process works on `device`, or on an instance of it."""
        return device.kind.is_host or device.uuid in self.held

    def _is_apportioned(self, device: Device) -> bool:
        return not device.kind.is_host and device.uuid not in self.header.resident.device_uuids

    def spans(self, start_ns: int, end_ns: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Beginnings and ends of the slices open within an interval, cut to it."""
        rows = self.reader.records[self._slots()]
        ends = np.where(rows["end_ns"] == 0, end_ns, rows["end_ns"]).astype(np.int64)
        starts = np.maximum(rows["start_ns"].astype(np.int64), start_ns)
        inside = starts < np.minimum(ends, end_ns)
        return starts[inside], np.minimum(ends, end_ns)[inside]

    def open_ns(self, delta: Delta) -> int:
        """Time of the interval in which at least one slice of the process was open."""
        return union_ns(*self.spans(delta.start_ns, delta.end_ns))

    def residency(self, delta: Delta) -> float:
        """Part of the interval in which the process lived, 0..1."""
        until_ns = delta.end_ns if self.ended_ns is None else min(self.ended_ns, delta.end_ns)
        return max(0, until_ns - max(self.header.born_ns, delta.start_ns)) / delta.duration_ns

    def credit(self, positions: npt.NDArray[np.int64], parts: npt.NDArray[np.int64], grade: Grade) -> None:
        """Remember energy for slices until the next commit."""
        self._credit[positions] += parts
        self._grades[positions] |= np.uint32(GRADE_BITS[grade])

    def tell(self, delta: Delta, positions: npt.NDArray[np.int64], parts: npt.NDArray[np.int64]) -> None:
        """Let the process know what an interval took, for its prices: of one of its accelerators, else of one CPU."""
        if not self._lead and delta.device.kind is DeviceKind.CPU:
            self._lead = delta.device.uuid
        is_lead = delta.device.uuid == self._lead and delta.kind is DeltaKind.NORMAL
        if is_lead and self.reader.steps.is_used:
            of_phases = (self.reader.records["state"][self._slots()[positions]] & PHASE) != 0
            self.reader.steps.show(Fact(delta.start_ns, delta.end_ns, int(parts[of_phases].sum())))

    def charges(self, positions: npt.NDArray[np.int64], parts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """(owner index, energy) sums of `parts` by the account of each slice."""
        owners = self.reader.records["owner"][self._slots()[positions]]
        for owner in np.unique(owners):
            yield int(owner), int(parts[owners == owner].sum())

    def job_parts(
        self, positions: npt.NDArray[np.int64], parts: npt.NDArray[np.int64], delta: Delta
    ) -> Iterator[tuple[Account, int, int, int]]:
        """(account, part, energy, open time within `delta`) sums of the slices that are charged to jobs."""
        rows = self.reader.records[self._slots()[positions]]
        for owner in np.unique(rows["owner"]):
            account = self.reader.account(int(owner))
            if account.name is AccountName.JOB:
                own = rows["owner"] == owner
                for part in np.unique(rows["part"][own]):
                    which = own & (rows["part"] == part)
                    yield account, int(part), int(parts[which].sum()), _open_ns(rows[which], delta)

    def charge(self, by_owner: Mapping[int, int], resident_uj: int) -> None:
        """Remember until the next commit what the process was charged: slices by the number of their account."""
        by_name: dict[AccountName, int] = {self.header.resident.account.name: resident_uj}
        for owner, energy_uj in by_owner.items():
            name = self.reader.account(owner).name
            by_name[name] = by_name.get(name, 0) + energy_uj
        more = (by_name.get(name, 0) for name in (AccountName.LOAD, AccountName.WARM, AccountName.REQUEST))
        self._charged = Charged(*map(sum, zip(self._charged, more, strict=True)))

    def totals(self, through_ns: int) -> Totals | None:
        """What a commit through `through_ns` writes into the ring; None for nothing."""
        if not any(self._charged) and not len(self._active):
            return None
        rows = self.reader.records[self._slots()]
        done = (rows["end_ns"] != 0) & (rows["end_ns"] <= through_ns)
        return {
            "sequences": self._active,
            "energy_uj": rows["energy_uj"] + self._credit.astype(np.uint64),
            "grades": rows["grades"] | self._grades,
            "state": rows["state"] | np.where(done, SETTLED, 0).astype(np.uint32),
            "through_ns": through_ns,
            "charged": [*map(sum, zip(self.reader.charged, self._charged, strict=True))],
        }

    def commit(self, totals: Totals | None) -> None:
        """Write `totals` into the records and let go of slices that are settled."""
        self._show_power()
        if totals is None:
            return
        write_totals(self.reader, totals)
        self._charged = Charged(0, 0, 0)
        known = len(totals["sequences"])
        self._credit[:known] = 0
        whole = self.reader.records["number"][self._slots()] == self._active.astype(np.uint64) + 1
        whole[:known] &= (totals["state"] & SETTLED) == 0
        self._keep(whole)
        if len(self._steps):
            self._steps = self._steps[self._steps["end_ns"] > totals["through_ns"]]

    def learn_power(
        self, positions: npt.NDArray[np.int64], parts: npt.NDArray[np.int64], delta: Delta, covered_ns: int
    ) -> None:
        """Take in what slices got of an accelerator's delta; loads are another kind of work."""
        rows = self.reader.records[self._slots()[positions]]
        loads = [owner for owner in np.unique(rows["owner"]) if self._is_load(int(owner))]
        work = ~np.isin(rows["owner"], loads)
        self._drawn.add(float(parts[work].sum()), _open_ns(rows[work], delta), delta, covered_ns)

    def _show_power(self) -> None:
        if found := self._drawn.told():
            power_mw, part = found
            self.reader.show_slice_power(power_mw * len(self.held), part)

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


def _open_ns(rows: npt.NDArray[np.void], delta: Delta) -> int:
    """Sum of the time within `delta` in which each of `rows` was open."""
    starts = np.maximum(rows["start_ns"].astype(np.int64), delta.start_ns)
    ends = np.where(rows["end_ns"] == 0, delta.end_ns, rows["end_ns"]).astype(np.int64)
    return int(np.maximum(np.minimum(ends, delta.end_ns) - starts, 0).sum())


class RingWatch:
    """All rings of a state directory that belong to this boot."""

    def __init__(self, directory: Path, boot: str, alive: Alive, receipt_age_s: float) -> None:
        self._directory, self._boot, self._alive = directory, boot, alive
        self._receipt_age_s = receipt_age_s
        self._known: set[Path] = set()
        self._stamp_ns = -1
        self._listed_ns = -_LIST_EVERY_NS
        self._write_back = WriteBack(directory / "write_back")
        self._totals: dict[str, Totals] = {}
        self.rings: dict[str, WatchedRing] = {}
        self.instances: Mapping[str, Device] = {}
        """Instances of partitioned accelerators by UUID; to be set before the first poll."""

    def find_new(self, now_ns: int) -> None:
        """Find new rings: a reading wants the CPU clocks of all who work, of who has just begun too."""
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

    def poll(self, now_ns: int) -> None:
        """Take in new slices, notice deaths."""
        for ring in self.rings.values():
            ring.poll(now_ns, self._alive)

    def prepare(self, through_ns: int, previous: str) -> None:
        """Keep on disk what `commit` will write once the batch that follows the digest `previous` is in the journal."""
        self._totals = {
            ring_id: totals for ring_id, ring in self.rings.items() if (totals := ring.totals(through_ns)) is not None
        }
        self._write_back.prepare(previous, self._totals)

    def recover(self, previous: str) -> None:
        """Write what an earlier life of the meter prepared for the batch after `previous` and may not have written."""
        self._write_back.recover(previous, self.open_for_receipt)

    def commit(self, through_ns: int) -> None:
        """Write what was prepared, and stop watching rings whose process is gone and whose slices are settled."""
        prepared, self._totals = self._totals, {}
        for ring_id, ring in list(self.rings.items()):
            ring.commit(prepared.get(ring_id))
            if ring.ended_ns is not None and ring.ended_ns <= through_ns and not ring.open_count:
                ring.reader.close()
                del self.rings[ring_id]

    def held_ns(self, device: Device) -> int | None:
        """Since when work on `device` may be missing because a living process has not finished writing it; None: no."""
        holes = [ring.hole_ns for ring in self.rings.values() if ring.hole_ns is not None and ring.holds(device)]
        return min(holes, default=None)

    def are_busy(self, device: Device) -> bool:
        """Whether any slice that is not settled may touch `device`."""
        return any(ring.open_count and ring.holds(device) for ring in self.rings.values())

    def covered_ns(self, delta: Delta) -> int:
        """Time of a delta in which at least one slice was open on its device."""
        holders = (ring for ring in self.rings.values() if ring.open_count and ring.holds(delta.device))
        spans = [ring.spans(delta.start_ns, delta.end_ns) for ring in holders]
        if not spans:
            return 0
        starts, ends = (np.concatenate(side) for side in zip(*spans, strict=True))
        return union_ns(starts, ends)

    @property
    def living(self) -> list[WatchedRing]:
        """Rings of processes that still work."""
        return [ring for ring in self.rings.values() if ring.ended_ns is None]

    def open_for_receipt(self, ring_id: str) -> RingReader:
        """A reader of any ring still on disk, watched or not. Raises FileNotFoundError."""
        return RingReader(self._directory / f"{ring_id}.ring")

    def is_watched(self, ring_id: str) -> bool:
        """Whether the process of a ring still lives or has work that is not settled."""
        return ring_id in self.rings

    def drop_old(self, wall_ns: int) -> None:
        """Delete rings of ended processes beyond the age, the number and the space on disk that are kept."""
        now_s, kept_bytes = wall_ns / NS_PER_S, 0
        idle = [(path, path.stat()) for path in ring_paths(self._directory) if path.stem not in self.rings]
        idle.sort(key=lambda found: found[1].st_mtime, reverse=True)
        for position, (path, stat) in enumerate(idle):
            kept_bytes += stat.st_blocks * _BLOCK_BYTES
            full = position >= _DEAD_RINGS_KEPT or kept_bytes > _DEAD_RINGS_BYTES
            if full or now_s - stat.st_mtime > self._receipt_age_s:
                path.unlink(missing_ok=True)
                self._known.discard(path)

    def _watch(self, path: Path, now_ns: int) -> None:
        reader = RingReader(path)
        if reader.header.boot != self._boot:
            reader.close()
            return
        ring = WatchedRing(reader, self.instances)
        ring.poll(now_ns, self._alive)
        ring.skip_settled()
        self.rings[path.stem] = ring
