"""Batch jobs of a real trace that compete for few workers, on a real grid: carbon against waiting, hour after hour.

Events are arrivals and full hours: a job that comes is booked beside those that are, at a full hour all that have not
started are booked again on the newest forecast (app/policy/queueing.py, as a service would). Lengths are known, waiting
is at most MOST_WAIT_H where workers are free by then. Knows nothing of tables.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.policy.queueing import Booking, Bookings, QueueSettings, Waiting, book
from app.policy.shifting import Outlook
from scripts.bench.shifting_data import HORIZON_H, Trace
from scripts.bench.shifting_rules import HOUR_S, World

TRACES = "trace_batch_jobs_gaia"
ORIGIN = f"{TRACES}  github.com/umassos/GAIA, src/cluster_traces/ (MIT; Alibaba PAI 2020 and Azure V2, CC BY 4.0)"
MOST_WAIT_H = 24
WORKER_W = 100.0
"""Of a worker that is busy; it scales every figure in grams and no share."""
_CELL_S = 300.0
AT_ONCE = 1e9
"""A price of waiting at which nobody waits for the grid."""


@dataclass(frozen=True)
class Batch:
    """A job of the trace, in seconds of the grid's clock."""

    id: str
    at_s: float
    length_s: float
    workers: int


def pai_week(folder: Path, from_h: int) -> list[Batch]:
    """A thousand jobs of a week, the first at hour `from_h` of the grid."""
    rows = csv.DictReader((folder / TRACES / "pai_1k.csv").open(newline=""))
    return [
        Batch(str(n), from_h * HOUR_S + float(row["arrival_time"]), max(float(row["length"]), 1.0), int(row["cpus"]))
        for n, row in enumerate(rows)
    ]


def azure_year(folder: Path, from_h: int, until_h: int) -> list[Batch]:
    """Of a year's hundred thousand, those that arrive in these hours of the grid."""
    with gzip.open(folder / TRACES / "azure-100k.csv.gz", "rt", newline="") as file:
        return [
            Batch(str(n), float(row["arrival_h"]) * HOUR_S, float(row["length_h"]) * HOUR_S, int(row["cpus"]))
            for n, row in enumerate(csv.DictReader(file))
            if from_h <= float(row["arrival_h"]) < until_h and float(row["length_h"]) > 0
        ]


@dataclass(frozen=True)
class Served:
    """How a trace went."""

    grams: float
    mean_wait_h: float
    tail_wait_h: float
    """95th percentile."""
    late: int
    """Began after MOST_WAIT_H."""


class Emissions:
    """What a watt emits from one instant to another, as it really was."""

    def __init__(self, actual: NDArray[np.float64]) -> None:
        self._until = np.concatenate([[0.0], np.cumsum(actual) * HOUR_S / 3.6e6])
        self._at_s = np.arange(len(self._until)) * HOUR_S

    def grams(self, start_s: float, length_s: float, power_w: float) -> float:
        ends = np.interp([start_s, start_s + length_s], self._at_s, self._until)
        return float(ends[1] - ends[0]) * power_w


def alone_g(trace: Trace, jobs: Sequence[Batch]) -> float:
    """Nobody can emit less: each job at its best start within MOST_WAIT_H, as if alone and knowing the grid."""
    emissions, total = Emissions(trace.actual), 0.0
    for job in jobs:
        last_s = job.at_s + MOST_WAIT_H * HOUR_S
        edges = np.arange(np.ceil(job.at_s / HOUR_S), last_s // HOUR_S + np.ceil(job.length_s / HOUR_S) + 1) * HOUR_S
        starts = np.concatenate([[job.at_s, last_s], edges, edges - job.length_s])
        starts = starts[(starts >= job.at_s) & (starts <= last_s)]
        power_w = job.workers * WORKER_W
        total += min(emissions.grams(float(start_s), job.length_s, power_w) for start_s in starts)
    return total


def serve(world: World, jobs: Sequence[Batch], workers: int, wait_price: float, knows_grid: bool = False) -> Served:
    """The trace on so many workers; `knows_grid`: instead of forecasts the actual grid comes in."""
    settings, emissions = QueueSettings(wait_price=wait_price), Emissions(world.trace.actual)
    first_h = int(jobs[0].at_s // HOUR_S)
    last_h = int(max(job.at_s + job.length_s for job in jobs) // HOUR_S) + 4 * MOST_WAIT_H
    bookings = Bookings(workers, first_h * HOUR_S, _CELL_S, int((last_h - first_h) * HOUR_S / _CELL_S))
    pending: dict[str, tuple[Batch, Booking]] = {}
    started: list[tuple[Batch, float]] = []
    coming = iter(sorted(jobs, key=lambda job: job.at_s))
    job = next(coming, None)
    hour = first_h
    while job is not None or pending:
        outlook = _outlook(world, hour, knows_grid)
        _settle(pending, started, hour * HOUR_S)
        _book_again(pending, bookings, outlook, hour * HOUR_S, settings)
        while job is not None and job.at_s < (hour + 1) * HOUR_S:
            found = book([_waiting(job)], bookings, outlook, job.at_s, settings)
            pending[job.id] = job, found[job.id]
            job = next(coming, None)
        hour += 1
    waits_h = np.array([start_s - job.at_s for job, start_s in started]) / HOUR_S
    grams = sum(emissions.grams(start_s, job.length_s, job.workers * WORKER_W) for job, start_s in started)
    late = int((waits_h > MOST_WAIT_H + 1e-6).sum())
    return Served(grams, float(waits_h.mean()), float(np.percentile(waits_h, 95)), late)


def _outlook(world: World, hour: int, knows_grid: bool) -> Outlook:
    if not knows_grid:
        return world.outlook(hour)
    actual = world.trace.actual[hour : hour + 2 * HORIZON_H]
    return Outlook(hour * HOUR_S, HOUR_S, tuple(actual.tolist()))


def _settle(pending: dict[str, tuple[Batch, Booking]], started: list[tuple[Batch, float]], now_s: float) -> None:
    for name in [name for name, (_, booking) in pending.items() if booking.start_s < now_s]:
        job, booking = pending.pop(name)
        started.append((job, booking.start_s))


def _book_again(
    pending: dict[str, tuple[Batch, Booking]],
    bookings: Bookings,
    outlook: Outlook,
    now_s: float,
    settings: QueueSettings,
) -> None:
    for job, booking in pending.values():
        bookings.take(booking.start_s, booking.end_s, -job.workers)
    found: Mapping[str, Booking] = book(
        [_waiting(job) for job, _ in pending.values()], bookings, outlook, now_s, settings
    )
    for name, booking in found.items():
        pending[name] = pending[name][0], booking


def _waiting(job: Batch) -> Waiting:
    return Waiting(job.id, job.workers, job.length_s, job.workers * WORKER_W, job.at_s + MOST_WAIT_H * HOUR_S)
