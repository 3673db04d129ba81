"""The search for the schedule with the least expected carbon. Pure; knows nothing of reasons or settings.

A run without pauses and with one number of workers: every start at which its beginning or its end meets the edge of a
slot, which are all that can be best, the cost of a start being linear in between. Else dynamic programming backwards
over slots, with the work left in `_LEVELS` parts and the number of workers that ran before (a change costs a restart;
Bellman, "Dynamic Programming", 1957), values between levels interpolated; then forwards with the exact work, and only
along what still ends in time.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.policy.shifting_costs import Floats, Outlook, Piece, Rate, RestartCost

_LEVELS = 240
_FEWEST_CELLS, _MOST_CELLS = 48, 400
"""What is left of few slots is searched in parts of them, longer or finer outlooks in cells of several; a cell lasts
two restarts at least where there is time for that."""
_LATE = 1e3
"""How many times dearer than the dearest hour work is that is left at the deadline."""
_TINY = 1e-9
_ALIKE = 1e-6
"""Relative difference of two choices below which the first one is taken; interpolation errs by as much."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is left to run, and from where."""

    rates: Mapping[int, Rate]
    work: float
    deadline_s: float
    may_pause: bool
    restart: RestartCost
    workers: int
    begun: bool
    now_s: float

    def lost_s(self, before: int, after: int) -> float:
        """Seconds that a change from so many workers to so many loses, once the run has begun."""
        return self.restart.seconds if after not in (0, before) else 0.0

    def seconds_for(self, work: float, workers: int) -> float:
        """To do `work` without a restart."""
        return work / self.rates[workers].speed * 3600


def at_once(search: Search) -> tuple[Piece, ...]:
    """From now on without a pause: as it runs already, else as it draws the least energy and ends in time; if nothing
    does, the fastest."""

    def end_s(workers: int) -> float:
        lost_s = search.lost_s(search.workers, workers) if search.begun else 0.0
        return search.now_s + lost_s + search.seconds_for(search.work, workers)

    in_time = [workers for workers in search.rates if end_s(workers) <= search.deadline_s + _TINY]
    if search.workers in in_time:
        chosen = search.workers
    elif in_time:
        chosen = min(in_time, key=lambda workers: search.rates[workers].power_w / search.rates[workers].speed)
    else:
        chosen = min(search.rates, key=end_s)
    return (Piece(search.now_s, end_s(chosen), chosen),)


def best_start(search: Search, outlook: Outlook) -> tuple[Piece, ...]:
    """One piece, not before now, that ends in time, of any number of workers; the earliest of equals, () if none."""
    found: list[tuple[float, float, Piece]] = []
    for workers, rate in search.rates.items():
        length_s = search.seconds_for(search.work, workers) + (search.restart.seconds if search.begun else 0.0)
        latest_s = search.deadline_s - length_s
        if latest_s < search.now_s:
            continue
        first, last = outlook.slot_of(search.now_s), outlook.slot_of(search.deadline_s)
        edges = outlook.start_s + np.arange(first, last + 2) * outlook.slot_s
        emitted = np.concatenate([[0.0], np.cumsum(outlook.slots(first, last + 1 - first))]) * outlook.slot_s
        starts = np.concatenate([[search.now_s, latest_s], edges, edges - length_s])
        starts = np.unique(starts[(starts >= search.now_s) & (starts <= latest_s)])
        grams = np.interp(starts + length_s, edges, emitted) - np.interp(starts, edges, emitted)
        best = int(np.flatnonzero(grams <= grams.min() * (1 + _TINY))[0])
        start_s = float(starts[best])
        found.append((float(grams[best]) * rate.power_w, start_s, Piece(start_s, start_s + length_s, workers)))
    return (min(found, key=lambda each: each[:2])[2],) if found else ()


def best_workers(search: Search, outlook: Outlook) -> tuple[Piece, ...]:
    """How many workers in every slot; () where nothing ends in time."""
    return _Programme(search, outlook).pieces()


class _Programme:
    """States before each cell: paused (0) or running with the n-th number of workers, and the work left. `_fresh` is
    the value of a run that has not begun, whose first start is no restart."""

    def __init__(self, search: Search, outlook: Outlook) -> None:
        self._search = search
        self._counts = list(search.rates)
        self._edges, self._grams_per_j = _cells(search, outlook)
        self._speeds = np.array([rate.speed / 3600 for rate in search.rates.values()])
        self._powers = np.array([rate.power_w for rate in search.rates.values()])
        self._step = search.work / _LEVELS
        dearest = float(self._grams_per_j.max() * (self._powers / self._speeds).max())
        left = _LATE * max(dearest, _TINY) * self._step * np.arange(_LEVELS + 1)
        self._values = [np.tile(left, (len(self._counts) + 1, 1))]
        self._fresh = [float(left[-1])]
        for cell in range(len(self._grams_per_j) - 1, -1, -1):
            self._before(cell)

    def _before(self, cell: int) -> None:
        """The values before a cell out of those after it, which are at the end of the lists."""
        after, search = self._values[-1], self._search
        length_s = self._edges[cell + 1] - self._edges[cell]
        grams_per_j = self._grams_per_j[cell]
        stay = self._through(length_s, 0.0, grams_per_j, after[1:])
        change = self._through(length_s, search.restart.seconds, grams_per_j, after[1:])
        change += search.restart.energy_j * grams_per_j
        best_change = change.min(axis=0)
        paused = np.minimum(after[0], best_change) if search.may_pause else best_change
        running = np.minimum(stay, best_change)
        if search.may_pause:
            running = np.minimum(running, after[0])
        values = np.concatenate([paused[None], running])
        values[:, 0] = 0.0
        self._values.append(values)
        self._fresh.append(min(self._fresh[-1], float(stay[:, -1].min())))

    def _through(self, length_s: float, lost_s: float, grams_per_j: float, after: Floats) -> Floats:
        """By number of workers and work before a cell: what running through it costs, and what follows."""
        useful_s = length_s - lost_s
        if useful_s <= 0:
            return np.full(after.shape, np.inf)
        done = self._speeds * useful_s
        levels = np.arange(_LEVELS + 1)
        whole, part = np.divmod(done / self._step, 1.0)
        at = levels - whole.astype(np.int64)[:, None]
        rows = np.arange(len(done))[:, None]
        here, below = after[rows, np.maximum(at, 0)], after[rows, np.maximum(at - 1, 0)]
        rest = np.where(at > 0, here * (1 - part[:, None]) + below * part[:, None], 0.0)
        busy_s = lost_s + np.minimum(levels * self._step / done[:, None], 1.0) * useful_s
        return np.asarray(busy_s * self._powers[:, None] * grams_per_j + rest, np.float64)

    def pieces(self) -> tuple[Piece, ...]:
        search, found = self._search, list[Piece]()
        workers, begun, left = search.workers, search.begun, search.work
        for cell in range(len(self._grams_per_j)):
            start_s, end_s = float(self._edges[cell]), float(self._edges[cell + 1])
            chosen = self._choice(cell, workers, begun, left)
            if chosen is None:
                return ()
            if chosen:
                lost_s = search.lost_s(workers, chosen) if begun else 0.0
                needed_s = lost_s + search.seconds_for(left, chosen)
                ended_s = min(end_s, start_s + needed_s)
                _add(found, Piece(start_s, ended_s, chosen))
                left -= (ended_s - start_s - lost_s) / 3600 * search.rates[chosen].speed
                if needed_s <= end_s - start_s + _TINY:
                    return tuple(found)
            workers, begun = chosen, begun or bool(chosen)
        return tuple(found) if left <= search.work * _TINY else ()

    def _choice(self, cell: int, workers: int, begun: bool, left: float) -> int | None:
        """The number of workers in a cell; None where nothing ends in time."""
        search, (start_s, end_s) = self._search, self._edges[cell : cell + 2]
        after, grams_per_j = self._values[-2 - cell], self._grams_per_j[cell]
        best: tuple[float, int] | None = None
        order = [*sorted(self._counts, key=lambda count: count != workers), 0]  # of equals, what ends first
        for count in order:
            if count == 0:
                if begun and not search.may_pause:
                    continue
                value = self._fresh[-2 - cell] if not begun else self._at(after[0], left)
                then = left
            else:
                lost_s = search.lost_s(workers, count) if begun else 0.0
                useful_s = min(end_s - start_s - lost_s, search.seconds_for(left, count))
                if useful_s <= 0:
                    continue
                row = self._counts.index(count)
                then = left - self._speeds[row] * useful_s
                joules = self._powers[row] * (lost_s + useful_s) + (
                    search.restart.energy_j if lost_s or (begun and count != workers) else 0.0
                )
                value = joules * grams_per_j + self._at(after[row + 1], then)
            if self._in_time(then, count, end_s) and (best is None or value < best[0] * (1 - _ALIKE)):
                best = value, count
        return None if best is None else best[1]

    def _at(self, values: Floats, left: float) -> float:
        place = max(left, 0.0) / self._step
        low = min(int(place), _LEVELS - 1)
        return float(values[low] + (values[low + 1] - values[low]) * (place - low))

    def _in_time(self, left: float, workers: int, from_s: float) -> bool:
        """Whether the rest ends before the deadline at the best speed."""
        if left <= self._search.work * _TINY:
            return True
        room_s = self._search.deadline_s - from_s + 1e-6
        return any(
            self._search.lost_s(workers, count) + self._search.seconds_for(left, count) <= room_s
            for count in self._counts
        )


def _cells(search: Search, outlook: Outlook) -> tuple[Floats, Floats]:
    """Edges from now to the deadline, and grams per joule between them."""
    first, last = outlook.slot_of(search.now_s), math.ceil((search.deadline_s - outlook.start_s) / outlook.slot_s)
    count, least_s = max(last - first, 1), 2 * search.restart.seconds
    width = max(math.ceil(count / _MOST_CELLS), min(math.ceil(least_s / outlook.slot_s), count))
    parts = max(1, min(_FEWEST_CELLS // count, int(outlook.slot_s // max(least_s, _TINY))))
    edges = outlook.start_s + np.arange(first * parts, (last + width) * parts, width) * outlook.slot_s / parts
    inner = edges[(edges > search.now_s + _TINY) & (edges < search.deadline_s - _TINY)]
    edges = np.concatenate([[search.now_s], inner, [search.deadline_s]])
    grams = [
        outlook.grams(start_s, end_s, 1.0) / (end_s - start_s) for start_s, end_s in itertools.pairwise(edges.tolist())
    ]
    return np.asarray(edges, np.float64), np.array(grams)


def _add(pieces: list[Piece], piece: Piece) -> None:
    if pieces and pieces[-1].workers == piece.workers and pieces[-1].end_s == piece.start_s:
        piece = Piece(pieces.pop().start_s, piece.end_s, piece.workers)
    pieces.append(piece)
