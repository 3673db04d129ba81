"""A hardware energy counter, read so that every value carries the instant at which the counter took it.

Knows nothing of vendors: a look is a function that answers microjoules or raises SensorUnusable; how to wait comes in
as an argument. What it guards against: a value that falls or jumps further than any device can draw is believed only
when a second look agrees, so that one bad answer becomes neither a reset nor a spike.

    counter = EnergyCounter("GPU-1", look, clock, time.sleep)
    counter.read()               # stamped with the call, until the period is known
    seek([counter, ...])         # at most a second for all: period and phase
    counter.read()               # stamped with the counter's last update
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.clock import Clock
from app.domain.reading import CounterReading
from app.errors import SensorUnusable
from app.sensors.tick import Enclosure, TickClock
from app.units import NS_PER_MS, NS_PER_S

Pause = Callable[[float], None]
"""Waits for so many seconds, about."""

_SEEK_NS = NS_PER_S
_SEEK_QUIET_NS = 300 * NS_PER_MS  # three updates of the slowest counter known; one that stands still shows none
_SEEK_UPDATES = 8
_SEEK_AGAIN_NS = 3 * NS_PER_S
_SEEK_RARELY_NS = 600 * NS_PER_S
_SEEKS_IN_SHORT = 5
_SLEEP_NS = 100 * NS_PER_MS
_LOOK_EVERY_S = 0.0003
_MARGIN_NS = 300_000
_PATIENCE_NS = 10 * NS_PER_MS
_TRIES_TO_CLEAR = 3
_RETRY_NS = NS_PER_S // 2
_PAUSE_OVERSLEEPS_NS = 100_000
# As delta.py bounds a wrap; the allowance is for values that are up to two updates old.
_MAX_UJ_PER_MS = 10_000_000
_ALLOWANCE_NS = NS_PER_S // 4


@dataclass(frozen=True, slots=True)
class Look:
    """One call: the counter showed `counter_uj` at some instant within [early_ns, late_ns]."""

    early_ns: int
    late_ns: int
    counter_uj: int


class EnergyCounter:
    """One counter. Reads cost one look; now and then some more, around an expected update."""

    def __init__(self, name: str, look_uj: Callable[[], int], clock: Clock, pause: Pause | None = None) -> None:
        self.name, self.ticks = name, TickClock()
        self._look_uj, self._clock, self._pause = look_uj, clock, pause
        self._last: Look | None = None
        self._doubtful: Look | None = None
        self._stamp_ns = -1
        self._moves = self._not_before_ns = self._sought_ns = 0
        self._suspended_ns = clock.suspended_ns()
        self._asleep_ns = 0
        self.sought = 0
        """How often updates were seen and no steady period was found or confirmed."""
        self.glitches = 0
        """Bad answers that were not believed."""
        self.resets = 0
        """How often the counter began anew."""
        self.slept_ns = 0
        """For how long the host slept while this counter was read."""

    @property
    def updates_ns(self) -> int | None:
        """Time between two updates, None where it is not known."""
        return self.ticks.period_ns

    def seek_due(self, now_ns: int) -> bool:
        """The counter has moved since a period was last sought, and none is known."""
        if self._pause is None or self.ticks.known or self._moves == 0:
            return False
        wait_ns = _SEEK_AGAIN_NS if self.sought < _SEEKS_IN_SHORT else _SEEK_RARELY_NS
        return not self.sought or now_ns - self._sought_ns >= wait_ns

    def sought_with(self, enclosures: Sequence[Enclosure], now_ns: int) -> None:
        """A search has ended, and saw the counter move within each of `enclosures`."""
        self._sought_ns, self._moves = now_ns, 0
        self.sought += bool(enclosures)
        self.ticks.learn(enclosures)

    def read(self) -> CounterReading:
        """The counter now, at the instant of its last update where that is known, else of the call. Never back."""
        self._notice_sleep()
        look = self.look()
        if (calm_ns := self._calm(look)) is not None:
            self._remember(look)
            self._stamp_ns = calm_ns
            return CounterReading(calm_ns, look.counter_uj)
        look = self._confirmed(look)
        if self.ticks.known:
            later = self._timed(look)
            look = later if self._follows(look, later) else look
        stamp_ns = self._stamp(look)
        if stamp_ns == self._stamp_ns and self._last is not None and look.counter_uj != self._last.counter_uj:
            self.ticks.forget()  # two values within one update: the phase is not what it was
        self._remember(look)
        self._stamp_ns = max(stamp_ns, self._stamp_ns)
        return CounterReading(self._stamp_ns, look.counter_uj)

    def _calm(self, look: Look) -> int | None:
        """The instant of a look that leaves no question open, as nearly all do: the short way to what `read` does."""
        ticks = self.ticks
        if not ticks.trusted or self._doubtful is not None or look.late_ns >= ticks.worn_out_ns:
            return None
        if look.late_ns >= max(ticks.due_ns, self._not_before_ns) or not self._follows(self._last, look):
            return None
        stamp_ns = ticks.update_seen(look.early_ns, look.late_ns)
        return stamp_ns if stamp_ns is not None and stamp_ns > self._stamp_ns else None

    def look(self) -> Look:
        """One call of the device. Raises SensorUnusable."""
        early_ns = self._clock.monotonic_ns()
        counter_uj = self._look_uj()
        return Look(early_ns, self._clock.monotonic_ns(), counter_uj)

    def restart(self) -> None:
        """The clock or the device was interrupted: the phase is not what it was."""
        self.ticks.forget()
        self.sought = 0

    def _notice_sleep(self) -> None:
        suspended_ns = self._clock.suspended_ns()
        slept_ns = suspended_ns - self._suspended_ns
        if slept_ns > _SLEEP_NS:
            self._suspended_ns = suspended_ns
            self._asleep_ns += slept_ns
            self.slept_ns += slept_ns
            self.restart()

    def _remember(self, look: Look) -> None:
        if self._last is not None and look.counter_uj != self._last.counter_uj:
            self._moves += 1
        self._last, self._asleep_ns = look, 0

    def _confirmed(self, look: Look) -> Look:
        """`look`, if it can follow what was shown before, or confirms the doubtful look before it.

        Raises SensorUnusable for a first look that does neither, even when repeated at once.
        """
        for again in range(2):
            look = self.look() if again else look
            if self._follows(self._last, look):
                self.glitches += bool(again or self._doubtful)
                self._doubtful = None
                return look
            if self._doubtful is not None and self._follows(self._doubtful, look):
                self.resets += 1
                self._doubtful = None
                self.restart()
                return look
        self._doubtful = look
        shown_uj = self._last.counter_uj if self._last is not None else 0
        raise SensorUnusable(
            f"{self.name}: its energy counter showed {look.counter_uj} uJ, which cannot follow {shown_uj} uJ; nothing "
            "is booked until the next reading tells a counter that began anew from a bad answer"
        )

    def _follows(self, last: Look | None, look: Look) -> bool:
        """The counter can have moved from `last` to `look` in the time between, the host's sleep included."""
        if last is None:
            return True
        elapsed_ns = look.late_ns - last.early_ns + self._asleep_ns
        return 0 <= look.counter_uj - last.counter_uj <= _reach_uj(elapsed_ns)

    # -- the instant of a value ------------------------------------------------------------------------------------

    def _stamp(self, look: Look) -> int:
        stamp_ns = self.ticks.update_seen(look.early_ns, look.late_ns)
        return (look.early_ns + look.late_ns) // 2 if stamp_ns is None else stamp_ns

    def _timed(self, look: Look) -> Look:
        """`look`, or a later one whose update is beyond doubt; an update that is due is caught on the way."""
        if look.late_ns >= self.ticks.worn_out_ns:
            self.ticks.forget()
            return look
        if look.late_ns >= max(self.ticks.due_ns, self._not_before_ns):
            look = self._catch(look)
        for _ in range(_TRIES_TO_CLEAR):
            if not self.ticks.trusted or self.ticks.update_seen(look.early_ns, look.late_ns) is not None:
                break
            self._wait(self.ticks.clear_ns(look.late_ns) - self._clock.monotonic_ns())
            again = self.look()
            if again.counter_uj != look.counter_uj:
                self.ticks.enclosed(look.early_ns, again.late_ns)
            look = again
        return look

    def _catch(self, look: Look) -> Look:
        """Look around the next expected update until it comes, if it is near or long due."""
        ticks = self.ticks
        expected_ns = ticks.next_update_ns(look.late_ns)
        around_ns = round(ticks.uncertainty_ns(expected_ns)) + _MARGIN_NS
        begin_ns = expected_ns - around_ns
        overdue = not ticks.trusted or ticks.needs_update(look.late_ns)
        if begin_ns <= look.late_ns or (begin_ns - look.late_ns > _PATIENCE_NS and not overdue):
            return look
        self._wait(begin_ns - self._clock.monotonic_ns() - _PAUSE_OVERSLEEPS_NS)
        first = before = self.look()
        while before.late_ns <= expected_ns + around_ns:
            self._wait(round(_LOOK_EVERY_S * NS_PER_S))
            now = self.look()
            if now.counter_uj != before.counter_uj:
                if ticks.enclosed(before.early_ns, now.late_ns) and ticks.trusted:
                    self.sought = 0
                return now
            before = now
        in_time = first.late_ns < expected_ns - ticks.uncertainty_ns(expected_ns)
        # A device that draws nothing moves no counter: no update is then no contradiction.
        if in_time and self._last is not None and first.counter_uj != self._last.counter_uj:
            ticks.missed()
        self._not_before_ns = before.late_ns + _RETRY_NS
        return before

    def _wait(self, duration_ns: int) -> None:
        if self._pause is not None and duration_ns > 0:
            self._pause(duration_ns / NS_PER_S)


def seek(counters: Sequence[EnergyCounter], clock: Clock, pause: Pause) -> None:
    """Look at all `counters` in turn until each has shown enough updates, at most a second for all of them together.

    A counter whose device fails meanwhile is left without a period.
    """
    begun_ns = clock.monotonic_ns()
    before: list[Look | None] = [None] * len(counters)
    seen: list[list[Enclosure]] = [[] for _ in counters]
    searched = set(range(len(counters)))
    while searched and (now_ns := clock.monotonic_ns()) - begun_ns < _SEEK_NS:
        for index in tuple(searched):
            try:
                look = counters[index].look()
            except SensorUnusable:
                searched.discard(index)
                continue
            earlier, before[index] = before[index], look
            if earlier is not None and look.counter_uj != earlier.counter_uj:
                seen[index].append((earlier.early_ns, look.late_ns))
            still = not seen[index] and now_ns - begun_ns > _SEEK_QUIET_NS
            if still or len(seen[index]) >= _SEEK_UPDATES:
                searched.discard(index)
        pause(_LOOK_EVERY_S)
    for counter, enclosures in zip(counters, seen, strict=True):
        counter.sought_with(enclosures, clock.monotonic_ns())


def _reach_uj(elapsed_ns: int) -> int:
    """The most that a counter can move in `elapsed_ns`."""
    return (elapsed_ns + _ALLOWANCE_NS) * _MAX_UJ_PER_MS // NS_PER_MS
