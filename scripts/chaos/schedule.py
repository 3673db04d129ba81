"""When clients ask: busy for a while, then quiet, again and again.

Knows nothing of Ray or of clocks: time comes in as an argument.
"""

from dataclasses import dataclass

from app.units import NS_PER_S


@dataclass(frozen=True)
class Schedule:
    """From `begun_ns` (monotonic) on: `busy_s` of load, `quiet_s` of none."""

    begun_ns: int
    busy_s: float = 24.0
    quiet_s: float = 6.0

    def is_busy(self, at_ns: int) -> bool:
        """Whether clients should ask now."""
        since_s = (at_ns - self.begun_ns) / NS_PER_S
        return since_s >= 0 and since_s % (self.busy_s + self.quiet_s) < self.busy_s
