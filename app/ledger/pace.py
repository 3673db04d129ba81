"""The pace of a device: what work costs on it at present, and from that the energy of work just done.

The meter follows it tick by tick; a process prices its own work with it, seconds before the books do. Only
estimates: nothing here is ever booked. Knows nothing of rings, boards or accounts. Of an accelerator it is the power
while somebody works on it all the time. Of a host it is a formula, attribution's own for one interval of length T
with C of it covered by slices,

    energy = (marginal x busy + floor x C) x own CPU time / busy,

busy being the CPU time of the whole host in it, and marginal what a busy CPU adds to the floor.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.reading import Delta
from app.units import NS_PER_S, energy_of_power, power_of_energy

COVERED = 0.9
"""Part of a tick from which on slices are taken to cover it."""
_LATEST_TICKS = 3
_RECENT_NS = NS_PER_S
_KEEP = 0.9
_MARGINAL_TICKS = 10
_BUSY_ENOUGH = 0.3
"""Busy CPUs below which a tick says little of what a busy CPU draws: its busy time comes in steps of 10 ms."""


class Pace(NamedTuple):
    """The mean of the latest ticks of one host device. All zero: not known."""

    marginal_mw: float = 0.0
    """Power that a busy CPU adds to the floor."""
    tick_ns: float = 0.0
    busy_ns: float = 0.0
    """CPU time of the whole host in a tick."""
    covered_ns: float = 0.0
    """Time of a tick in which at least one slice was open on the node."""


NO_PACE = Pace()


class PaceTracker:
    """Follows the ticks of one host device."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[int, float, float]] = deque(maxlen=_LATEST_TICKS)
        self._busy: deque[tuple[float, float]] = deque(maxlen=_MARGINAL_TICKS)

    def add(self, energy_uj: int, duration_ns: int, busy_ns: int, covered_ns: int, floor_mw: float) -> None:
        """Take in a tick, and the power of the device while nobody works as far as it is known."""
        self._ticks.append((duration_ns, busy_ns, covered_ns))
        if busy_ns > _BUSY_ENOUGH * duration_ns:
            self._busy.append((max(0, energy_uj - energy_of_power(floor_mw, duration_ns)), busy_ns))

    @property
    def pace(self) -> Pace:
        """As of the latest tick."""
        busy_ns = sum(busy for _, busy in self._busy)
        if not busy_ns or not self._ticks:
            return Pace()
        marginal_mw = sum(energy for energy, _ in self._busy) * 1e6 / busy_ns
        tick_ns, busy_ns, covered_ns = (sum(column) / len(self._ticks) for column in zip(*self._ticks, strict=True))
        return Pace(marginal_mw, tick_ns, busy_ns, covered_ns)


class WorkingPower:
    """Follows the ticks of one accelerator in which somebody worked all the time."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[int, int, int]] = deque(maxlen=_LATEST_TICKS)

    def add(self, energy_uj: int, start_ns: int, end_ns: int, covered_ns: int) -> None:
        """Take in a tick with `covered_ns` of it covered by slices."""
        if covered_ns >= COVERED * (end_ns - start_ns):
            self._ticks.append((energy_uj, end_ns - start_ns, end_ns))

    def power_mw(self, now_ns: int) -> float:
        """Mean power of the latest such ticks; 0 if there was none lately."""
        recent = [(energy, length) for energy, length, end_ns in self._ticks if now_ns - end_ns <= _RECENT_NS]
        return power_of_energy(sum(energy for energy, _ in recent), sum(length for _, length in recent))


class Drawn:
    """What the slices of one process got of its accelerators, over about the last ten commits."""

    def __init__(self) -> None:
        self._energy_uj = self._time_ns = 0.0
        self._covered_uj = self._whole_uj = 0.0
        self._has_news = False

    def add(self, energy_uj: float, open_ns: int, delta: Delta, covered_ns: int) -> None:
        """Slices, open for `open_ns` altogether, got `energy_uj` of a delta with `covered_ns` of it covered."""
        self._energy_uj += energy_uj
        self._time_ns += open_ns
        if covered_ns >= COVERED * delta.duration_ns:
            self._covered_uj += energy_uj
            self._whole_uj += delta.energy_uj * open_ns / delta.duration_ns
        self._has_news = self._has_news or open_ns > 0

    def told(self) -> tuple[float, float] | None:
        """Power of a slice, in milliwatts per accelerator, and its part of the power while somebody works all the
        time (0: not known); None if nothing was added since it was asked last."""
        if not self._has_news:
            return None
        self._has_news = False
        found = (
            power_of_energy(round(self._energy_uj), round(self._time_ns)),
            self._covered_uj / self._whole_uj if self._whole_uj else 0.0,
        )
        self._energy_uj, self._time_ns = self._energy_uj * _KEEP, self._time_ns * _KEEP
        self._covered_uj, self._whole_uj = self._covered_uj * _KEEP, self._whole_uj * _KEEP
        return found


def priced_uj(pace: Pace, floor_mw: float, cpu_ns: float, duration_ns: int) -> float:
    """Microjoules of work that took `cpu_ns` of CPU time within `duration_ns` until now.

    What the latest ticks cannot have seen of it yet is added to them: work after a silence meets a busy host, too.
    Without a pace it is the floor over the time.
    """
    if not pace.tick_ns:
        return floor_mw * duration_ns / 1e6
    marginal_mw, tick_ns, busy_ns, covered_ns = pace
    if covered_ns < duration_ns and covered_ns < tick_ns:
        unseen_ns = min(tick_ns, duration_ns) - covered_ns
        covered_ns += unseen_ns
        busy_ns += unseen_ns * cpu_ns / duration_ns
    standing_mw = floor_mw * covered_ns / busy_ns if busy_ns > 0 else 0.0
    return (marginal_mw + standing_mw) * cpu_ns / 1e6


def union_ns(starts_ns: npt.NDArray[np.int64], ends_ns: npt.NDArray[np.int64]) -> int:
    """Length of the time that at least one of the intervals covers."""
    if not len(starts_ns):
        return 0
    order = np.argsort(starts_ns)
    starts_ns, ends_ns = starts_ns[order], np.maximum.accumulate(ends_ns[order])
    reached_ns = np.concatenate((starts_ns[:1], ends_ns[:-1]))
    return int(np.maximum(0, ends_ns - np.maximum(starts_ns, reached_ns)).sum())
