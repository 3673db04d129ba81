"""What the grid's intensity will be, with how far it may be off: the provider's forecast where there is one, and ours.

Pure numpy on plain numbers: past values in, an expected value and the 10th and 90th percentile per slot out. Knows
nothing of zones, clocks, providers or what the figures are used for.

    forecast = forecast_intensity(history, horizon=48, slots_per_day=24)
    forecast.mean, forecast.low, forecast.high, forecast.model, forecast.error

Ours is persistence below a day of past, then yesterday blended with the week, then a seasonal regression
(forecast_seasonal.py); a provider's is corrected and joined with it (forecast_provider.py). Errors are measured by
forecasting the last weeks again from what was known then, a week at a time, never from a fit that saw them; the
percentiles are theirs. Raises InvalidInput when nothing is known of the past or shapes do not fit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.carbon.forecast_provider import ProviderJoint
from app.carbon.forecast_seasonal import DAY, LEADS, LEARNS_FROM, WEEK, Floats, SeasonalModel, week_profile
from app.errors import InvalidInput

_HELD = 8 * WEEK
"""Hours at the end of the past that are forecast again to learn how good forecasts are."""
_REMEMBERED = 366 * DAY
_LOW, _HIGH = 10.0, 90.0
_UNKNOWN_SPREAD = 0.3
"""Half the width of what may come, as a share, where nothing was measured yet: the mean hourly range of a day over its
mean lies between 0.1 (PJM) and 0.6 (CISO) on the 2022 series of docs/decisions/shifting.md."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of the slots that follow the past, in gCO2e/kWh."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    """10th percentile."""
    high: tuple[float, ...]
    """90th percentile."""
    model: str
    """"last value", "days before", "seasonal regression", each perhaps "joined with the provider's"."""
    error: float | None
    """Mean absolute error over the first day ahead as a share of the mean, measured on the past. None: not measured."""


class IntensityModel:
    """Learned from one past; forecasts from any later hour of the same series, a week or so before it is stale."""

    def __init__(self, hours: Floats, said: Floats | None = None) -> None:
        """`hours`: g/kWh, one an hour, at least a day, finite; `said`: a provider's forecast for each, or NaN."""
        self._own = SeasonalModel(hours)
        first = max(min(LEARNS_FROM, len(hours) - LEADS), len(hours) - _HELD, DAY)
        issues = np.arange(first, max(len(hours) - LEADS + 1, first))
        weeks = [issues[at : at + WEEK] for at in range(0, len(issues), WEEK)]
        own = [SeasonalModel(hours[: week[0]]).predict(hours, week) for week in weeks]
        self._issues, self._past_own = issues, np.concatenate(own) if own else np.empty((0, LEADS))
        self._joint = None
        if said is not None and np.isfinite(said).any():
            self._joint = ProviderJoint(hours, said, issues, self._past_own)
        self._hours, self._said = hours, said
        self._errors: dict[int, Floats] = {}

    def forecast(
        self, hours: Floats, horizon: int, coming: Floats | None = None, said: Floats | None = None
    ) -> Forecast:
        """The `horizon` hours after `hours`, the learned ones and perhaps more; `coming`: what the provider says."""
        ours = self._own.predict(hours, np.array([len(hours)]))[0]
        name, known = self._own.name, 0
        if self._joint is not None and said is not None and coming is not None and np.isfinite(coming).any():
            padded = np.full(LEADS, np.nan)
            padded[: len(coming)] = coming[:LEADS]
            known = int(np.isfinite(padded).sum())
            ours = self._joint.predict(hours, said, padded, ours)
            name += ", joined with the provider's"
        errors = self._errors_with(known)
        beyond = np.resize(np.roll(week_profile(hours, DAY), -(LEADS % DAY)), max(horizon - LEADS, 0))
        mean = np.concatenate([ours, beyond])[:horizon]
        if not len(errors):
            return _spread(mean, name)
        low, high = (np.percentile(errors, percent, axis=0) for percent in (_LOW, _HIGH))
        at = np.minimum(np.arange(horizon), LEADS - DAY + np.arange(horizon) % DAY)
        error = float(np.abs(errors[:, :DAY]).mean() / max(self._hours[-_HELD:].mean(), 1e-9))
        below, above = mean + np.minimum(low[at], 0.0), mean + np.maximum(high[at], 0.0)
        return Forecast(_plain(mean), _plain(np.maximum(below, 0.0)), _plain(above), name, error)

    def _errors_with(self, known: int) -> Floats:
        """Actual less forecast at the past issues, as though the provider had said the first `known` hours."""
        if known not in self._errors:
            actual = [self._hours[issue : issue + LEADS] for issue in self._issues]
            made = self._past_own
            if known and self._joint is not None and self._said is not None:
                made = np.array([self._again(self._joint, self._said, n, known) for n in range(len(self._issues))])
            self._errors[known] = np.array(actual) - made if actual else np.empty((0, LEADS))
        return self._errors[known]

    def _again(self, joint: ProviderJoint, said: Floats, at: int, known: int) -> Floats:
        issue = int(self._issues[at])
        coming = np.full(LEADS, np.nan)
        coming[:known] = said[issue : issue + known]
        return joint.predict(self._hours, said, coming, self._past_own[at], issue)


def forecast_intensity(
    history: Sequence[float],
    horizon: int,
    slots_per_day: int = 24,
    provider: Sequence[float] | None = None,
    provider_history: Sequence[float] | None = None,
) -> Forecast:
    """The `horizon` slots that follow `history` (g/kWh per slot, NaN where it is missing).

    `provider`: what it says of the coming slots, `provider_history`: what it had said of those of `history`, a day
    before or so; NaN where nothing. Slots of less than an hour get what their hour gets. Raises InvalidInput.
    """
    if horizon < 1 or slots_per_day < DAY or slots_per_day % DAY:
        raise InvalidInput(
            f"horizon must be >= 1 slot and slots_per_day a multiple of 24, got {horizon} and {slots_per_day}"
        )
    if provider_history is not None and len(provider_history) != len(history):
        raise InvalidInput(
            f"provider_history must have one value for each of history, NaN where none: got {len(provider_history)} "
            f"for {len(history)}"
        )
    width = slots_per_day // DAY
    past = _hourly(history, width)[-_REMEMBERED:]
    if not np.isfinite(past).any():
        raise InvalidInput(
            f"a forecast needs at least one known value of the past, got {len(history)} slots without one"
        )
    ahead = math.ceil(horizon / width)
    coming = None if provider is None else _hourly_ahead(provider, width)
    hours = filled(past)
    if len(hours) < DAY:
        return _persistent(float(hours[-1]), coming, horizon, width)
    said = np.full(len(hours), np.nan) if provider_history is None else _hourly(provider_history, width)[-len(hours) :]
    if coming is not None and not np.isfinite(said).any():  # nothing to judge it by: believed
        said[-1] = hours[-1]
    found = IntensityModel(hours, said if coming is not None else None).forecast(hours, ahead, coming, said)
    slots = [tuple(np.repeat(each, width)[:horizon].tolist()) for each in (found.mean, found.low, found.high)]
    return Forecast(slots[0], slots[1], slots[2], found.model, found.error)


def filled(hours: Floats) -> Floats:
    """Missing hours as a day before, else as the hour before, else as the first known."""
    whole = hours.copy()
    known = np.flatnonzero(np.isfinite(whole))
    whole[: known[0]] = whole[known[0]]
    for at in np.flatnonzero(~np.isfinite(whole)):
        whole[at] = whole[at - DAY] if at >= DAY else whole[at - 1]
    return whole


def _persistent(last: float, coming: Floats | None, horizon: int, width: int) -> Forecast:
    ahead = math.ceil(horizon / width)
    hours = np.full(ahead, last)
    name = "last value"
    if coming is not None:
        said = np.full(ahead, np.nan)
        said[: len(coming)] = coming[:ahead]
        hours = np.where(np.isfinite(said), said, hours)
        name += ", joined with the provider's"
    return _spread(np.repeat(hours, width)[:horizon], name)


def _spread(mean: Floats, name: str) -> Forecast:
    return Forecast(
        _plain(mean), _plain(mean * (1 - _UNKNOWN_SPREAD)), _plain(mean * (1 + _UNKNOWN_SPREAD)), name, None
    )


def _hourly(slots: Sequence[float], width: int) -> Floats:
    """Means of what is known of each hour, counted back from the end."""
    values = np.asarray(slots, dtype=np.float64)
    values = np.concatenate([np.full(-len(values) % width, np.nan), values]).reshape(-1, width)
    return _known_means(values)


def _hourly_ahead(slots: Sequence[float], width: int) -> Floats:
    values = np.asarray(slots, dtype=np.float64)
    return _known_means(np.concatenate([values, np.full(-len(values) % width, np.nan)]).reshape(-1, width))


def _known_means(values: Floats) -> Floats:
    seen = np.isfinite(values)
    counts = seen.sum(axis=1)
    return np.where(counts, np.where(seen, values, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(values.tolist())
