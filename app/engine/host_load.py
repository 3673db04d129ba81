"""Who kept the host's CPUs busy between two snapshots: our working processes, Ray, the others.

Knows nothing of energy. The kernel's busy time comes in 10 ms jiffies, the processes' clocks in nanoseconds; their
difference is carried from interval to interval, so that rounding does not turn into foreign work.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from app.ledger.attribution import Others
from app.sensors.process_table import ProcessSnapshot


@dataclass(frozen=True, slots=True)
class HostUse:
    """CPU nanoseconds in an interval; of an accelerator, utilisation 0..1 instead."""

    by_pid: Mapping[int, float]
    others: Others


class HostLoad:
    """Divides the host's CPU time; one per meter, fed with consecutive intervals."""

    def __init__(self) -> None:
        self._foreign_debt_ns = 0

    def between(
        self, before: ProcessSnapshot, after: ProcessSnapshot, working: frozenset[int], watched: bool
    ) -> HostUse:
        """CPU time between two snapshots; `working` are the pids that may claim it themselves.

        `watched` is False when no meter was there in between: then only what `working` used is known.
        """
        used: dict[int, int] = {}
        for pid, cpu_ns in after.cpu_ns.items():
            earlier = before.cpu_ns.get(pid)
            if earlier is None and pid not in after.ray_pids:
                continue  # an older process that has only just said it is ours: its past is not of this interval
            used[pid] = max(0, cpu_ns - (earlier or 0))
        if not watched:
            return HostUse(used, Others())
        system_ns = sum(ns for pid, ns in used.items() if pid not in working)
        known_ns = sum(used.values())
        unknown_ns = max(0, after.busy_ns - before.busy_ns) - known_ns + self._foreign_debt_ns
        foreign_ns = max(0, unknown_ns)
        self._foreign_debt_ns = min(0, unknown_ns)
        return HostUse(used, Others(float(system_ns), float(foreign_ns)))
