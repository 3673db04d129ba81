"""The books of one node: sensors, rings, attribution and journal put together in one process.

`tick` reads, `commit` books. Knows nothing of Ray or of where batches go: the meter actor is the thin shell around it,
and tests drive it by hand.

    books = NodeBooks(place, sensors, clock, journal, rings, table)
    books.tick()                       # at the sampling rate
    batch = books.commit()             # once per flush; None when there is nothing new
    books.commit(final=True)           # a closing batch before the meter leaves
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from app.clock import Clock
from app.domain.account import Account
from app.domain.place import Place
from app.domain.reading import (
    CounterReading,
    Delta,
    DeltaKind,
    Grade,
    PowerReading,
    Reading,
    Vitals,
)
from app.engine.device_track import DeviceTrack, Interval, reading_value
from app.engine.device_use import DeviceUse
from app.engine.host_load import HostUse
from app.engine.part_tally import PartTally, keeps_time
from app.engine.posting_sums import PostingSums
from app.engine.ring_watch import RingWatch, WatchedRing
from app.errors import SensorUnusable
from app.ledger.attribution import Attribution, Claim, attribute
from app.ledger.division import divide
from app.ledger.journal import GENESIS, Batch, Body, Journal
from app.sensors.base import Sensor
from app.sensors.process_table import ProcessSnapshot, ProcessTable
from app.units import NS_PER_S

Positions = npt.NDArray[np.int64]

_LOOK_EVERY_NS = NS_PER_S
_SHOW_IDLE_EVERY_NS = 5 * NS_PER_S
# Vitals and process lists cost more calls than an energy reading; CPU clocks matter less while nobody of ours works.


class NodeBooks:
    """The books of a node. Not thread-safe: the meter's sampling thread owns it."""

    def __init__(
        self,
        place: Place,
        sensors: Sequence[Sensor],
        clock: Clock,
        journal: Journal,
        rings: RingWatch,
        table: ProcessTable,
        settle_lag_ns: int,
    ) -> None:
        self.place, self.journal, self.rings = place, journal, rings
        self._clock, self._table, self._settle_lag_ns = clock, table, settle_lag_ns
        self._sensor_of = {device.uuid: sensor for sensor in sensors for device in sensor.devices}
        found = {device.uuid: device for sensor in sensors for device in sensor.devices}
        self.tracks = {uuid: DeviceTrack(device) for uuid, device in found.items() if not device.parent}
        rings.instances = {uuid: device for uuid, device in found.items() if device.parent}
        self._devices = {uuid: track.device for uuid, track in self.tracks.items()}
        self._device_use = DeviceUse(rings)
        self._has_host = any(track.device.kind.is_host for track in self.tracks.values())
        self._postings = PostingSums()
        self._parts = PartTally()
        self._vitals: dict[str, Vitals] = {}
        self._absent: dict[str, Any] = {}
        self._looked_ns = self._snapshot_ns = -_LOOK_EVERY_NS
        self._showed_ns = -_SHOW_IDLE_EVERY_NS
        self._latest_snapshot = ProcessSnapshot(0)
        self.failures: dict[str, str] = {}
        """Devices that could not be read at the last tick, with the reason."""
        self.samples = 0
        self._resume()

    # -- reading ---------------------------------------------------------------------------------------------------

    def tick(self, with_host: bool = True) -> None:
        """Read every device once, follow the rings, and attribute what has waited long enough."""
        self.rings.find_new(self._clock.monotonic_ns())
        snapshot, fresh = self._snapshot(), []
        for uuid, track in self.tracks.items():
            if track.device.kind.is_host and not with_host:
                continue
            try:
                reading = self._sensor_of[uuid].read(uuid)
            except SensorUnusable as error:
                self.failures[uuid] = str(error)
                continue
            self.failures.pop(uuid, None)
            if interval := track.add(reading, snapshot):
                fresh.append((track, interval))
        self.samples += 1
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._look(now_ns)
        self.rings.poll(now_ns)
        self._follow_pace(fresh)
        self._attribute_until(now_ns - self._settle_lag_ns, quiet_too=False)

    def _follow_pace(self, fresh: Sequence[tuple[DeviceTrack, Interval]]) -> None:
        """What work costs now, while there is somebody who asks."""
        if not self.rings.living:
            return
        for track, interval in fresh:
            delta, busy_ns = interval.delta, interval.after.busy_ns - interval.before.busy_ns
            if delta.kind is not DeltaKind.NORMAL:
                continue
            covered_ns = self.rings.covered_ns(delta)
            if track.device.kind.is_host:
                track.pace.add(delta.energy_uj, delta.duration_ns, busy_ns, covered_ns, track.floor.floor_mw)
            else:
                track.working.add(delta.energy_uj, delta.start_ns, delta.end_ns, covered_ns)

    def _look(self, now_ns: int) -> None:
        """Who is on the accelerators; and figures that are shown, more seldom while nobody is at work."""
        self._looked_ns = now_ns
        if self.rings.living or now_ns - self._showed_ns >= _SHOW_IDLE_EVERY_NS:
            self._showed_ns = now_ns
            for uuid, sensor in self._sensor_of.items():
                self._vitals[uuid] = sensor.vitals(uuid)
                if track := self.tracks.get(uuid):
                    track.condition = sensor.condition(uuid)
        accelerators = [uuid for uuid, track in self.tracks.items() if not track.device.kind.is_host]
        processes = {uuid: self._sensor_of[uuid].processes(uuid) for uuid in accelerators}
        self._device_use.look(now_ns, processes, now_ns - self._settle_lag_ns)

    def read(self, uuid: str) -> Reading:
        """One reading of a device beside the sampling. Raises SensorUnusable."""
        return self._sensor_of[uuid].read(uuid)

    def _snapshot(self) -> ProcessSnapshot:
        if not self._has_host:
            return ProcessSnapshot(0)
        now_ns = self._clock.monotonic_ns()
        pids = [ring.header.resident.process.pid for ring in self.rings.living]
        if pids or now_ns - self._snapshot_ns >= _LOOK_EVERY_NS:
            self._snapshot_ns, self._latest_snapshot = now_ns, self._table.snapshot(pids, now_ns)
        return self._latest_snapshot

    # -- attributing -----------------------------------------------------------------------------------------------

    def _attribute_until(self, until_ns: int, quiet_too: bool, final: bool = False) -> None:
        """Attribute what ended by `until_ns`; of devices without slices only if `quiet_too`.

        Where a living process has numbered a slice and not written it yet, less, until it has (or `final`).

        Where no process was seen either that is done in one piece: the parts do not depend on how the time is cut.
        """
        self._device_use.begin()
        if not quiet_too and not self.rings.rings:
            return
        for track in self.tracks.values():
            quiet = not self.rings.are_busy(track.device)
            if quiet and not quiet_too:
                continue
            held_ns = None if final else self.rings.held_ns(track.device)
            limit_ns = until_ns if held_ns is None else min(until_ns, held_ns - self._settle_lag_ns)
            seen = self._device_use.anyone_seen(track.device)
            while interval := track.take(limit_ns, join=quiet and not seen):
                self._attribute(track, interval)

    def _attribute(self, track: DeviceTrack, interval: Interval) -> None:
        delta = interval.delta
        use = self._device_use.of(track.device, interval, self._latest_snapshot.children)
        claimants = self._claimants(delta, use)
        result = self._divide(track, interval, claimants, use)
        credits = []
        for index, ((ring, claim, positions), parts) in enumerate(zip(claimants, result.by_slice, strict=True)):
            by_owner = dict(ring.charges(positions, parts))
            credits.append((ring, claim, by_owner))
            ring.charge(by_owner, result.by_resident.get(index, 0))
            if len(positions):
                ring.tell(delta, positions, parts)
                if not track.device.kind.is_host:
                    ring.learn_power(positions, parts, delta, result.covered_ns)
                ring.credit(positions, parts, Grade.APPORTIONED if claim.apportioned else interval.grade)
                self._parts.add(ring, positions, parts, delta, keeps_time(track.device, ring, self._devices))
        self._postings.add(delta, interval.grade, result, credits)
        self._learn(track, interval, result, use)
        track.attributed(interval)

    def _claimants(self, delta: Delta, use: HostUse | None = None) -> list[tuple[WatchedRing, Claim, Positions]]:
        """Who may claim of `delta`, with the positions of their slices in their rings."""
        used = use.by_pid if use else {}
        return [
            (ring, *found)
            for ring in self.rings.rings.values()
            if (found := ring.claim(delta, used.get(ring.header.resident.process.pid))) is not None
        ]

    def _divide(
        self,
        track: DeviceTrack,
        interval: Interval,
        claimants: Sequence[tuple[WatchedRing, Claim, Positions]],
        use: HostUse,
    ) -> Attribution:
        """Cell by cell for an accelerator that was watched at work, else the interval as a whole."""
        delta, floor_mw = interval.delta, track.floor.floor_mw
        claims = [claim for _, claim, _ in claimants]
        if not track.device.kind.is_host and delta.kind is DeltaKind.NORMAL:
            if not any(len(positions) for *_, positions in claimants):
                track.profiler.quiet(delta.end_ns, interval.end_mw)
                return attribute(delta, claims, use.others, floor_mw, track.ceiling_mw)
            named = [(ring.reader.ring_id, claim) for ring, claim, _ in claimants]
            profile = track.profiler.profile(delta, named, track.upcoming(), self._named, floor_mw, track.ceiling_mw)
            if profile:
                profile = replace(profile, blur_ns=track.blur_ns)
                return divide(delta, profile, track.profiler.with_draws(named), use.others)
        return attribute(delta, claims, use.others, floor_mw, track.ceiling_mw)

    def _named(self, delta: Delta) -> list[tuple[str, Claim]]:
        """Claims on any time, by ring."""
        return [(ring.reader.ring_id, claim) for ring, claim, _ in self._claimants(delta)]

    def _learn(self, track: DeviceTrack, interval: Interval, result: Attribution, use: HostUse) -> None:
        delta = interval.delta
        if delta.kind is not DeltaKind.NORMAL:
            return
        if not result.covered_ns and (track.device.kind.is_host or not use.others.foreign):
            residency = frozenset(ring.reader.ring_id for ring in self.rings.living)
            track.floor.observe(delta.energy_uj, delta.duration_ns, residency)

    def commit(self, final: bool = False) -> Batch | None:
        """Write what was attributed since the last commit to the journal; `final` also takes what still waits.

        Raises OSError when the journal cannot be written; nothing is lost then, the next commit takes it all.
        """
        now_ns = self._clock.monotonic_ns()
        self._attribute_until(now_ns if final else now_ns - self._settle_lag_ns, quiet_too=True, final=final)
        fresh = [track for track in self.tracks.values() if track.raw]
        if not fresh and not final:
            return None
        through_ns = self._settled_ns()
        self.rings.prepare(through_ns, self.journal.last.digest if self.journal.last else GENESIS)
        batch = self.journal.append(self._body([_device_record(track) for track in fresh], final))
        self.rings.commit(through_ns)  # after the journal: no receipt tells more than the books
        for track in fresh:
            track.mark_committed()
        self._postings.clear()
        self._parts.clear()
        return batch

    def _settled_ns(self) -> int:
        """Up to when every device that can be read is attributed."""
        ends = [
            track.end_of_batch()[0].at_ns
            for uuid, track in self.tracks.items()
            if track.raw or (track.committed is not None and uuid not in self.failures)
        ]
        return min(ends, default=self._clock.monotonic_ns())

    def _body(self, devices: list[dict[str, Any]], final: bool) -> Body:
        now_ns, wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        place = self.place
        return {
            "machine": place.machine,
            "boot": place.boot,
            "node": place.node,
            "wall_ns": wall_ns,
            "wall_minus_monotonic_ns": wall_ns - now_ns,
            "devices": devices,
            "postings": self._postings.records(),
            "parts": self._parts.records(),
            "vitals": self._shown_vitals(),
            "conditions": {uuid: asdict(track.condition) for uuid, track in self.tracks.items()},
            "residents": self.residents(),
            "failures": dict(self.failures),
            "lost_slices": sum(ring.reader.lost for ring in self.rings.rings.values()),
            "resume": self._resume_point(final),
        }

    def residents(self) -> list[str]:
        """Model versions and jobs on the node now, e.g. `minilm@1`."""
        accounts = {ring.header.resident.account for ring in self.rings.living}
        return sorted({_label(account) for account in accounts if account.job or account.model})

    def _shown_vitals(self) -> dict[str, Any]:
        return {
            uuid: {
                "power_mw": self._shown_power(uuid, vitals),
                "utilization": vitals.utilization,
                "memory_used_bytes": vitals.memory_used_bytes,
                "memory_total_bytes": vitals.memory_total_bytes,
                "temperature_c": vitals.temperature_c,
            }
            for uuid, vitals in self._vitals.items()
        }

    def _shown_power(self, uuid: str, vitals: Vitals) -> int | None:
        track = self.tracks.get(uuid)
        return round(track.power_mw) if vitals.power_mw is None and track else vitals.power_mw

    # -- resuming --------------------------------------------------------------------------------------------------

    def _resume_point(self, final: bool) -> dict[str, Any]:
        """What the next meter of this node needs to continue: power levels now, readings and clocks as committed."""
        return {
            "clean": final,
            "devices": self._absent
            | {
                uuid: {"floor_mw": track.floor.floor_mw, "ceiling_mw": track.ceiling_mw, **_end_of(track)}
                for uuid, track in self.tracks.items()
                if track.committed is not None
            },
        }

    def _resume(self) -> None:
        last = self.journal.last
        if last is None or last.body["boot"] != self.place.boot:
            return
        self.rings.recover(last.previous)
        self.rings.find_new(self._clock.monotonic_ns())
        self.rings.poll(self._clock.monotonic_ns())  # whose CPU clocks the first reading needs
        point = last.body["resume"]
        kind = DeltaKind.UNWATCHED if point["clean"] else DeltaKind.DEAD
        for uuid, known in point["devices"].items():
            if uuid not in self.tracks:
                self._absent[uuid] = known  # for the next meter that can open it
            else:
                track = self.tracks[uuid]
                snapshot = ProcessSnapshot(known["busy_ns"], {int(pid): used for pid, used in known["cpu_ns"].items()})
                track.resume(_reading(track, *known["last"]), snapshot, kind)
                track.floor.floor_mw, track.ceiling_mw = known["floor_mw"], known["ceiling_mw"]


def _end_of(track: DeviceTrack) -> dict[str, Any]:
    """The reading and CPU clocks at which the batch being written ends."""
    reading, snapshot = track.end_of_batch()
    return {
        "last": [reading.at_ns, reading_value(reading)],
        "busy_ns": snapshot.busy_ns,
        "cpu_ns": {str(pid): used for pid, used in snapshot.cpu_ns.items()} if track.device.kind.is_host else {},
    }


def _device_record(track: DeviceTrack) -> dict[str, Any]:
    device = track.device
    return {
        "key": device.key,
        "uuid": device.uuid,
        "kind": device.kind.value,
        "name": device.name,
        "grade": device.grade.value,
        "wraps_at_uj": device.wraps_at_uj,
        "absence": track.absence.value if track.absence else None,
        "raw": [[reading.at_ns, reading_value(reading)] for reading in track.batch_readings()],
    }


def _reading(track: DeviceTrack, at_ns: int, value: int) -> Reading:
    if track.device.grade is Grade.INTEGRATED:
        return PowerReading(at_ns, value)
    return CounterReading(at_ns, value)


def _label(account: Account) -> str:
    return account.job or f"{account.model}@{account.version}"
