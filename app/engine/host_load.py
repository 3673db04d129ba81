"""Who kept the host's CPUs busy between two snapshots: our working processes, Ray, the others.

Knows nothing of energy. The kernel's busy time comes in 10 ms jiffies, the processes' clocks in nanoseconds; their
difference is carried from interval to interval, so that rounding does not turn into foreign work. The clock of a
process that died cannot be read any more: what it used last is estimated, within what the kernel's busy time leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from app.ledger.attribution import Others
from app.sensors.process_table import ProcessSnapshot

_NONE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class HostUse:
    """CPU nanoseconds in an interval; of an accelerator, utilisation 0..1 instead."""

    by_pid: Mapping[int, float]
    others: Others


class HostLoad:
    """Divides the host's CPU time; one per meter, fed with consecutive intervals."""

    def __init__(self) -> None:
        self._foreign_debt_ns = 0
        self._rates: dict[int, float] = {}
        """CPU time by time of each process in the last interval."""

    def between(
        self,
        before: ProcessSnapshot,
        after: ProcessSnapshot,
        working: frozenset[int],
        watched: bool,
        duration_ns: int = 0,
        vanished: Mapping[int, int] = _NONE,
        opened: Mapping[int, int] = _NONE,
    ) -> HostUse:
        """CPU time between two snapshots `duration_ns` apart; `working` are the pids that may claim it themselves.

        `watched` is False where only what `working` used is to be told. `vanished` are those of them that the second
        snapshot does not have any more, with the time for which they may have worked; `opened` is the CPU time that
        processes had used when they said that they are ours, for those that the first snapshot does not have.
        """
        used: dict[int, int] = {}
        for pid, cpu_ns in after.cpu_ns.items():
            earlier = before.cpu_ns.get(pid)
            if earlier is None:  # a newborn of Ray's, else an older process that has only just said it is ours
                earlier = 0 if pid in after.ray_pids else opened.get(pid)
            if earlier is not None:
                used[pid] = max(0, cpu_ns - earlier)
        if not watched:
            return HostUse(used, Others())
        system_ns = sum(ns for pid, ns in used.items() if pid not in working)
        known_ns = sum(used.values())
        unknown_ns = max(0, after.busy_ns - before.busy_ns) - known_ns + self._foreign_debt_ns
        last = self._last_of(vanished, unknown_ns)
        if duration_ns:
            self._rates = {pid: used_ns / duration_ns for pid, used_ns in used.items()}
        foreign_ns = max(0, unknown_ns - sum(last.values()))
        self._foreign_debt_ns = min(0, unknown_ns)
        return HostUse({**used, **last}, Others(float(system_ns), float(foreign_ns), accounted=True))

    def _last_of(self, vanished: Mapping[int, int], unknown_ns: int) -> dict[int, int]:
        """CPU time of those that died: at the pace of the interval before, else one CPU, within what is unexplained."""
        wanted = {pid: round(time_ns * self._rates.get(pid, 1.0)) for pid, time_ns in vanished.items()}
        total_ns = sum(wanted.values())
        if total_ns > max(0, unknown_ns):
            wanted = {pid: max(0, unknown_ns) * ns // total_ns for pid, ns in wanted.items()}
        return {pid: ns for pid, ns in wanted.items() if ns}
