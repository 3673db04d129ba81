"""How long a model stays unasked: distributions of gaps, by what came just before.

Pure. Gaps are seconds between the end of one visit and the begin of the next, counted in bins of equal ratio; old ones
fade by count. The context of a gap is the length of the one before and the running mean of many: within a burst the
next request is near, after one it is not.
"""

import math
from collections import deque
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SHORTEST_S = 0.1
_BIN_RATIO = 1.15
_BINS = 120  # 0.1 s to 22 days
_LOG_SHORTEST = math.log(_SHORTEST_S)
_LOG_RATIO = math.log(_BIN_RATIO)
_CONTEXTS = 10  # by the factor sqrt(10), 0.1 s to 1,000 s and beyond
_LOG_CONTEXT = math.log(10) / 2
_FIRST_MEAN_S = 60.0
_MEAN_GAIN = 0.1
_MEMORY_GAPS = 4000.0
_KEPT_LONG = 64
_PRIOR_SPAN, _PRIOR_SHARE = 50, 0.85

Row = NDArray[np.float64]

EDGES_S: Row = _SHORTEST_S * np.power(_BIN_RATIO, np.arange(1.0, _BINS + 1))
"""Upper edge of each bin: the delays worth considering."""
_MIDDLES_S: Row = EDGES_S / math.sqrt(_BIN_RATIO)


class Bins:
    """Gaps counted by their length; the older half of many weighs half."""

    def __init__(self) -> None:
        self.counts: Row = np.zeros(_BINS)
        self.total = 0.0

    def add(self, place: int) -> None:
        if self.total >= _MEMORY_GAPS:
            self.counts *= 0.5
            self.total *= 0.5
        self.counts[place] += 1
        self.total += 1

    def scaled_to(self, most: float) -> Row:
        """The counts, `most` of them at most."""
        return self.counts * (min(most, self.total) / self.total) if self.total else self.counts


class GapHistory:
    """The gaps of one model."""

    def __init__(self) -> None:
        self._all = Bins()
        self._by_context: dict[int, Bins] = {}
        self._mean_log = math.log(_FIRST_MEAN_S)
        self.context = 0
        """Of the gap that has begun."""
        self.seen, self.long_seen = 0, 0
        self.long_gaps_s: deque[float] = deque(maxlen=_KEPT_LONG)

    def add(self, gap_s: float, long_s: float) -> None:
        """A gap is over; the last ones of `long_s` and more are kept one by one as well."""
        log_gap = math.log(gap_s) if gap_s > _SHORTEST_S else _LOG_SHORTEST
        place = min(_BINS - 1, int((log_gap - _LOG_SHORTEST) / _LOG_RATIO))
        self._all.add(place)
        self._by_context.setdefault(self.context, Bins()).add(place)
        self.seen += 1
        self._mean_log += _MEAN_GAIN * (log_gap - self._mean_log)
        self.context = _context_of(log_gap) * _CONTEXTS + _context_of(self._mean_log)
        if gap_s >= long_s:
            self.long_seen += 1
            self.long_gaps_s.append(gap_s)

    def best_delay_s(self, load_s: float, price_s: float, prior_gaps: float, pooled_gaps: float) -> float:
        """The delay with the least expected cost in the present context, all costs in seconds of warm power.

        A gap that outlasts the delay costs a load more, and `price_s` for those who wait for it. Few gaps of this
        context lean on `pooled_gaps` of all gaps of the model and on `prior_gaps` of a prior.
        """
        counts = prior_gaps * _prior(round(load_s, 3)) + self._all.scaled_to(pooled_gaps)
        own = self._by_context.get(self.context)
        if own is not None:
            counts = counts + own.counts
        outlasting = counts.sum() - np.cumsum(counts)
        cost_s = np.cumsum(counts * _MIDDLES_S) + outlasting * (EDGES_S + load_s + price_s)
        best = int(cost_s.argmin())
        return float(EDGES_S[best]) if cost_s[best] < counts.sum() * (load_s + price_s) else 0.0


def _context_of(log_gap: float) -> int:
    return min(_CONTEXTS - 1, int(max(0.0, log_gap - _LOG_SHORTEST) / _LOG_CONTEXT))


@lru_cache(64)
def _prior(break_even_s: float) -> Row:
    """Gaps for which the break-even b is the best delay.

    A share m is log-uniform in [b / 50, b], the others outlast everything. Waiting longer costs less up to b where
    1 - m <= m / ln 50, that is m >= 0.796; beyond b nobody comes.
    """
    inside = (break_even_s / _PRIOR_SPAN <= EDGES_S) & (break_even_s >= EDGES_S)
    prior = _PRIOR_SHARE * inside / max(int(inside.sum()), 1)
    prior[-1] += 1 - _PRIOR_SHARE
    return prior
