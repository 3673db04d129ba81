"""What a schedule emits and draws under a forecast. Pure; knows nothing of how schedules are found.

cost_of((Piece(0, 3600, 1),), {1: Rate(1.0, 300)}, outlook, RestartCost(), workers=0, begun=False, now_s=0)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.errors import InvalidInput

Floats = npt.NDArray[np.float64]
J_PER_KWH = 3.6e6
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How a job runs on a certain number of workers."""

    speed: float
    """Units of work in an hour, > 0."""
    power_w: float
    """Of the whole job, not of a worker."""


@dataclass(frozen=True, slots=True)
class RestartCost:
    """Measured, of one restart: time without progress at the job's power, and energy beyond that."""

    seconds: float = 0.0
    energy_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """So many workers, > 0, from an instant to another."""

    start_s: float
    end_s: float
    workers: int


@dataclass(frozen=True)
class Outlook:
    """A forecast in g/kWh, slot by slot. Past its end its last day is expected again, or all of it where it is shorter;
    before its beginning its first value. Raises InvalidInput."""

    start_s: float
    slot_s: float
    mean: tuple[float, ...]
    low: tuple[float, ...] | None = None
    """10th percentiles."""
    high: tuple[float, ...] | None = None
    """90th percentiles."""

    def __post_init__(self) -> None:
        if not self.mean or not self.slot_s > 0:
            raise InvalidInput(f"an outlook needs slots of > 0 s, got {len(self.mean)} of {self.slot_s} s")
        for name, values in (("mean", self.mean), ("low", self.low), ("high", self.high)):
            if values is not None and (len(values) != len(self.mean) or not np.isfinite(values).all()):
                raise InvalidInput(f"outlook.{name} must have {len(self.mean)} finite values, as mean has")

    def at(self, at_s: float) -> float:
        """g/kWh expected at an instant."""
        return float(self.slots(self.slot_of(at_s), 1)[0])

    def grams(self, start_s: float, end_s: float, power_w: float) -> float:
        """Expected of `power_w` from an instant to another."""
        return self._between(self.mean, start_s, end_s) * power_w / J_PER_KWH

    def spread_grams(self, start_s: float, end_s: float, power_w: float) -> tuple[float, float]:
        """As `grams`, were every slot at its 10th percentile, and were it at its 90th."""
        low, high = (self._between(each or self.mean, start_s, end_s) for each in (self.low, self.high))
        return low * power_w / J_PER_KWH, high * power_w / J_PER_KWH

    def slot_of(self, at_s: float) -> int:
        """Number of the slot, which may lie outside."""
        return int((at_s - self.start_s) // self.slot_s)

    def slots(self, first: int, count: int) -> Floats:
        """g/kWh of `count` slots from number `first` on."""
        return self._mean[self._places(np.arange(first, first + count))]

    @cached_property
    def _mean(self) -> Floats:
        return np.array(self.mean)

    def _places(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        size = len(self.mean)
        day = min(size, max(1, round(_DAY_S / self.slot_s)))
        return np.where(slots < size, np.maximum(slots, 0), size - day + (slots - size) % day)

    def _between(self, values: Sequence[float], start_s: float, end_s: float) -> float:
        first, last = self.slot_of(start_s), self.slot_of(end_s)
        if first == last:
            return (end_s - start_s) * values[int(self._places(np.array([first]))[0])]
        numbers = np.arange(first, last + 1)
        seconds = np.full(len(numbers), self.slot_s)
        seconds[0] = self.start_s + (first + 1) * self.slot_s - start_s
        seconds[-1] = end_s - self.start_s - last * self.slot_s
        return float(seconds @ np.asarray(values)[self._places(numbers)])


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a schedule."""

    grams: float
    low_grams: float
    high_grams: float
    kwh: float
    restarts: int


def cost_of(
    pieces: Sequence[Piece],
    rates: Mapping[int, Rate],
    outlook: Outlook,
    restart: RestartCost,
    workers: int,
    begun: bool,
    now_s: float,
) -> Cost:
    """Of `pieces` in order, for a job on which `workers` run now; restarts take their time inside the pieces."""
    grams = low = high = joules = 0.0
    restarts = 0
    before, ended_s = workers, now_s
    for piece in pieces:
        power_w = rates[piece.workers].power_w
        grams += outlook.grams(piece.start_s, piece.end_s, power_w)
        below, above = outlook.spread_grams(piece.start_s, piece.end_s, power_w)
        low, high = low + below, high + above
        joules += power_w * (piece.end_s - piece.start_s)
        if begun and (piece.workers != before or piece.start_s != ended_s):
            restarts += 1
            joules += restart.energy_j
            extra = outlook.at(piece.start_s) * restart.energy_j / J_PER_KWH
            grams, low, high = grams + extra, low + extra, high + extra
        before, ended_s, begun = piece.workers, piece.end_s, True
    return Cost(grams, low, high, joules / J_PER_KWH, restarts)
