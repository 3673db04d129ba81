"""The next two days of an hourly grid intensity, from its own past alone.

Pure numpy on plain arrays: hours in, hours out. Knows nothing of zones, clocks or providers; the time of day and of the
week are counted from the first hour it was shown.

    model = SeasonalModel(hours)                             # g/kWh, one an hour, nothing missing
    model.predict(hours, np.array([len(hours)]))             # (1, LEADS): the hours that follow

A linear regression for each hour ahead (ridge, the bias of a penalty for the little that a few weeks tell: Hoerl and
Kennard, Technometrics 12, 1970) on how the last two days differed from the last week's profile, on the profiles of one
and two weeks, on the hour and on the day. With less than three weeks to learn from: a blend of yesterday and the week's
profile, and what was last seen beyond it, fading.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEADS = 48
"""Hours ahead."""
DAY, WEEK = 24, 168
LEARNS_FROM = 21 * DAY
"""Hours from which on the regression is used."""
_LOOKS_BACK = 14 * DAY
_YESTERDAY = 0.4
"""Share of yesterday in the profile that is corrected; the rest is the mean of seven days. Chosen, as the penalty and
the fading, on the 2022 series of NYISO, MISO and PJM, which no bar names; docs/decisions/shifting.md says how."""
_PENALTY = 1e4
_INDICATOR = 20.0
"""Of an hour of the day or a day of the week, in g/kWh: how much less than a deviation it is penalised."""
_FADES_H = 12.0


class SeasonalModel:
    """Learned once from what was known then; predicts from any later hour of the same series."""

    def __init__(self, hours: Floats) -> None:
        """`hours`: the series so far, at least one day, finite."""
        self._weights: Floats | None = None
        issues = np.arange(_LOOKS_BACK, len(hours) - LEADS + 1)
        if len(hours) < LEARNS_FROM:
            return
        terms, base = _terms(hours, issues)
        missed = np.lib.stride_tricks.sliding_window_view(hours, LEADS)[issues] - base
        penalty = _PENALTY * np.eye(terms.shape[1])
        self._weights = np.asarray(np.linalg.solve(terms.T @ terms + penalty, terms.T @ missed), np.float64)

    @property
    def name(self) -> str:
        return "days before" if self._weights is None else "seasonal regression"

    def predict(self, hours: Floats, issues: Ints) -> Floats:
        """For each of `issues`, LEADS hours from it on, out of `hours` before it alone; >= 0.

        An issue is an index of `hours` >= DAY, at most their number.
        """
        if self._weights is None:
            blends: Floats = np.array([_days_before(hours[:issue]) for issue in issues])
            return np.maximum(blends, 0.0)
        terms, base = _terms(hours, issues)
        return np.asarray(np.maximum(base + terms @ self._weights, 0.0), np.float64)


def week_profile(hours: Floats, length: int) -> Floats:
    """The mean of the last seven days at the same hour of the day (fewer where there are fewer), for `length` hours."""
    days = min(7, len(hours) // DAY)
    return np.resize(hours[-days * DAY :].reshape(days, DAY).mean(axis=0), length)


def _days_before(past: Floats) -> Floats:
    profile = _YESTERDAY * past[-DAY:] + (1 - _YESTERDAY) * week_profile(past, DAY)
    beyond = past[-1] - profile[-1]
    fading: Floats = beyond * np.exp(-np.arange(1, LEADS + 1) / _FADES_H)
    return np.resize(profile, LEADS) + fading


def _terms(hours: Floats, issues: Ints) -> tuple[Floats, Floats]:
    """What the regression knows at each issue, and the profile that it corrects."""
    days = np.lib.stride_tricks.sliding_window_view(hours, DAY)
    yesterday, day_before = days[issues - DAY], days[issues - 2 * DAY]
    week = np.mean([days[issues - DAY * back] for back in range(1, 8)], axis=0)
    fortnight = np.mean([days[issues - DAY * back] for back in range(1, 15)], axis=0)
    profile = _YESTERDAY * yesterday + (1 - _YESTERDAY) * week
    terms = (
        yesterday - week,
        day_before - week,
        week - week.mean(axis=1, keepdims=True),
        fortnight - week,
        _INDICATOR * np.eye(DAY)[issues % DAY],
        _INDICATOR * np.eye(7)[issues // DAY % 7],
        np.full((len(issues), 1), _INDICATOR),
    )
    return np.concatenate(terms, axis=1), np.tile(profile, LEADS // DAY)
