"""The books of one node: sensors, rings, attribution and journal put together in one process.

`tick` reads, `commit` books. Knows nothing of Ray or of where batches go: the meter actor is the thin shell around it,
and tests drive it by hand.

    books = NodeBooks(place, sensors, clock, journal, rings, table)
    books.tick()                       # at the sampling rate
    batch = books.commit()             # once per flush; None when there is nothing new
    books.commit(final=True)           # a closing batch before the meter leaves
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from app.clock import Clock
from app.domain.account import Account
from app.domain.place import Place
from app.domain.reading import (
    CounterReading,
    Delta,
    DeltaKind,
    Grade,
    PowerReading,
    ProcessUse,
    Reading,
    Vitals,
)
from app.engine.device_track import DeviceTrack, Interval, reading_value
from app.engine.host_load import HostLoad, HostUse
from app.engine.ring_watch import RingWatch
from app.errors import SensorUnusable
from app.ledger.attribution import Attribution, Others, attribute
from app.ledger.journal import Batch, Body, Journal
from app.sensors.base import Sensor
from app.sensors.process_table import ProcessSnapshot, ProcessTable
from app.units import NS_PER_S

_LOOK_EVERY_NS = NS_PER_S
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
        self.tracks = {device.uuid: DeviceTrack(device) for sensor in sensors for device in sensor.devices}
        self._host_load = HostLoad()
        self._has_host = any(track.device.kind.is_host for track in self.tracks.values())
        self._postings: dict[tuple[str, Account], list[int]] = {}
        self._vitals: dict[str, Vitals] = {}
        self._looks: deque[tuple[int, dict[str, Sequence[ProcessUse]]]] = deque()
        self._absent: dict[str, Any] = {}
        self._looked_ns = self._snapshot_ns = -_LOOK_EVERY_NS
        self._latest_snapshot = ProcessSnapshot(0)
        self.failures: dict[str, str] = {}
        """Devices that could not be read at the last tick, with the reason."""
        self.samples = 0
        self._resume()

    # -- reading ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Read every device once, follow the rings, and attribute what has waited long enough."""
        snapshot = self._snapshot()
        for uuid, track in self.tracks.items():
            try:
                reading = self._sensor_of[uuid].read(uuid)
            except SensorUnusable as error:
                self.failures[uuid] = str(error)
                continue
            self.failures.pop(uuid, None)
            track.add(reading, snapshot)
        self.samples += 1
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._look(now_ns)
        self.rings.poll(now_ns)
        self._attribute_until(now_ns - self._settle_lag_ns, quiet_too=False)

    def _look(self, now_ns: int) -> None:
        """Figures that are shown, and who is on the accelerators."""
        self._looked_ns = now_ns
        processes = {}
        for uuid, sensor in self._sensor_of.items():
            self._vitals[uuid] = sensor.vitals(uuid)
            if not self.tracks[uuid].device.kind.is_host:
                processes[uuid] = sensor.processes(uuid)
        self._looks.append((now_ns, processes))
        while len(self._looks) > 1 and self._looks[1][0] <= now_ns - self._settle_lag_ns:
            self._looks.popleft()

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

    def _attribute_until(self, limit_ns: int, quiet_too: bool) -> None:
        """Attribute what ended by `limit_ns`; of devices without slices only if `quiet_too`.

        Where no process was seen either that is done in one piece: the parts do not depend on how the time is cut.
        """
        host: dict[tuple[int, int], HostUse] = {}
        for track in self.tracks.values():
            quiet = not self.rings.are_busy(track.device)
            if quiet and not quiet_too:
                continue
            seen = any(look.get(track.device.uuid) for _, look in self._looks)
            while interval := track.take(limit_ns, join=quiet and not seen):
                self._attribute(track, interval, host)

    def _attribute(self, track: DeviceTrack, interval: Interval, host: dict[tuple[int, int], HostUse]) -> None:
        delta = interval.delta
        use = self._use(track, interval, host)
        claimants = [
            (ring, *found)
            for ring in self.rings.rings.values()
            if (found := ring.claim(delta, use.by_pid.get(ring.header.resident.process.pid))) is not None
        ]
        claims = [claim for _, claim, _ in claimants]
        result = attribute(delta, claims, use.others, track.floor.floor_mw, track.ceiling_mw)
        for (ring, _, positions), parts in zip(claimants, result.by_slice, strict=True):
            if len(positions):
                ring.credit(positions, parts, delta)
                for owner, energy_uj in ring.charges(positions, parts):
                    result.charge(ring.reader.account(owner), energy_uj)
        self._post(track, interval, result)
        self._learn(track, interval, result, use)
        track.attributed(interval)

    def _use(self, track: DeviceTrack, interval: Interval, host: dict[tuple[int, int], HostUse]) -> HostUse:
        """CPU time for a host device, process utilisation for an accelerator."""
        if not track.device.kind.is_host:
            return self._accelerator_use(interval.delta)
        moment = (id(interval.before), id(interval.after))
        if moment not in host:
            working = frozenset(ring.header.resident.process.pid for ring in self.rings.rings.values())
            watched = interval.delta.kind is DeltaKind.NORMAL
            host[moment] = self._host_load.between(interval.before, interval.after, working, watched)
        return host[moment]

    def _accelerator_use(self, delta: Delta) -> HostUse:
        """Utilisation by process, of the first look after the interval (each look tells of the second before it).

        A foreign process without a figure counts as one device's worth.
        """
        look = next((seen for at_ns, seen in self._looks if at_ns >= delta.end_ns), None) or self._looks[-1][1]
        seen = look.get(delta.device.uuid, ())
        ours = {ring.header.resident.process.pid for ring in self.rings.rings.values()}
        known = {use.pid: use.utilization for use in seen if use.utilization is not None}
        foreign = sum(share for pid, share in known.items() if pid not in ours)
        if not known and any(use.pid not in ours for use in seen):
            foreign = 1.0
        return HostUse({pid: share for pid, share in known.items() if pid in ours}, Others(foreign=foreign))

    def _post(self, track: DeviceTrack, interval: Interval, result: Attribution) -> None:
        partly = len(result.by_account) > 1 and 0 < result.covered_ns < interval.delta.duration_ns
        for account, energy_uj in result.by_account.items():
            entry = self._postings.setdefault((track.device.key, account), [0, 0])
            entry[0] += energy_uj
            if partly:
                entry[1] += min(energy_uj, interval.delta.energy_uj - energy_uj)

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
        self._attribute_until(now_ns if final else now_ns - self._settle_lag_ns, quiet_too=True)
        fresh = [track for track in self.tracks.values() if track.raw]
        if not fresh and not final:
            return None
        batch = self.journal.append(self._body([_device_record(track) for track in fresh], final))
        self.rings.commit(self._settled_ns())  # after the journal: no receipt tells more than the books
        for track in fresh:
            track.mark_committed()
        self._postings.clear()
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
            "postings": [
                {
                    "device": key,
                    "account": account.labels(),
                    "energy_uj": energy_uj,
                    "uncertainty_uj": uncertainty_uj,
                }
                for (key, account), (energy_uj, uncertainty_uj) in self._postings.items()
            ],
            "vitals": self._shown_vitals(),
            "residents": self.residents(),
            "failures": dict(self.failures),
            "lost_slices": sum(ring.reader.lost for ring in self.rings.rings.values()),
            "resume": self._resume_point(final),
        }

    def residents(self) -> list[str]:
        """Model versions and jobs on the node now, e.g. `minilm@1`."""
        return sorted({_label(ring.header.resident.account) for ring in self.rings.living})

    def _shown_vitals(self) -> dict[str, Any]:
        return {
            uuid: {
                "power_mw": vitals.power_mw if vitals.power_mw is not None else round(self.tracks[uuid].power_mw),
                "utilization": vitals.utilization,
                "memory_used_bytes": vitals.memory_used_bytes,
                "memory_total_bytes": vitals.memory_total_bytes,
                "temperature_c": vitals.temperature_c,
            }
            for uuid, vitals in self._vitals.items()
        }

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
