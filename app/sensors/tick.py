"""When a counter is updated: period and phase, learned from pairs of looks between which it moved.

Knows nothing of devices and takes no time of its own: instants come in as arguments. An energy counter stands still
between two updates (every 20 to 100 ms on today's GPUs), so a value belongs to the update before the look, not to the
look. What is kept are bounds: every straight line that passes through all enclosures is possible, and the bounds widen
until the next update is caught. Updates that no line fits are late by some jitter, which widens all enclosures.

    ticks = TickClock()
    ticks.learn(enclosures)            # (early_ns, late_ns]: an update fell in between
    ticks.enclosed(early_ns, late_ns)  # one more, later; the first one confirms the phase
    ticks.update_seen(early_ns, late_ns)   # the instant of the value that a look then showed, or None
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from app.units import NS_PER_MS, NS_PER_S

Enclosure = tuple[int, int]
"""(early_ns, late_ns]: an update fell in between."""

_MIN_UPDATES = 4
_KEPT_UPDATES = 16
# A phase known to less than a third of a period cannot tell one update from the next with room for both bounds.
_LOST_SHARE = 1 / 3
_SHARP_SHARE = 1 / 10
_NEEDED_SHARE = 1 / 25
_WANTED_SHARE = 1 / 50
_FINEST_WANTED_NS = NS_PER_MS // 2
_LONGEST_UNSEEN_NS = 30 * NS_PER_S
_MISSES_ALLOWED = 1
_FIRST_JITTER_NS = 50_000
_JITTER_STEP = 1.5
_JITTER_MARGIN = 2


@dataclass(frozen=True, slots=True)
class _Update:
    number: int
    early_ns: int
    late_ns: int

    @property
    def width_ns(self) -> int:
        return self.late_ns - self.early_ns


class TickClock:
    """Period and phase of one counter. Unknown until `learn`, trusted after the first `enclosed` that agrees."""

    def __init__(self) -> None:
        self._updates: deque[_Update] = deque(maxlen=_KEPT_UPDATES)
        self._shortest_ns = self._longest_ns = 0.0
        self._anchor = 0
        self._early_ns = self._late_ns = 0.0
        self._jitter_ns = 0.0
        self._misses = 0
        self.trusted = False
        """A later update fell where it was expected: the counter moves by itself, not when it is looked at."""
        self.due_ns = 0
        """When the next update should be caught, for the bounds to stay small against the period."""
        self.worn_out_ns = 0
        """When the bounds are so wide that one update can no longer be told from the next, without another one seen."""

    @property
    def known(self) -> bool:
        """A period was learned; `trusted` says whether it may be used."""
        return self._longest_ns > 0

    @property
    def period_ns(self) -> int | None:
        """Time between two updates, None as long as it is not trusted."""
        return round(self._period_ns) if self.trusted else None

    def learn(self, enclosures: Sequence[Enclosure]) -> bool:
        """Take period and phase from updates seen close together; False if they show no steady period."""
        self.forget()
        if len(enclosures) < _MIN_UPDATES:
            return False
        middles = [(early + late) / 2 for early, late in enclosures]
        gaps = [later - earlier for earlier, later in pairwise(middles)]
        # The lower quartile: an update that was slept through makes a gap of two periods, never half a one.
        guess_ns = sorted(gaps)[len(gaps) // 4]
        widths = sorted(late - early for early, late in enclosures)
        if guess_ns < 3 * widths[len(widths) // 2]:
            return False  # it moves at nearly every look: no tick that could be told
        number = 0
        for (early, late), gap in zip(enclosures, [0.0, *gaps], strict=True):
            number += max(round(gap / guess_ns), 1) if gap else 0
            if late - early <= guess_ns * _SHARP_SHARE:
                self._updates.append(_Update(number, early, late))
        return self._fitted(guess_ns) if len(self._updates) >= _MIN_UPDATES else self._lost()

    def enclosed(self, early_ns: int, late_ns: int) -> bool:
        """One more update fell into (early, late]; False, and all is forgotten, where that contradicts the bounds."""
        period_ns = self._period_ns
        if not self.known or late_ns - early_ns > period_ns * _LOST_SHARE:
            return self.known
        number = self._anchor + round(((early_ns + late_ns - self._early_ns - self._late_ns) / 2) / period_ns)
        earliest_ns, latest_ns = self._bounds(number)
        tolerance_ns = period_ns * _SHARP_SHARE
        if late_ns < earliest_ns - tolerance_ns or early_ns > latest_ns + tolerance_ns:
            return self._lost()
        self.trusted, self._misses = True, 0
        if number <= self._updates[-1].number or late_ns - early_ns > period_ns * _SHARP_SHARE:
            self._plan()  # it agrees, and is no better than what is known
            return True
        self._updates.append(_Update(number, early_ns, late_ns))
        return self._fitted(period_ns)

    def missed(self) -> bool:
        """No update came where one was expected; False, and all is forgotten, when that happens again."""
        self._misses += 1
        return True if self.trusted and self._misses <= _MISSES_ALLOWED else self._lost()

    def forget(self) -> None:
        """Begin anew: the phase is not what it was."""
        self._updates.clear()
        self._shortest_ns = self._longest_ns = self._jitter_ns = 0.0
        self._misses, self.trusted = 0, False

    def uncertainty_ns(self, at_ns: int) -> float:
        """How far an estimated update at `at_ns` may lie from the true one; grows with time since the last one seen."""
        ahead = (at_ns - self._early_ns) / self._period_ns
        return (self._late_ns - self._early_ns + (self._longest_ns - self._shortest_ns) * max(ahead, 0.0)) / 2

    def update_seen(self, early_ns: int, late_ns: int) -> int | None:
        """The update whose value a look within [early, late] showed; None where two are possible or none is known."""
        if not self.trusted:
            return None
        surely = (early_ns - self._late_ns) // self._longest_ns
        perhaps = (late_ns - self._early_ns) // self._shortest_ns
        return self._instant(self._anchor + int(surely)) if surely == perhaps else None

    def next_update_ns(self, after_ns: int) -> int:
        """The first expected update after `after_ns`."""
        return self._instant(self._number_at(after_ns) + 1)

    def clear_ns(self, at_ns: int) -> int:
        """The instant after which a look no longer is in doubt about the update nearest to `at_ns`."""
        nearest = self._number_at(at_ns + round(self._period_ns / 2))
        return round(self._bounds(nearest)[1]) + 1

    def needs_update(self, at_ns: int) -> bool:
        """The bounds at `at_ns` are so wide that the next update must be caught, however long that takes."""
        at_best_ns = (self._late_ns - self._early_ns) / 2
        return self.uncertainty_ns(at_ns) > max(self._period_ns * _NEEDED_SHARE, 2 * _FINEST_WANTED_NS, 2 * at_best_ns)

    @property
    def _period_ns(self) -> float:
        return (self._shortest_ns + self._longest_ns) / 2

    def _number_at(self, at_ns: int) -> int:
        return self._anchor + int((at_ns - (self._early_ns + self._late_ns) / 2) // self._period_ns)

    def _instant(self, number: int) -> int:
        return round(sum(self._bounds(number)) / 2)

    def _bounds(self, number: int) -> tuple[float, float]:
        """The earliest and latest instant of an update."""
        ahead = number - self._anchor
        slow, fast = (self._longest_ns, self._shortest_ns) if ahead >= 0 else (self._shortest_ns, self._longest_ns)
        return self._early_ns + fast * ahead, self._late_ns + slow * ahead

    def _fitted(self, period_ns: float) -> bool:
        """Bounds from all updates kept; lost where it takes too much jitter for one line to pass through them."""
        while not self._bounded(self._jitter_ns):
            self._jitter_ns = max(self._jitter_ns * _JITTER_STEP, _FIRST_JITTER_NS)
            if self._jitter_ns > period_ns * _LOST_SHARE:
                return self._lost()
        # A handful of updates shows less jitter than there is.
        self._bounded(self._jitter_ns * _JITTER_MARGIN)
        self._plan()
        return True

    def _plan(self) -> None:
        """When the bounds will have grown to what is still wanted, and to what is no use."""
        first, last, period_ns = self._updates[0], self._updates[-1], self._period_ns
        growth = max(self._longest_ns - self._shortest_ns, 1e-3) / period_ns
        width_ns = self._late_ns - self._early_ns
        room_ns = (2 * max(period_ns * _WANTED_SHARE, _FINEST_WANTED_NS) - width_ns) / growth
        least_ns = max((last.early_ns - first.early_ns) / 2, NS_PER_S / 10)
        wait_ns = min(max(room_ns, least_ns), _LONGEST_UNSEEN_NS) if self.trusted else 0
        self.due_ns = last.late_ns + round(wait_ns)
        self.worn_out_ns = round(self._early_ns + (2 * period_ns * _LOST_SHARE - width_ns) / growth)

    def _bounded(self, jitter_ns: float) -> bool:
        """Take the bounds that the updates leave, each being off by up to `jitter_ns`; False if they leave none."""
        shortest_ns, longest_ns = 0.0, float("inf")
        for before, after in combinations(self._updates, 2):
            count = after.number - before.number
            shortest_ns = max(shortest_ns, (after.early_ns - before.late_ns - 2 * jitter_ns) / count)
            longest_ns = min(longest_ns, (after.late_ns - before.early_ns + 2 * jitter_ns) / count)
        if shortest_ns > longest_ns:
            return False
        self._shortest_ns, self._longest_ns = shortest_ns, longest_ns
        newest = self._updates[-1].number
        best = min(self._updates, key=lambda u: u.width_ns + (longest_ns - shortest_ns) * (newest - u.number))
        self._anchor = best.number
        self._early_ns, self._late_ns = best.early_ns - jitter_ns, best.late_ns + jitter_ns
        return True

    def _lost(self) -> bool:
        self.forget()
        return False
