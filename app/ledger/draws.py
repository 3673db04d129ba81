"""Draws: what each process adds to the power of an accelerator while it works, learned from what was measured.

Two processes at once are one figure on the counter. Where they sometimes work alone, their sum can be told apart: a
small Kalman filter per device keeps for each process a mean, how sure of it we are, and which of them are unsure only
together. Knows nothing of slices or time.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.ledger.cells import Floats

_UNKNOWN_MW = 1_000_000.0  # no accelerator of today draws this much: before it is seen, a draw may be anything
_SURE = 0.25  # a mean is known when its standard deviation is a smaller part of it than this
_STEADY, _DRIFT = 0.02, 0.01
_KEEP = 0.9
MAX_PROCESSES = 32


class Draws:
    """Of one device; keyed by any name of a process."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._mean_mw: Floats = np.empty(0)
        self._doubt: Floats = np.empty((0, 0))
        """Covariance of the means."""
        self._spread: Floats = np.empty(0)
        """Variance of single measurements around each mean."""

    def observe(self, names: Sequence[str], above_floor_mw: float, variance: float = 0.0) -> None:
        """Exactly `names` worked, and together drew `above_floor_mw`, measured with `variance`."""
        who = self._indices(names)
        means, column = self._mean_mw, self._doubt[:, who].sum(axis=1)
        off_mw = above_floor_mw - float(means[who].sum())
        own = float(column[who].sum())
        total = own + variance + float(self._spread[who].sum()) + (_STEADY * above_floor_mw) ** 2 + 1.0
        gain = column / total
        self._mean_mw = np.maximum(0.0, means + gain * off_mw)
        self._doubt = self._doubt - np.outer(gain, column)
        self._doubt[who, who] += (_DRIFT * self._mean_mw[who]) ** 2
        if own < (_SURE * above_floor_mw) ** 2:
            self._spread[who] += (1 - _KEEP) * (off_mw**2 / len(who) - self._spread[who])

    def known(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Means and standard deviations by name; NaN where a process was never seen clearly."""
        found = [self._names.index(name) if name in self._names else -1 for name in names]
        means = np.array([self._mean_mw[at] if at >= 0 else np.nan for at in found])
        doubts = np.array([self._doubt[at, at] ** 0.5 if at >= 0 else np.inf for at in found])
        spreads = np.array([self._spread[at] if at >= 0 else 0.0 for at in found])
        return np.where(doubts < _SURE * means, means, np.nan), np.sqrt(doubts**2 + spreads)

    def together(self, names: Sequence[str], working: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of what those of `names` draw that work in each column of `working`."""
        inside = np.array([name in self._names for name in names], np.bool_)
        at = [self._names.index(name) for name in names if name in self._names]
        chosen = working[inside].astype(np.float64)
        means = self._mean_mw[at] @ chosen
        variance = (chosen * (self._doubt[np.ix_(at, at)] @ chosen)).sum(axis=0) + self._spread[at] @ chosen
        told = ~working[~inside].any(axis=0) & (variance < means**2)
        return np.where(told, means, np.nan), np.sqrt(np.maximum(variance, 0.0))

    def _indices(self, names: Sequence[str]) -> list[int]:
        for name in names:
            if name not in self._names:
                self._add(name)
        return [self._names.index(name) for name in names]

    def _add(self, name: str) -> None:
        """A newcomer; beyond MAX_PROCESSES the oldest is forgotten."""
        if len(self._names) >= MAX_PROCESSES:
            self._names = self._names[1:]
            self._mean_mw, self._spread, self._doubt = self._mean_mw[1:], self._spread[1:], self._doubt[1:, 1:]
        self._names.append(name)
        self._mean_mw = np.append(self._mean_mw, 0.0)
        self._spread = np.append(self._spread, 0.0)
        count = len(self._names)
        doubt = np.zeros((count, count))
        doubt[:-1, :-1] = self._doubt
        doubt[-1, -1] = _UNKNOWN_MW**2
        self._doubt = doubt
