"""When many jobs compete for few workers: who runs when, so that little is emitted and nobody waits too long for it.

Pure: bookings of workers over time, waiting jobs and a forecast come in, start times go out. Knows nothing of Ray, of
clocks or of what jobs do. Those that must start soonest choose first; each takes the start before its `latest_s` at
which it emits least, an hour of waiting counting as `wait_price` of its carbon; where no workers are free in time, the
first start at which they are.

    bookings = Bookings(workers=16, start_s=now_s, cell_s=300, cells=2 * 288)
    for job in running: bookings.take(now_s, job.ends_s, job.workers)
    book([Waiting("a", workers=2, length_s=3600, power_w=400, latest_s=now_s + 6 * 3600)], bookings, outlook, now_s)

Ask again when a job came or ended, or the forecast changed: only what has started is settled. Raises InvalidInput.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput
from app.policy.shifting import Outlook

_HOUR_S = 3600.0
_NEARLY = 1e-6  # of a cell


class QueueSettings(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wait_price: float = Field(default=0.01, ge=0)
    """Share of a job's carbon that an hour of waiting must save. 0: it waits for anything that is cleaner."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that has not started."""

    id: str
    workers: int
    length_s: float
    """Expected."""
    power_w: float
    latest_s: float
    """It should have started by then."""


@dataclass(frozen=True, slots=True)
class Booking:
    """When a job is to start, and why then."""

    start_s: float
    end_s: float
    expected_g: float
    now_g: float
    """Of starting at once, were there room."""
    reason: str


class Bookings:
    """How many workers are free in each cell of time; what begins or ends inside a cell has it whole."""

    def __init__(self, workers: int, start_s: float, cell_s: float, cells: int) -> None:
        """Raises InvalidInput unless there are workers, and cells that last."""
        if workers < 1 or not cell_s > 0 or cells < 1:
            raise InvalidInput(f"bookings need workers, cells and cell_s > 0, got {workers}, {cells} and {cell_s}")
        self.workers, self.start_s, self.cell_s = workers, start_s, cell_s
        self._free = np.full(cells, workers, np.int64)

    @property
    def cells(self) -> int:
        return len(self._free)

    def take(self, start_s: float, end_s: float, workers: int) -> None:
        """`workers` are busy from an instant to another; a negative number gives them back."""
        first = max(self.cell_of(start_s), 0)
        self._free[first : self.cell_of(end_s - self.cell_s * _NEARLY) + 1] -= workers

    def cell_of(self, at_s: float) -> int:
        """Its number, which may lie outside."""
        return int((at_s - self.start_s) / self.cell_s + _NEARLY)

    def roomy(self, first: int, starts: int, length: int, workers: int) -> npt.NDArray[np.bool_]:
        """For each of `starts` cells from `first` on, whether `workers` are free through `length` of them; cells that
        lie beyond the last are."""
        full = self._free[first : first + starts + length] < workers
        full = np.concatenate([full, np.zeros(starts + length - len(full), np.bool_)])
        before = np.concatenate([[0], np.cumsum(full)])
        return np.asarray(before[length : length + starts] == before[:starts])


def book(
    waiting: Sequence[Waiting],
    bookings: Bookings,
    outlook: Outlook,
    now_s: float,
    settings: QueueSettings | None = None,
) -> dict[str, Booking]:
    """A start for each of `waiting`, by its id; `bookings` has their workers then. Raises InvalidInput for a job that
    needs more workers than there are, before anything is booked."""
    settings = settings or QueueSettings()
    for job in waiting:
        if not 1 <= job.workers <= bookings.workers or not job.length_s > 0:
            raise InvalidInput(
                f"job {job.id} must need 1 to {bookings.workers} workers for > 0 s, "
                f"got {job.workers} for {job.length_s} s"
            )
    found = {}
    grid = _Grid(bookings, outlook, now_s)
    for job in sorted(waiting, key=lambda job: (job.latest_s, -job.length_s)):
        found[job.id] = booking = _booked(job, bookings, grid, now_s, settings)
        bookings.take(booking.start_s, booking.end_s, job.workers)
    return found


class _Grid:
    """Emissions per watt from now to each cell's beginning, and beyond the last cell."""

    def __init__(self, bookings: Bookings, outlook: Outlook, now_s: float) -> None:
        self.first = bookings.cell_of(now_s)
        edges = outlook.slot_of(now_s), outlook.slot_of(bookings.start_s + bookings.cells * bookings.cell_s)
        numbers = np.arange(edges[0], edges[1] + 2)
        self._at_s = outlook.start_s + numbers * outlook.slot_s
        grams = np.cumsum(outlook.slots(edges[0], len(numbers) - 1)) * outlook.slot_s / 3.6e6
        self._emitted = np.concatenate([[0.0], grams])
        self._rate = float(np.mean(outlook.mean)) / 3.6e6

    def grams_per_w(self, starts_s: npt.NDArray[np.float64], length_s: float) -> npt.NDArray[np.float64]:
        return self._until(starts_s + length_s) - self._until(starts_s)

    def _until(self, at_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What is longer than anybody forecasts emits the mean."""
        beyond = np.maximum(at_s - self._at_s[-1], 0.0) * self._rate
        return np.asarray(np.interp(at_s, self._at_s, self._emitted) + beyond)


def _booked(job: Waiting, bookings: Bookings, grid: _Grid, now_s: float, settings: QueueSettings) -> Booking:
    length = int(np.ceil(job.length_s / bookings.cell_s - _NEARLY)) + 1  # it may begin inside a cell
    count = max(bookings.cell_of(job.latest_s) - grid.first, 0) + 1
    free = bookings.roomy(grid.first, count, length, job.workers)
    at = np.flatnonzero(free)
    now_g = float(grid.grams_per_w(np.array([now_s]), job.length_s)[0]) * job.power_w
    if not len(at):
        later = max(bookings.cells - grid.first - count, 0) + 1
        first = grid.first + count + int(bookings.roomy(grid.first + count, later, length, job.workers).argmax())
        start_s = bookings.start_s + first * bookings.cell_s
        grams = float(grid.grams_per_w(np.array([start_s]), job.length_s)[0]) * job.power_w
        return Booking(start_s, start_s + job.length_s, grams, now_g, "the first start with workers free; it is late")
    starts_s = np.maximum(bookings.start_s + (grid.first + at) * bookings.cell_s, now_s)
    grams_of = grid.grams_per_w(starts_s, job.length_s) * job.power_w
    waited_h = (starts_s - now_s) / _HOUR_S
    best = int(np.argmin(grams_of + settings.wait_price * now_g * waited_h))
    start_s, grams = float(starts_s[best]), float(grams_of[best])
    if best:
        reason = f"{1 - grams / float(grams_of[0]):.1%} less than at the first start with workers free"
    else:
        reason = "the first start with workers free: no later one saves enough"
    return Booking(start_s, start_s + job.length_s, grams, now_g, reason)
