"""CPU time of the host's processes, by the kernel's own clocks: who kept the host busy.

Reads each process's CPU clock (nanoseconds, all threads) and the host's busy time (10 ms jiffies). Knows which
processes belong to Ray by their command line, and which are children (a data loader) of those that were asked for:
their time is their parent's. Whose work it is is decided elsewhere.

    table = ProcessTable()
    before, after = table.snapshot(pids), table.snapshot(pids)
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from app.domain.slice import ProcessKey
from app.units import NS_PER_S

_TICK_NS = NS_PER_S // os.sysconf("SC_CLK_TCK")
_RAY_NAMES = ("raylet", "gcs_server", "haproxy")
_RAY_TITLE = b"ray::"  # of a worker; a process that it forks inherits the title
_RAY_MARKS = (b"ray/_private/", b"ray/dashboard/", b"ray/core/")
_GENERATIONS = 64  # a pid that was used again can make somebody his own ancestor
_SCANS_UNTIL_KNOWN = 4  # a process may still replace its command line (exec, setproctitle) shortly after its birth


def cpu_time_ns(pid: int) -> int | None:
    """CPU nanoseconds that a process (all its threads, dead ones included) has used; None if it is gone.

    The clock id of another process is (~pid << 3) | 2: CPUCLOCK_SCHED in the kernel's posix-timers.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def process_key(pid: int, proc: Path = Path("/proc")) -> ProcessKey | None:
    """The pid with its start time; None if it is gone."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    return ProcessKey(pid, int(text.rpartition(")")[2].split()[19]))


def birth_monotonic_ns(key: ProcessKey) -> int:
    """When a process was born, on the monotonic clock (10 ms resolution)."""
    suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return key.started_ticks * _TICK_NS - suspended_ns


class Liveness:
    """Tells whether a process still runs: a cheap look at its CPU clock, and now and then at its start time."""

    def __init__(self, looks_per_check: int = 20) -> None:
        self._looks_per_check = looks_per_check
        self._looks: dict[ProcessKey, int] = {}

    def __call__(self, process: ProcessKey) -> bool:
        looks = self._looks.get(process, 0)
        self._looks[process] = looks + 1
        alive = cpu_time_ns(process.pid) is not None
        if alive and looks % self._looks_per_check == 0:
            alive = process_key(process.pid) == process
        if not alive:
            del self._looks[process]
        return alive


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """Cumulative CPU time at one instant."""

    busy_ns: int
    """Of all CPUs together, since boot."""
    cpu_ns: dict[int, int] = field(default_factory=dict)
    """By pid, of the processes that were asked for, with their children, and of Ray's own; cumulative since birth."""
    ray_pids: frozenset[int] = frozenset()
    """Which of them are Ray's."""
    children: dict[int, int] = field(default_factory=dict)
    """Who is the child of which process that was asked for."""


class ProcessTable:
    """Follows the processes of interest from snapshot to snapshot."""

    def __init__(self, proc: Path = Path("/proc"), rescan_ns: int = NS_PER_S) -> None:
        self._proc, self._rescan_ns = proc, rescan_ns
        self._scans: dict[int, int] = {}
        self._ray: frozenset[int] = frozenset()
        self._infrastructure: set[int] = set()
        self._parents: dict[int, int] = {}
        self._owners: frozenset[int] = frozenset()
        self._families: dict[int, _Family] = {}
        self._scanned_ns = -rescan_ns
        self._stat = -1

    def snapshot(self, pids: Iterable[int], now_ns: int) -> ProcessSnapshot:
        """CPU time now of `pids` and of Ray's processes; those that are gone are left out."""
        owners = frozenset(pids)
        if now_ns - self._scanned_ns >= self._rescan_ns:
            self._scan()
            self._scanned_ns = now_ns
            self._gather(owners)
        elif owners != self._owners:
            self._gather(owners)
        children = {child: owner for owner, family in self._families.items() for child in family.children}
        cpu_ns = {}
        for pid in self._ray.union(owners) - children.keys():
            used = cpu_time_ns(pid)
            if used is not None:
                cpu_ns[pid] = used + (self._families[pid].cpu_ns() if pid in self._families else 0)
        return ProcessSnapshot(self._busy_ns(), cpu_ns, self._ray - children.keys(), children)

    def _busy_ns(self) -> int:
        """Busy time of all CPUs: user, nice, system, irq, softirq of /proc/stat (guest time is within user)."""
        if self._stat < 0:
            self._stat = os.open(self._proc / "stat", os.O_RDONLY | os.O_CLOEXEC)
        line = os.pread(self._stat, 256, 0).split(b"\n", 1)[0]
        user, nice, system, _, _, irq, softirq = map(int, line.split()[1:8])
        return (user + nice + system + irq + softirq) * _TICK_NS

    def _scan(self) -> None:
        """Look at young processes; a pid stays Ray's once its command line said so."""
        alive = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        ray = set()
        for pid in alive:
            if pid in self._ray or (self._scans.get(pid, 0) < _SCANS_UNTIL_KNOWN and self._is_ray(pid)):
                ray.add(pid)
        self._ray = frozenset(ray)
        self._infrastructure &= ray
        self._parents = {pid: self._parents[pid] if pid in self._parents else self._parent(pid) for pid in alive}
        self._scans = {pid: min(self._scans.get(pid, 0) + 1, _SCANS_UNTIL_KNOWN) for pid in alive}

    def _gather(self, owners: frozenset[int]) -> None:
        """Find the children of `owners`, and theirs; Ray's own services are nobody's, whoever started them."""
        self._owners = owners
        children: dict[int, set[int]] = {}
        for pid in self._parents if owners else ():
            owner = self._owner(pid, owners)
            if owner:
                children.setdefault(owner, set()).add(pid)
        families = {owner: self._families.get(owner, _Family()) for owner in children.keys() | self._families.keys()}
        self._families = {owner: family for owner, family in families.items() if owner in owners}
        for owner, family in self._families.items():
            family.children = frozenset(children.get(owner, ()))

    def _owner(self, pid: int, owners: frozenset[int]) -> int:
        """The nearest ancestor that is one of `owners`; 0 for none."""
        ancestor = pid
        for _ in range(_GENERATIONS):
            if ancestor in owners:
                return ancestor if ancestor != pid else 0
            if ancestor <= 1 or ancestor in self._infrastructure:
                return 0
            ancestor = self._parents.get(ancestor, 0)
        return 0

    def _parent(self, pid: int) -> int:
        """Who started a process; 0 when it is gone."""
        try:
            with open(self._proc / str(pid) / "stat", "rb") as file:
                return int(file.read(512).rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return 0

    def _is_ray(self, pid: int) -> bool:
        try:
            with open(self._proc / str(pid) / "cmdline", "rb") as file:
                command = file.read(4096)
        except OSError:
            return False
        program = os.path.basename(command.split(b"\0", 1)[0]).decode(errors="replace")
        if program in _RAY_NAMES or any(mark in command for mark in _RAY_MARKS):
            self._infrastructure.add(pid)
            return True
        return _RAY_TITLE in command


class _Family:
    """The children of one process, the dead ones' time included as far as it was seen."""

    def __init__(self) -> None:
        self.children: frozenset[int] = frozenset()
        self._seen: dict[int, int] = {}
        self._buried_ns = 0

    def cpu_ns(self) -> int:
        """CPU time of all of them so far; never falls."""
        for child in self.children | self._seen.keys():
            used = cpu_time_ns(child)
            if used is not None and child in self.children:
                self._seen[child] = max(used, self._seen.get(child, 0))
            else:
                self._buried_ns += self._seen.pop(child, 0)
        return self._buried_ns + sum(self._seen.values())
