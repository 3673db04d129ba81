"""Intensity over time: slots that were observed, slots that were forecast, and what holds where neither is known.

Knows nothing of providers, caches or clocks; a series is a snapshot. What holds at an instant is, in this order:
what was observed; a hole of at most three slots bridged by the mean of its neighbours (estimated); what was forecast
for it; the last known figure, for a while (stale); the yearly figure.

    series = GridSeries("FRA", LocationAverage(56.0, "FRA", "a table", 2023), observed=slots)
    series.intensity_at(wall_ns).grade
    series.mean_between(day_start_ns, day_end_ns).g_per_kwh

Raises InvalidInput for slots that overlap or are out of order: `ordered` puts them right.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, zip_longest
from typing import Generic

from app.carbon.intensity import IntensityGrade, Meaning, Slot
from app.errors import InvalidInput

_BRIDGED_SLOTS = 3
"""A hole of so many slots is bridged. Hourly intensity changes little within three hours of known neighbours; a longer
hole may hide the morning."""


@dataclass(frozen=True)
class GridSeries(Generic[Meaning]):
    """The intensity of one zone with one meaning."""

    zone: str
    otherwise: Meaning
    """What holds where nothing is known."""
    observed: tuple[Slot, ...] = field(default=(), repr=False)
    """What providers say that was; holes stay holes."""
    forecast: tuple[Slot, ...] = field(default=(), repr=False)
    """What they said of it before."""
    stale_ns: int = 0
    """For so long the last known figure is carried on."""
    revision: int = 0

    def __post_init__(self) -> None:
        for slots in (self.observed, self.forecast):
            if any(one.end_ns > other.start_ns for one, other in pairwise(slots)):
                raise InvalidInput(f"slots of {self.zone} overlap or are out of order")

    @property
    def observed_until_ns(self) -> int | None:
        """End of the newest slot that was observed; None without any."""
        return self.observed[-1].end_ns if self.observed else None

    def intensity_at(self, wall_ns: int) -> Meaning:
        """What held at `wall_ns`."""
        slot = self._known_at(wall_ns)
        return self._meaning(slot.g_per_kwh, slot.source, slot.grade) if slot else self.otherwise

    def slots_between(self, start_ns: int, end_ns: int) -> tuple[Slot, ...]:
        """What held from `start_ns` to `end_ns`, in order and without holes."""
        first = max(0, bisect_right(self._starts, start_ns) - 1)
        last = bisect_right(self._starts, end_ns - 1)
        known = [part for slot in self._line[first:last] if (part := _clipped(slot, start_ns, end_ns))]
        yearly = self.otherwise
        return filled(
            known,
            [Slot(*hole, yearly.g_per_kwh, yearly.grade, yearly.source) for hole in holes(known, start_ns, end_ns)],
        )

    def mean_between(self, start_ns: int, end_ns: int) -> Meaning:
        """The mean over time, graded as its worst part; what held at `start_ns` where the interval is empty."""
        slots = self.slots_between(start_ns, end_ns)
        if len(slots) < 2:
            return self.intensity_at(start_ns)
        total = sum(slot.g_per_kwh * (slot.end_ns - slot.start_ns) for slot in slots)
        sources = dict.fromkeys(slot.source for slot in slots)
        grade = IntensityGrade.worst(slot.grade for slot in slots)
        return self._meaning(total / (end_ns - start_ns), ", ".join(sources), grade)

    def _meaning(self, g_per_kwh: float, source: str, grade: IntensityGrade) -> Meaning:
        year = self.otherwise.year if grade is IntensityGrade.YEARLY else None
        return replace(self.otherwise, g_per_kwh=g_per_kwh, source=source, grade=grade, year=year)

    def _known_at(self, wall_ns: int) -> Slot | None:
        at = bisect_right(self._starts, wall_ns) - 1
        return self._line[at] if at >= 0 and wall_ns < self._line[at].end_ns else None

    @cached_property
    def _line(self) -> tuple[Slot, ...]:
        """All that is known, from best to worst, laid into one line."""
        known = filled(filled(self.observed, _bridges(self.observed)), self.forecast)
        return filled(known, _carried(known, self.stale_ns)) if self.stale_ns else known

    @cached_property
    def _starts(self) -> list[int]:
        return [slot.start_ns for slot in self._line]


def ordered(slots: Iterable[Slot]) -> tuple[Slot, ...]:
    """By time, without overlaps: of two with one start the later given counts, a slot ends where the next begins."""
    by_start = {slot.start_ns: slot for slot in slots}
    found = [by_start[start] for start in sorted(by_start)]
    for i, (one, other) in enumerate(pairwise(found)):
        if one.end_ns > other.start_ns:
            found[i] = replace(one, end_ns=other.start_ns)
    return tuple(found)


def filled(base: Sequence[Slot], filler: Sequence[Slot]) -> tuple[Slot, ...]:
    """`base` with its holes, ends included, filled by parts of `filler`. Both are ordered."""
    if not base or not filler:
        return tuple(base or filler)
    found = list(base)
    starts = [slot.start_ns for slot in filler]
    start, end = min(base[0].start_ns, filler[0].start_ns), max(base[-1].end_ns, filler[-1].end_ns)
    for hole_start, hole_end in holes(base, start, end):
        first = max(0, bisect_right(starts, hole_start) - 1)
        parts = (_clipped(slot, hole_start, hole_end) for slot in filler[first : bisect_right(starts, hole_end - 1)])
        found += [part for part in parts if part]
    return tuple(sorted(found, key=lambda slot: slot.start_ns))


def holes(slots: Iterable[Slot], start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
    """The intervals within `start_ns` to `end_ns` that no slot covers. `slots` are ordered."""
    at = start_ns
    for slot in slots:
        if slot.start_ns > at:
            yield at, min(slot.start_ns, end_ns)
        at = max(at, slot.end_ns)
        if at >= end_ns:
            return
    if at < end_ns:
        yield at, end_ns


def _bridges(slots: Sequence[Slot]) -> list[Slot]:
    found = []
    for one, other in pairwise(slots):
        gap, width = other.start_ns - one.end_ns, one.end_ns - one.start_ns
        if 0 < gap <= _BRIDGED_SLOTS * width:
            mean = (one.g_per_kwh + other.g_per_kwh) / 2
            found.append(Slot(one.end_ns, other.start_ns, mean, IntensityGrade.ESTIMATED, one.source))
    return found


def _carried(known: Sequence[Slot], stale_ns: int) -> list[Slot]:
    found = []
    for slot, following in zip_longest(known, known[1:]):
        until_ns = slot.end_ns + stale_ns if following is None else min(slot.end_ns + stale_ns, following.start_ns)
        if until_ns > slot.end_ns:
            found.append(Slot(slot.end_ns, until_ns, slot.g_per_kwh, IntensityGrade.STALE, slot.source))
    return found


def _clipped(slot: Slot, start_ns: int, end_ns: int) -> Slot | None:
    start, end = max(slot.start_ns, start_ns), min(slot.end_ns, end_ns)
    if start >= end:
        return None
    return slot if (start, end) == (slot.start_ns, slot.end_ns) else replace(slot, start_ns=start, end_ns=end)
