"""What is expected of the grid until a deadline, from the cluster's series: slots of one length, with quantiles.

What a provider forecasts is used where it has a forecast, corrected by how wrong it was lately; what it has none of is
forecast here from past values. Pure: a snapshot of the series and a time come in. Knows nothing of jobs.

    view = look_ahead(grid.average(), now_s, deadline_s, grid.past_forecasts(...))
    view.outlook.at(now_s), view.model, view.grade
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.carbon.forecast import forecast_intensity
from app.carbon.intensity import IntensityGrade, LocationAverageSeries, Slot
from app.carbon.slot_store import PastForecast
from app.errors import InvalidInput
from app.policy.shifting import Outlook
from app.units import NS_PER_S

Values = npt.NDArray[np.float64]

_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_SHORTEST_REAL_S = 60.0
"""Slots that are shorter are hours of a rehearsed day."""
_DAY_SLOTS = 24
_HISTORY_DAYS = 28
_MOST_DAYS = 7
"""Beyond it the last day of an outlook repeats: nobody knows more."""
_OBSERVED = (IntensityGrade.ACTUAL, IntensityGrade.ESTIMATED)


@dataclass(frozen=True, slots=True)
class View:
    """The outlook and where it comes from."""

    outlook: Outlook
    model: str
    """Who made the forecast, for people."""
    error: float | None
    """Its mean absolute error over the first day ahead, as a share of the mean; None: not measured."""
    source: str
    """Of the present figure."""
    grade: str
    """The weakest of the figures that the outlook is made of."""
    revision: int


def look_ahead(series: LocationAverageSeries, now_s: float, until_s: float, past: Sequence[PastForecast] = ()) -> View:
    """What holds and is expected from the slot of `now_s` on, for a week at most. Never raises."""
    slot_s, edge_s = _slots_of(series, now_s, until_s)
    day_slots = round(_DAY_S / slot_s) if slot_s >= _SHORTEST_REAL_S else _DAY_SLOTS
    start_s = edge_s + math.floor((now_s - edge_s) / slot_s) * slot_s
    count = min(max(1, math.ceil((until_s - start_s) / slot_s)), _MOST_DAYS * day_slots)
    before = _HISTORY_DAYS * day_slots
    bins = _Bins(start_s - before * slot_s, slot_s, before + count)
    slots = series.slots_between(_ns(bins.start_s), _ns(bins.end_s))
    observed = bins.means(slot for slot in slots if slot.grade in _OBSERVED)
    told = bins.means(slot for slot in slots if slot.grade in (*_OBSERVED, IntensityGrade.FORECAST))
    said = bins.means(each.slot for each in sorted(past, key=lambda each: -each.issued_ns)) if past else None
    now = series.intensity_at(_ns(now_s))
    ahead = [slot.grade for slot in slots if slot.end_ns > _ns(start_s)]
    try:
        known = _from_first_known(observed[:before])
        if not len(known) and np.isfinite(told[before:]).any():
            known, said = np.array([now.g_per_kwh]), None  # a provider that forecasts and tells of no past
        forecast = forecast_intensity(
            known.tolist(),
            count,
            day_slots,
            provider=told[before:].tolist(),
            provider_history=said[before - len(known) : before].tolist() if said is not None else None,
        )
        outlook = Outlook(start_s, slot_s, tuple(forecast.mean), tuple(forecast.low), tuple(forecast.high))
        model, error = forecast.model, forecast.error
    except InvalidInput:
        outlook, model, error = Outlook(start_s, slot_s, (now.g_per_kwh,) * count), "one figure for all time", None
    return View(outlook, model, error, now.source, str(IntensityGrade.worst(ahead or [now.grade])), series.revision)


def _from_first_known(values: Values) -> Values:
    at = np.flatnonzero(np.isfinite(values))
    return values[at[0] :] if len(at) else values[:0]


class _Bins:
    """Consecutive slots of one length."""

    def __init__(self, start_s: float, slot_s: float, count: int) -> None:
        self.start_s, self._slot_s, self._count = start_s, slot_s, count

    @property
    def end_s(self) -> float:
        return self.start_s + self._count * self._slot_s

    def means(self, slots: Iterable[Slot]) -> Values:
        """Of what `slots`, in any order, say of each bin; NaN where less than half of it is covered."""
        grams, covered_s = np.zeros(self._count), np.zeros(self._count)
        for slot in slots:
            begin_s, end_s = slot.start_ns / NS_PER_S, slot.end_ns / NS_PER_S
            first = max(0, math.floor((begin_s - self.start_s) / self._slot_s))
            last = min(self._count, math.ceil((end_s - self.start_s) / self._slot_s))
            for number in range(first, last):
                left_s = self.start_s + number * self._slot_s
                seconds = min(end_s, left_s + self._slot_s) - max(begin_s, left_s)
                if seconds > 0 and covered_s[number] < self._slot_s:
                    grams[number] += slot.g_per_kwh * seconds
                    covered_s[number] += seconds
        enough = covered_s >= self._slot_s / 2
        return np.where(enough, grams / np.where(enough, covered_s, 1.0), np.nan)


def _slots_of(series: LocationAverageSeries, now_s: float, until_s: float) -> tuple[float, float]:
    """The usual length of a slot, an hour at most, and where one begins."""
    slots = series.slots_between(_ns(now_s - _DAY_S), _ns(max(until_s, now_s + _DAY_S)))[1:-1]
    widths = Counter(slot.end_ns - slot.start_ns for slot in slots if slot.end_ns - slot.start_ns <= _ns(_HOUR_S))
    if not widths:
        return _HOUR_S, 0.0
    width_ns = widths.most_common(1)[0][0]
    edge = next(slot.start_ns for slot in reversed(slots) if slot.end_ns - slot.start_ns == width_ns)
    return width_ns / NS_PER_S, edge / NS_PER_S


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
