"""The only reader of time.

Work on one node is ordered by the kernel's monotonic clock, which all processes of a host share; the wall clock
is read only to say when something happened to people and other hosts. Both are integers of nanoseconds.
Time comes into everything else as an argument or as a `Clock`.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of the house may ask about time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC: comparable between processes of one host and boot, never back."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump."""

    def suspended_ns(self) -> int:
        """Nanoseconds since boot in which the host slept: CLOCK_MONOTONIC stood still. To about a microsecond."""

    def cpu_ns(self) -> int:
        """CPU nanoseconds that this process, all its threads, has used since its birth."""


class SystemClock:
    """The kernel's clocks."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_ns = staticmethod(time.time_ns)
    cpu_ns = staticmethod(time.process_time_ns)

    def suspended_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()


class ManualClock:
    """A clock that tests and replays advance by hand; both hands move together."""

    def __init__(self, monotonic_ns: int = 0, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._suspended_ns = self._cpu_ns = 0

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def suspended_ns(self) -> int:
        return self._suspended_ns

    def cpu_ns(self) -> int:
        return self._cpu_ns

    def work(self, cpu_ns: int) -> None:
        """This process uses CPU time; the hands do not move."""
        self._cpu_ns += cpu_ns

    def sleep(self, duration_ns: int) -> None:
        """The host sleeps for `duration_ns`: the monotonic hand stands still."""
        self._wall_ns += duration_ns
        self._suspended_ns += duration_ns

    def advance(self, duration_ns: int) -> None:
        """Move both hands forward by `duration_ns` >= 0."""
        if duration_ns < 0:
            raise ValueError(f"duration_ns must be >= 0, got {duration_ns}")
        self._monotonic_ns += duration_ns
        self._wall_ns += duration_ns
