"""Cells: how the power of one accelerator went between readings that are further apart than its slices' edges.

A counter read ten times a second tells the energy of an interval, not where in it the power changed. But power changes
where work begins and ends, and those instants are known. So intervals are cut into cells at every edge of a slice, and
each cell gets the power that explains all readings best: the energies of an interval's cells add up to the interval's;
a slice that reaches over a reading draws alike on both sides of it; uncovered cells draw about the floor; and cells of
known processes about what those drew lately. That is a small least squares problem with the readings as constraints.

Pure: arrays in, arrays out. Knows nothing of accounts.

    cells = cut(deltas, starts_ns, ends_ns, claim_of, claims=2)
    power_mw = solve(cells, floor_mw, expected)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.domain.reading import Delta

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_CELLS = 96
"""More edges than this are not resolved one by one: the floor rule of attribution.py divides such intervals."""

# Spreads of the priors, as parts of the mean power: what an accelerator does from one tenth of a second to the next (a
# few percent under a steady kernel mix), how far its floor moves with clocks and temperature, and how little is known
# of work that was never seen.
_STEADY, _FLOOR, _UNSEEN = 0.02, 0.06, 0.5


@dataclass(frozen=True)
class Cells:
    """Consecutive pieces of time in which nobody began or ended."""

    edges_ns: Times
    """One more than there are cells."""
    interval: npt.NDArray[np.int64]
    """Index of the delta each cell lies in."""
    energy_uj: Floats
    """Of each delta."""
    working: npt.NDArray[np.bool_]
    """[process, cell]: whether the process has an open slice."""
    joins: npt.NDArray[np.bool_]
    """For each cell whether the one before it is the same work, cut only by a reading (the first: the run's start)."""

    @cached_property
    def lengths_ns(self) -> Floats:
        return np.diff(self.edges_ns).astype(np.float64)

    @cached_property
    def covered(self) -> npt.NDArray[np.bool_]:
        return any_of(self.working)

    def of_first(self) -> int:
        """How many cells the first delta has."""
        return int(np.searchsorted(self.interval, 0, side="right"))

    def through_first_whole(self) -> "Cells":
        """Up to the first later delta that is one cell: what comes after it tells nothing about the first."""
        counts = np.bincount(self.interval)
        whole = np.flatnonzero(counts[1:] == 1)
        if not len(whole):
            return self
        deltas = int(whole[0]) + 2
        cells = int(counts[:deltas].sum())
        return Cells(
            self.edges_ns[: cells + 1],
            self.interval[:cells],
            self.energy_uj[:deltas],
            self.working[:, :cells],
            self.joins[:cells],
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a run before its readings are looked at."""

    floor_mw: float
    """0: not known."""
    left_mw: float | None = None
    """Power of the cell just before the run."""
    drawn_mw: Floats | None = None
    """What the processes of each cell draw above the floor; NaN: not known."""
    spread_mw: Floats | None = None
    """Standard deviation of that."""


def any_of(working: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """For each cell whether anyone is there; `working` is [process, cell]."""
    return np.asarray(working.any(axis=0), np.bool_)


def cut(deltas: Sequence[Delta], starts_ns: Times, ends_ns: Times, claim_of: Times, claims: int) -> Cells | None:
    """Cut contiguous `deltas` at the edges of slices; None where that makes more than MAX_CELLS.

    `claim_of` names the process of each slice, `claims` is how many processes there are.
    """
    bounds = [deltas[0].start_ns, *(delta.end_ns for delta in deltas)]
    first, last = bounds[0], bounds[-1]
    live = (starts_ns < ends_ns) & (starts_ns < last) & (ends_ns >= first)
    starts_ns, ends_ns, claim_of = starts_ns[live], ends_ns[live], claim_of[live]
    marks = np.concatenate((starts_ns, ends_ns))
    inside = set(marks[(marks >= first) & (marks < last)].tolist())
    if len(inside) > MAX_CELLS:
        return None
    ordered = sorted(inside.union(bounds))  # few: quicker than numpy's sets
    edges, count = np.array(ordered, np.int64), len(ordered) - 1
    opened = np.zeros((claims, count + 1), np.int64)
    np.add.at(opened, (claim_of, np.searchsorted(edges, np.maximum(starts_ns, first))), 1)
    np.subtract.at(opened, (claim_of, np.searchsorted(edges, np.minimum(ends_ns, last))), 1)
    working = np.cumsum(opened, axis=1)[:, :-1] > 0
    interval = np.searchsorted(bounds, edges[:-1], side="right") - 1
    joins = np.array([edge not in inside for edge in ordered[:-1]], np.bool_)
    return Cells(edges, interval, np.array([delta.energy_uj for delta in deltas], np.float64), working, joins)


def solve(cells: Cells, expected: Expected) -> tuple[Floats, Floats]:
    """Power of each cell in milliwatts, >= 0, whose energies add up to each delta's; and how much of what was not known
    of it the readings told, 0 (nothing) to 1 (all)."""
    lengths_ms = cells.lengths_ns / 1e6  # mW x ms = uJ
    count = len(lengths_ms)
    if count == len(cells.energy_uj):
        return cells.energy_uj / lengths_ms, np.ones(count)
    scale = max(1.0, float(cells.energy_uj.sum() / lengths_ms.sum()), expected.floor_mw)
    prior_mw, spread_mw = _priors(cells, lengths_ms, expected, scale)
    precision = np.zeros((count, count))
    index = np.arange(count)
    precision[index, index] = 1 / spread_mw**2
    pull = prior_mw / spread_mw**2
    steady = 1 / (_STEADY * scale) ** 2
    later = np.flatnonzero(cells.joins[1:]) + 1
    precision[later, later] += steady
    precision[later - 1, later - 1] += steady
    precision[later, later - 1] -= steady
    precision[later - 1, later] -= steady
    if expected.left_mw is not None and cells.joins[0]:
        precision[0, 0] += steady
        pull[0] += steady * expected.left_mw
    sums = np.zeros((len(cells.energy_uj), count))
    sums[cells.interval, index] = lengths_ms
    spreads = np.linalg.inv(precision)
    free_mw, response = spreads @ pull, spreads @ sums.T
    gain = np.linalg.solve(sums @ response, np.column_stack((cells.energy_uj - sums @ free_mw, response.T)))
    power_mw = free_mw + response @ gain[:, 0]
    left_mw2 = np.diagonal(spreads) - (response * gain[:, 1:].T).sum(axis=1)
    told = (1 - left_mw2 / spread_mw**2).clip(0.0, 1.0)
    return _fitted(np.maximum(power_mw, 0.0), sums, cells), told


def _priors(cells: Cells, lengths_ms: Floats, expected: Expected, scale: float) -> tuple[Floats, Floats]:
    """Expected power of each cell and how far it may be off."""
    covered = cells.covered
    total_uj, covered_ms = float(cells.energy_uj.sum()), float(lengths_ms[covered].sum())
    floor_uj = expected.floor_mw * float(lengths_ms[~covered].sum())
    mean_mw = max(0.0, total_uj - floor_uj) / covered_ms if covered_ms else scale
    prior = np.where(covered, mean_mw, expected.floor_mw)
    spread = np.where(covered, _UNSEEN * max(mean_mw, scale), (_FLOOR if expected.floor_mw else _UNSEEN) * scale)
    if expected.drawn_mw is not None and expected.spread_mw is not None and expected.floor_mw:
        known = covered & ~np.isnan(expected.drawn_mw)
        prior = np.where(known, expected.floor_mw + np.nan_to_num(expected.drawn_mw), prior)
        spread = np.where(known, np.minimum(np.hypot(expected.spread_mw, _STEADY * scale), spread), spread)
    return prior, spread


def _fitted(power_mw: Floats, sums: Floats, cells: Cells) -> Floats:
    """Scaled so that each delta's energy is met where a negative power was cut off."""
    reached = sums @ power_mw
    factor = np.where(reached > 0, cells.energy_uj / np.where(reached > 0, reached, 1.0), 0.0)
    fitted: Floats = power_mw * factor[cells.interval]
    return fitted
