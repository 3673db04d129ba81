"""One device as its meter follows it: readings in, deltas out, and the two power levels attribution needs.

Knows nothing of slices or accounts.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from app.domain.reading import Condition, CounterReading, Delta, DeltaKind, Device, Grade, Reading
from app.engine.profiler import LOOK_AHEAD, Profiler
from app.ledger.delta import delta_between
from app.ledger.pace import PaceTracker, WorkingPower
from app.sensors.process_table import ProcessSnapshot
from app.units import NS_PER_MS, power_of_energy

_FLOOR_SAMPLES = 20
_MIN_CEILING_NS = 80 * NS_PER_MS  # shorter intervals mistake one tick of the counter for a peak
# NVML updates energy counters "approximately every 100 ms on NVIDIA GPUs": the ML.ENERGY initiative, "Thermally Stable
# Profiling for Accurate GPU Energy Measurement" (ml.energy/blog, read 2026-11-22).
_UNKNOWN_TICK_NS = 100 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Interval:
    """A delta waiting to be attributed, with the host's CPU clocks at both ends."""

    delta: Delta
    readings: tuple[Reading, ...]
    """Raw readings after the one it begins with; the last is the one it ends with."""
    before: ProcessSnapshot
    after: ProcessSnapshot
    grade: Grade
    """Of the device while it was read."""
    end_mw: float
    """Mean power between its last two readings."""


class FloorTracker:
    """The power of a device while nobody works on it, learned from slice-free intervals of the same residency.

    Accelerators: the mean of the newest intervals. Host devices are never quite idle: their minimum.
    """

    def __init__(self, takes_minimum: bool) -> None:
        self._takes_minimum = takes_minimum
        self._recent: deque[tuple[int, int]] = deque(maxlen=_FLOOR_SAMPLES)
        self._residency: frozenset[str] | None = None
        self.floor_mw = 0.0
        """0 until a first slice-free interval was seen."""

    def observe(self, energy_uj: int, duration_ns: int, residency: frozenset[str]) -> None:
        """Take in a slice-free interval; a new residency starts anew, with the old floor until it has its own."""
        if residency != self._residency:
            self._recent.clear()
            self._residency = residency
        self._recent.append((energy_uj, duration_ns))
        if self._takes_minimum:
            self.floor_mw = min(power_of_energy(energy, duration) for energy, duration in self._recent)
        else:
            total_uj, total_ns = map(sum, zip(*self._recent, strict=True))
            self.floor_mw = power_of_energy(total_uj, total_ns)


def _joined(intervals: Sequence[Interval]) -> Interval:
    """Consecutive intervals as one."""
    first, last = intervals[0], intervals[-1]
    energy_uj = sum(interval.delta.energy_uj for interval in intervals)
    delta = replace(first.delta, end_ns=last.delta.end_ns, energy_uj=energy_uj)
    readings = tuple(reading for interval in intervals for reading in interval.readings)
    return replace(last, delta=delta, readings=readings, before=first.before)


class DeviceTrack:
    """Readings of one device in order, raw values kept until they are committed."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.floor = FloorTracker(device.kind.is_host)
        self.pace, self.working = PaceTracker(), WorkingPower()
        self.ceiling_mw = 0.0
        self.power_mw = 0.0
        self.condition = Condition()
        self.profiler = Profiler()
        self.pending: deque[Interval] = deque()
        self.committed: Reading | None = None
        """The last reading that a batch holds, or the baseline."""
        self.committed_snapshot: ProcessSnapshot | None = None
        """The host's CPU clocks at that reading."""
        self.raw: list[Reading] = []
        """Readings attributed since the last commit."""
        self.last: Reading | None = None
        self._snapshot: ProcessSnapshot | None = None
        self._raw_snapshot: ProcessSnapshot | None = None
        self._resume_kind = DeltaKind.NORMAL
        self.absence: DeltaKind | None = None
        """What kind of absence the batch being built closes; None for none."""

    @property
    def grade(self) -> Grade:
        """As what readings of now are booked."""
        return Grade.DISPUTED if self.condition.disputed and self.device.grade is Grade.COUNTER else self.device.grade

    @property
    def blur_ns(self) -> int:
        """How far a reading may be from the instant at which the counter had its value."""
        if self.device.grade is not Grade.COUNTER or self.condition.update_period_ns is not None:
            return 0
        return _UNKNOWN_TICK_NS

    def resume(self, last: Reading, snapshot: ProcessSnapshot, kind: DeltaKind) -> None:
        """Continue after an earlier meter whose last committed reading was `last`."""
        self.last = self.committed = last
        self._snapshot = self.committed_snapshot = snapshot
        self._resume_kind = kind

    def add(self, reading: Reading, snapshot: ProcessSnapshot) -> Interval | None:
        """Take in a reading; the interval it closes is also appended to `pending`."""
        before, self.last = self.last, reading
        earlier, self._snapshot = self._snapshot, snapshot
        if before is None or earlier is None:
            self.committed, self.committed_snapshot = reading, snapshot
            return None
        kind, self._resume_kind = self._resume_kind, DeltaKind.NORMAL
        delta = delta_between(self.device, before, reading, kind)
        if delta is None:
            self.last, self._snapshot, self._resume_kind = before, earlier, kind
            return None
        power_mw = power_of_energy(delta.energy_uj, delta.duration_ns)
        interval = Interval(delta, (reading,), earlier, snapshot, self.grade, power_mw)
        self.pending.append(interval)
        if kind is DeltaKind.NORMAL:
            self.power_mw = power_mw
            if delta.duration_ns >= _MIN_CEILING_NS:
                self.ceiling_mw = max(self.ceiling_mw, self.power_mw)
        return interval

    def take(self, limit_ns: int, join: bool) -> Interval | None:
        """The oldest interval that ended by `limit_ns`; `join` adds all of its grade that follow it, absences apart."""
        if not self.pending or self.pending[0].delta.end_ns > limit_ns:
            return None
        taken = [self.pending.popleft()]
        while join and self.pending and self.pending[0].delta.end_ns <= limit_ns:
            if DeltaKind.NORMAL is not taken[0].delta.kind or DeltaKind.NORMAL is not self.pending[0].delta.kind:
                break
            if taken[0].grade is not self.pending[0].grade:
                break
            taken.append(self.pending.popleft())
        return taken[0] if len(taken) == 1 else _joined(taken)

    def upcoming(self) -> list[Delta]:
        """Deltas that follow the interval taken last and wait."""
        return [interval.delta for interval in islice(self.pending, LOOK_AHEAD)]

    def attributed(self, interval: Interval) -> None:
        """Note that `interval` is in the batch being built."""
        self.raw.extend(interval.readings)
        self._raw_snapshot = interval.after
        if interval.delta.kind is not DeltaKind.NORMAL:
            self.absence = interval.delta.kind

    def batch_readings(self) -> list[Reading]:
        """The reading committed last and all attributed since."""
        if self.committed is None:
            raise ValueError(f"{self.device.key} has no baseline reading yet")
        return [self.committed, *self.raw]

    def end_of_batch(self) -> tuple[Reading, ProcessSnapshot]:
        """The last reading attributed and the CPU clocks with it."""
        reading, snapshot = (
            (self.raw[-1], self._raw_snapshot) if self.raw else (self.committed, self.committed_snapshot)
        )
        if reading is None or snapshot is None:
            raise ValueError(f"{self.device.key} has no baseline reading yet")
        return reading, snapshot

    def mark_committed(self) -> None:
        """A batch with `batch_readings` is in the journal."""
        if self.raw:
            self.committed, self.committed_snapshot = self.raw[-1], self._raw_snapshot
            self.raw, self.absence = [], None


def reading_value(reading: Reading) -> int:
    """The raw number of a reading: counter_uj or power_mw."""
    return reading.counter_uj if isinstance(reading, CounterReading) else reading.power_mw
