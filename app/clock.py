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


class SystemClock:
    """The kernel's clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """A clock that tests and replays advance by hand; both hands move together."""

    def __init__(self, monotonic_ns: int = 0, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def advance(self, duration_ns: int) -> None:
        """Move both hands forward by `duration_ns` >= 0."""
        if duration_ns < 0:
            raise ValueError(f"duration_ns must be >= 0, got {duration_ns}")
        self._monotonic_ns += duration_ns
        self._wall_ns += duration_ns
