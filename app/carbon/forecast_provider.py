"""A provider's forecast, corrected by its own errors and joined with ours by how far each was to be trusted.

Pure numpy on plain arrays of hours. Knows no provider, zone or clock. What it says is corrected by its mean error at
that hour of the day over two weeks and by its last error, fading. How much of its disagreement with our own forecast
is then to be believed, at each hour ahead, is a regression of our errors on that disagreement over the past
(regression of one forecast's error on another's difference: Granger and Ramanathan, Journal of Forecasting 3, 1984).

    joint = ProviderJoint(hours, said, issues, own)          # own: our forecasts at the past issues
    joint.predict(hours, said, coming, ours)                 # LEADS hours; `coming` NaN where it says nothing

Learned from what was said for each past hour; that it was said a day before is assumed, not known.
"""

import numpy as np
import numpy.typing as npt

from app.carbon.forecast_seasonal import DAY, LEADS, Floats, Ints

_BIAS_DAYS = 14
_FADES_H = 12.0
_PENALTY = 0.1
"""Of the regression, in mean squares of the disagreement."""
_FEW = 7 * DAY
"""Past issues below which the provider is believed as corrected."""


class ProviderJoint:
    """Learned from the past issues of both forecasts."""

    def __init__(self, hours: Floats, said: Floats, issues: Ints, own: Floats) -> None:
        """`said`: for each of `hours`, NaN where nothing was; `own`: ours at `issues`, each with LEADS hours known."""
        looked = _fully_said(said, issues)
        issues, own = issues[looked], own[looked]
        self._believed = len(issues) < _FEW
        if self._believed:
            return
        theirs = np.array([corrected(hours, said, said[issue : issue + LEADS], int(issue)) for issue in issues])
        actual = np.lib.stride_tricks.sliding_window_view(hours, LEADS)[issues]
        differed, missed = theirs - own, actual - own
        self._squares = differed.T @ differed / len(issues)
        self._products = differed.T @ missed / len(issues)
        self._weights: dict[tuple[int, ...], Floats] = {}

    def predict(self, hours: Floats, said: Floats, coming: Floats, ours: Floats, issue: int | None = None) -> Floats:
        """The LEADS hours from `issue` on (the end of `hours` unless given); of what nothing is said, ours decides."""
        issue = len(hours) if issue is None else issue
        known = np.flatnonzero(np.isfinite(coming))
        theirs = corrected(hours, said, coming, issue)
        if self._believed:
            return np.maximum(np.where(np.isfinite(coming), theirs, ours), 0.0)
        return np.maximum(ours + (theirs - ours)[known] @ self._weights_of(tuple(map(int, known))), 0.0)

    def _weights_of(self, known: tuple[int, ...]) -> Floats:
        if known not in self._weights:
            at = np.array(known, dtype=np.int64)
            penalty = _PENALTY * float(np.trace(self._squares)) / LEADS
            squares = self._squares[np.ix_(at, at)] + (penalty + 1e-9) * np.eye(len(at))
            self._weights[known] = np.asarray(np.linalg.solve(squares, self._products[at]), np.float64)
        return self._weights[known]


def corrected(hours: Floats, said: Floats, coming: Floats, issue: int) -> Floats:
    """`coming` by what the provider missed before `issue`; as it is where nothing is known of that."""
    days = min(_BIAS_DAYS, issue // DAY)
    missed = (hours[issue - days * DAY : issue] - said[issue - days * DAY : issue]).reshape(days, DAY)
    seen = np.isfinite(missed)
    bias = np.where(seen, missed, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    last = missed[-1, -1] - bias[-1] if days and seen[-1, -1] else 0.0
    return coming + np.resize(bias, len(coming)) + last * np.exp(-np.arange(1, len(coming) + 1) / _FADES_H)


def _fully_said(said: Floats, issues: Ints) -> npt.NDArray[np.bool_]:
    missing = np.concatenate([[0], np.cumsum(~np.isfinite(said))])
    return np.array(missing[issues + LEADS] == missing[issues])
