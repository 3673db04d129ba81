"""When a model was asked and when it rested, as its replica counts it for Serve's autoscaler.

Knows nothing of requests but that they begin and end. Used from one event loop.
"""

from collections import deque

from app.clock import Clock
from app.units import NS_PER_S

_SHORTEST_GAP_NS = NS_PER_S // 10
"""Shorter ones are within a burst: no delay of anybody's is about them."""
_KEPT_GAPS = 4096


class Usage:
    """Counts since the model was loaded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ongoing = 0
        self._asked = 0
        self._busy_from_ns = 0
        self._idle_from_ns = clock.wall_ns()
        self._idle_ns = 0
        self._born_ns = self._idle_from_ns
        self._gaps_ns: deque[int] = deque(maxlen=_KEPT_GAPS)

    def begin(self) -> None:
        """A request has come."""
        self._asked += 1
        self._ongoing += 1
        if self._ongoing == 1:
            self._busy_from_ns = self._clock.wall_ns()
            gap_ns = self._busy_from_ns - self._idle_from_ns
            self._idle_ns += gap_ns
            if gap_ns >= _SHORTEST_GAP_NS and self._asked > 1:
                self._gaps_ns.append(gap_ns)

    def end(self) -> None:
        """A request is answered, or given up."""
        self._ongoing -= 1
        if not self._ongoing:
            self._idle_from_ns = self._clock.wall_ns()

    @property
    def born_s(self) -> float:
        """Unix seconds at which it was loaded."""
        return self._born_ns / NS_PER_S

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Between its visits, those of a tenth of a second and more, the newest few thousand."""
        return tuple(gap_ns / NS_PER_S for gap_ns in self._gaps_ns)

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
