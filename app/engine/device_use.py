"""Who used a device in an interval: CPU time of the host's processes, utilisation of an accelerator's.

Knows the rings for who is ours; knows nothing of energy.

    use = DeviceUse(rings)
    use.begin()
    use.look(now_ns, {uuid: sensor.processes(uuid)}, keep_from_ns)      # about once a second
    use.of(device, interval, children)
"""

from collections import deque
from collections.abc import Mapping, Sequence

from app.domain.reading import Delta, DeltaKind, Device, ProcessUse
from app.engine.device_track import Interval
from app.engine.host_load import HostLoad, HostUse
from app.engine.ring_watch import RingWatch
from app.ledger.attribution import Others


class DeviceUse:
    """Of one node; one per meter, as it is fed with consecutive intervals."""

    def __init__(self, rings: RingWatch) -> None:
        self._rings = rings
        self._host_load = HostLoad()
        self._host: dict[tuple[int, int], HostUse] = {}
        self._looks: deque[tuple[int, Mapping[str, Sequence[ProcessUse]]]] = deque()

    def begin(self) -> None:
        """Begin a pass over the devices: those of the host ask for the same intervals one after the other."""
        self._host.clear()

    def look(self, now_ns: int, processes: Mapping[str, Sequence[ProcessUse]], keep_from_ns: int) -> None:
        """Take in who was seen on the accelerators; looks of before `keep_from_ns` but the last go."""
        self._looks.append((now_ns, processes))
        while len(self._looks) > 1 and self._looks[1][0] <= keep_from_ns:
            self._looks.popleft()

    def anyone_seen(self, device: Device) -> bool:
        """Whether any process was on the device lately."""
        return any(processes.get(device.uuid) for _, processes in self._looks)

    def of(self, device: Device, interval: Interval, children: Mapping[int, int]) -> HostUse:
        """CPU time for a host device, process utilisation for an accelerator; children count as their owners."""
        if not device.kind.is_host:
            return self._of_accelerator(interval.delta, children)
        moment = (id(interval.before), id(interval.after))
        if moment not in self._host:
            self._host[moment] = self._of_host(interval)
        return self._host[moment]

    def _of_host(self, interval: Interval) -> HostUse:
        working = frozenset(ring.header.resident.process.pid for ring in self._rings.rings.values())
        delta = interval.delta
        watched = delta.kind is not DeltaKind.UNWATCHED
        vanished, opened = self._vanished(interval), self._opened()
        return self._host_load.between(
            interval.before, interval.after, working, watched, delta.duration_ns, vanished, opened
        )

    def _opened(self) -> dict[int, int]:
        """CPU time that processes of ours had used when they opened their rings; of several rings the newest."""
        headers = sorted((ring.header for ring in self._rings.rings.values()), key=lambda header: header.cpu_ns)
        return {header.resident.process.pid: header.cpu_ns for header in headers if header.cpu_ns >= 0}

    def _vanished(self, interval: Interval) -> dict[int, int]:
        """Processes of ours whose last CPU time nobody read, with the time in which they may have used it."""
        delta, found = interval.delta, {}
        for ring in self._rings.rings.values():
            pid = ring.header.resident.process.pid
            if ring.ended_ns is not None and pid not in interval.after.cpu_ns:
                dead = delta.kind is DeltaKind.DEAD
                found[pid] = ring.open_ns(delta) if dead else round(ring.residency(delta) * delta.duration_ns)
        return {pid: time_ns for pid, time_ns in found.items() if time_ns > 0}

    def _of_accelerator(self, delta: Delta, children: Mapping[int, int]) -> HostUse:
        """Utilisation by process, of the first look after the interval (each look tells of the second before it).

        A foreign process without a figure counts as one device's worth.
        """
        look = next((seen for at_ns, seen in self._looks if at_ns >= delta.end_ns), None) or self._looks[-1][1]
        seen = look.get(delta.device.uuid, ())
        ours = {ring.header.resident.process.pid for ring in self._rings.rings.values()}
        known: dict[int, float] = {}
        for use in seen:
            if use.utilization is not None:
                pid = children.get(use.pid, use.pid)
                known[pid] = known.get(pid, 0.0) + use.utilization
        foreign = sum(share for pid, share in known.items() if pid not in ours)
        if not known and any(children.get(use.pid, use.pid) not in ours for use in seen):
            foreign = 1.0
        return HostUse({pid: share for pid, share in known.items() if pid in ours}, Others(foreign=foreign))
