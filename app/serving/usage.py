"""When a model was asked and when it rested, as its replica counts it for Serve's autoscaler.

Knows nothing of requests but that they begin and end. Used from one event loop.
"""

from app.clock import Clock
from app.units import NS_PER_S


class Usage:
    """Counts since the model was loaded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ongoing = 0
        self._asked = 0
        self._busy_from_ns = 0
        self._idle_from_ns = clock.wall_ns()
        self._idle_ns = 0

    def begin(self) -> None:
        """A request has come."""
        self._asked += 1
        self._ongoing += 1
        if self._ongoing == 1:
            self._busy_from_ns = self._clock.wall_ns()
            self._idle_ns += self._busy_from_ns - self._idle_from_ns

    def end(self) -> None:
        """A request is answered, or given up."""
        self._ongoing -= 1
        if not self._ongoing:
            self._idle_from_ns = self._clock.wall_ns()

    def stats(self) -> dict[str, float]:
        """Requests so far; begin of the last visit and of the last rest, seconds since the epoch, 0: never; idle
        seconds in all."""
        now_ns = self._clock.wall_ns()
        resting_ns = 0 if self._ongoing else now_ns - self._idle_from_ns
        return {
            "asked": float(self._asked),
            "busy_from_s": self._busy_from_ns / NS_PER_S,
            "idle_from_s": 0.0 if self._ongoing else self._idle_from_ns / NS_PER_S,
            "idle_s": (self._idle_ns + resting_ns) / NS_PER_S,
        }
