"""An energy counter together with the power of the same device: what both say of how far the counter can be trusted.

Knows nothing of vendors. Power is asked at every reading for eleven seconds, then about once a second, at uneven
times so that a load with a beat of a second is not always met at the same point of it.

    watched = WatchedCounter(EnergyCounter(...), power_mw, clock)
    watched.read()
    watched.condition()
"""

from collections.abc import Callable

from app.clock import Clock
from app.domain.reading import Condition, CounterReading
from app.sensors.counter_check import CounterCheck, Verdict
from app.sensors.energy_counter import EnergyCounter
from app.units import NS_PER_MS, NS_PER_S, UJ_PER_J, energy_of_power

_BURST_NS = 11 * NS_PER_S  # two windows of the check
# An update is at most this old when it is read, as far as today's counters are known.
_SLACK_NS = 100 * NS_PER_MS
_STUCK_NS = 3 * NS_PER_S
_STUCK_UJ = 10 * UJ_PER_J
_LARGEST_GAP_NS = 5 * NS_PER_S
_GOLDEN = 0.6180339887498949
_SEEKS_UNSTEADY = 5


class WatchedCounter:
    """One device. Not thread-safe."""

    def __init__(
        self, counter: EnergyCounter, power_mw: Callable[[], int | None], clock: Clock, power_note: str = ""
    ) -> None:
        self.counter, self._power_mw, self._clock, self._power_note = counter, power_mw, clock, power_note
        self.check = CounterCheck(_SLACK_NS)
        self._interruptions = 0
        self._burst_until_ns = clock.monotonic_ns() + _BURST_NS
        self._next_ns = 0
        self._uneven = 0.0
        self._compared: tuple[int, int, int] | None = None
        self._still_ns = self._still_uj = 0
        self._missing_uj = 0
        self.stuck = False
        """The counter stands still while the device reports power."""

    def read(self) -> CounterReading:
        """The counter, as EnergyCounter reads it. Raises SensorUnusable."""
        reading = self.counter.read()
        if reading.at_ns >= self._next_ns:
            self._compare(reading)
        return reading

    def condition(self) -> Condition:
        """What is known now."""
        return Condition(
            update_period_ns=self.counter.updates_ns,
            counter_to_power=self.check.ratio,
            disputed=self.stuck or self.check.verdict is Verdict.DISAGREES,
            notes=tuple(self._notes()),
        )

    def _compare(self, reading: CounterReading) -> None:
        interruptions = self.counter.resets + self.counter.slept_ns
        if interruptions != self._interruptions:
            self._interruptions, self._compared = interruptions, None
            self.check.restart()
        now_ns = self._clock.monotonic_ns()
        self._next_ns = self._next_after(now_ns)
        power_mw = self._power_mw()
        if power_mw is None:
            self._compared = None
            return
        self.check.add(reading.at_ns, reading.counter_uj, now_ns, power_mw)
        self._follow_stillness(now_ns, reading.counter_uj, power_mw)

    def _next_after(self, now_ns: int) -> int:
        if now_ns < self._burst_until_ns:
            return now_ns
        self._uneven = (self._uneven + _GOLDEN) % 1
        return now_ns + round((0.5 + self._uneven) * NS_PER_S)

    def _follow_stillness(self, now_ns: int, counter_uj: int, power_mw: int) -> None:
        """Add up what the device drew while its counter showed one value."""
        before, self._compared = self._compared, (now_ns, counter_uj, power_mw)
        if before is None or before[1] != counter_uj or now_ns - before[0] > _LARGEST_GAP_NS:
            self._still_ns = self._still_uj = 0
            self.stuck = False
            return
        elapsed_ns = now_ns - before[0]
        drawn_uj = energy_of_power((before[2] + power_mw) / 2, elapsed_ns)
        self._still_ns += elapsed_ns
        self._still_uj += drawn_uj
        if self.stuck:
            self._missing_uj += drawn_uj
        elif self._still_ns >= _STUCK_NS and self._still_uj >= _STUCK_UJ:
            self.stuck = True
            self._missing_uj += self._still_uj

    def _notes(self) -> list[str]:
        counter, notes = self.counter, []
        if self.stuck:
            notes.append(f"the energy counter has stood still for {self._still_ns // NS_PER_S} s while power is drawn")
        if self._missing_uj:
            notes.append(
                f"about {self._missing_uj / UJ_PER_J:.0f} J, by its power, were drawn while the energy counter stood "
                "still; unless it makes up for them they are not on the books"
            )
        if self.check.verdict is Verdict.DISAGREES and self.check.ratio is not None:
            notes.append(
                f"the energy counter moves {self.check.ratio:.2f} times as fast as the device's power says; it is "
                "booked as it stands, grade disputed"
            )
        if counter.resets:
            notes.append(
                f"the energy counter began anew {counter.resets} time(s), after a reset or a driver reload; what was "
                "used between the last reading and that moment is not known"
            )
        if counter.glitches:
            notes.append(f"{counter.glitches} bad answer(s) of the energy counter were not believed")
        if counter.slept_ns:
            notes.append(
                f"the host slept for {counter.slept_ns / NS_PER_S:.0f} s; its clock stood still meanwhile, and what "
                "the device drew is booked only as far as it could have drawn it awake"
            )
        if counter.sought >= _SEEKS_UNSTEADY:
            notes.append("the energy counter has no steady update period; readings are stamped with the call")
        return [*notes, self._power_note] if self._power_note else notes
