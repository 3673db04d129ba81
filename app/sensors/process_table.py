"""CPU time of the host's processes, by the kernel's own clocks: who kept the host busy.

Reads each process's CPU clock (nanoseconds, all threads) and the host's busy time (10 ms jiffies). Knows which
processes belong to Ray by their command line; whose work they do is decided elsewhere.

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
_RAY_MARKS = (b"ray::", b"ray/_private/", b"ray/dashboard/", b"ray/core/")
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
    """By pid, of the processes that were asked for and of Ray's own; cumulative since their birth."""
    ray_pids: frozenset[int] = frozenset()
    """Which of them are Ray's."""


class ProcessTable:
    """Follows the processes of interest from snapshot to snapshot."""

    def __init__(self, proc: Path = Path("/proc"), rescan_ns: int = NS_PER_S) -> None:
        self._proc, self._rescan_ns = proc, rescan_ns
        self._scans: dict[int, int] = {}
        self._ray: frozenset[int] = frozenset()
        self._scanned_ns = -rescan_ns
        self._stat = -1

    def snapshot(self, pids: Iterable[int], now_ns: int) -> ProcessSnapshot:
        """CPU time now of `pids` and of Ray's processes; those that are gone are left out."""
        if now_ns - self._scanned_ns >= self._rescan_ns:
            self._scan()
            self._scanned_ns = now_ns
        cpu_ns = {}
        for pid in self._ray.union(pids):
            used = cpu_time_ns(pid)
            if used is not None:
                cpu_ns[pid] = used
        return ProcessSnapshot(self._busy_ns(), cpu_ns, self._ray)

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
            scans = self._scans.get(pid, 0)
            if pid in self._ray or (scans < _SCANS_UNTIL_KNOWN and self._is_ray(pid)):
                ray.add(pid)
        self._ray = frozenset(ray)
        self._scans = {pid: min(self._scans.get(pid, 0) + 1, _SCANS_UNTIL_KNOWN) for pid in alive}

    def _is_ray(self, pid: int) -> bool:
        try:
            with open(self._proc / str(pid) / "cmdline", "rb") as file:
                command = file.read(4096)
        except OSError:
            return False
        program = os.path.basename(command.split(b"\0", 1)[0]).decode(errors="replace")
        return program in _RAY_NAMES or any(mark in command for mark in _RAY_MARKS)
