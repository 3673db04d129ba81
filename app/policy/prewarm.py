"""Whether a sleeping model is due at a certain time, so that loading it ahead of the request pays.

Pure. Loading ahead spares the requests their wait and costs warm seconds, and a whole load when nobody comes: it pays
for models that are asked by the clock, hardly ever for others. All costs are in seconds of warm power.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

_FEWEST_GAPS = 8
_MARGIN = 1.5  # times the cost, before a window counts as paying
_SLACK = 0.001  # of a gap: room to either side of those seen


@dataclass(frozen=True, slots=True)
class Window:
    """Loaded `ready_after_s` after the last visit, for a visit expected before `until_s`."""

    ready_after_s: float
    until_s: float


def best_window(long_gaps_s: Collection[float], load_cost_s: float, price_s: float) -> Window | None:
    """The window that saved most over `long_gaps_s`, the gaps in which the model slept; None where none pays.

    `price_s` is what it is worth that the first requests of a visit need not wait for the load of `load_cost_s`.
    """
    if len(long_gaps_s) < _FEWEST_GAPS or price_s <= 0:
        return None
    gaps_s = np.sort(np.fromiter(long_gaps_s, float))
    count = len(gaps_s)
    ready_s, until_s = gaps_s * (1 - _SLACK), gaps_s * (1 + _SLACK)
    sums_s = np.concatenate(([0.0], np.cumsum(gaps_s)))
    first, last = np.triu_indices(count)
    hits = last - first + 1
    waited_s = sums_s[last + 1] - sums_s[first] - hits * ready_s[first]
    missed = count - 1 - last
    cost_s = waited_s + missed * (until_s[last] - ready_s[first] + load_cost_s)
    saved_s = hits * price_s - _MARGIN * cost_s
    best = int(saved_s.argmax())
    if saved_s[best] <= 0:
        return None
    return Window(float(ready_s[first[best]]), float(until_s[last[best]]))
