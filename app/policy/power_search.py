"""Which batch size and power limit train at least cost, found in a few windows instead of a sweep of them all.

Pure: no clock, no chance, no device. A setting is a batch size with a power limit; whoever asks runs a window of
training under it and tells what it took. In the spirit of Zeus (You, Chung, Chowdhury, "Zeus", NSDI 2023), whose cost
this is, of all samples that a target needs:

    cost = (eta x energy + (1 - eta) x highest limit x time) per sample x samples to the target

    search = PowerSearch(settings, SearchGoal())
    while (setting := search.next()) is not None:
        search.observe(setting, samples, seconds, energy_uj)
    search.best()                                     # of those that were measured

What is known of a few settings is carried to the others by a Gaussian process on the logarithm of the cost (Rasmussen
and Williams, "Gaussian Processes for Machine Learning", 2006, eq. 2.25), whose mean is a GPU that a limit slows down;
each window goes where the expected improvement is largest (Jones, Schonlau and Welch, "Efficient Global Optimization",
1998, eq. 15). Raises InvalidInput.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from app.errors import InvalidInput
from app.units import UJ_PER_J

Vector = npt.NDArray[np.float64]

_WORTH = 0.001  # expected improvement of the logarithm of the cost below which no window is spent
# Standard deviations of the logarithm of the cost, wide enough for GPUs and networks of several kinds.
_LEVEL = 3.0
_BATCH_SLOPE, _BATCH_BEND, _BATCH_WAVE, _BATCH_LENGTH = 0.6, 0.03, 0.2, 2.0  # by octave
_EFFECT, _SHAPE = 0.8, 2.5  # of what a limit does, as a factor; and between the shapes below
_LIMIT_WAVE, _LIMIT_LENGTH, _TOGETHER_LENGTH = 0.1, 0.25, 2.0
_ROUGH = 0.03  # of each setting by itself
# Share of the highest limit that does not go down with the clock (leakage, memory, fans): nobody knows it beforehand.
_STATIC_SHARES = (0.15, 0.2, 0.25, 0.3)
_CLOCKED_SHARE = 0.9  # of a step's time, the rest waits for memory


@dataclass(frozen=True, slots=True, order=True)
class PowerSetting:
    """How a window of training runs."""

    batch_size: int
    """Rows of an optimiser step, > 0."""
    limit_mw: int
    """Power limit of each accelerator, > 0; the same for all settings where it cannot be set."""


@dataclass(frozen=True, slots=True)
class SearchGoal:
    """What is to be least."""

    eta: float = 1.0
    """1: energy alone; 0: time alone, as energy at the highest limit; between: both."""
    samples_to_target: Mapping[int, float] = field(default_factory=dict)
    """By batch size, in any unit: what reaching the target takes with it, as earlier runs have shown. Empty: a sample
    is worth the same in a batch of any size."""
    share: float = 0.25
    """Of the settings, that may be measured."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a measured setting took."""

    setting: PowerSetting
    seconds_per_sample: float
    energy_uj_per_sample: float
    cost: float
    """Joules per sample, time included as far as `eta` says; times the samples to the target where those are known."""

    @property
    def power_mw(self) -> float:
        """Mean power."""
        return self.energy_uj_per_sample / self.seconds_per_sample / 1000


class PowerSearch:
    """Measures the first of `settings`, then where a window promises most, until none is worth it or all are spent."""

    def __init__(self, settings: Sequence[PowerSetting], goal: SearchGoal) -> None:
        _check(settings, goal)
        self._goal = goal
        self._settings = list(dict.fromkeys(settings))
        self._highest_mw = max(setting.limit_mw for setting in settings)
        self._windows: dict[PowerSetting, Window] = {}
        self._failed_batch = math.inf
        self.most_windows = max(min(3, len(self._settings)), int(goal.share * len(self._settings)))
        """How many windows may be spent: the share of the settings, three at least where there are as many."""

    @property
    def windows(self) -> Sequence[Window]:
        """All that were measured, in order."""
        return tuple(self._windows.values())

    def next(self) -> PowerSetting | None:
        """The setting to measure now; None: the search is over."""
        open_settings = [one for one in self._settings if one not in self._windows and self._may_run(one)]
        if not open_settings or len(self._windows) >= self.most_windows:
            return None
        if not self._windows:
            return open_settings[0]
        promised = self._improvement(open_settings)
        place = int(np.argmax(promised))
        return open_settings[place] if promised[place] > _WORTH else None

    def observe(self, setting: PowerSetting, samples: int, seconds: float, energy_uj: int) -> Window:
        """A window of `setting` has ended. All figures > 0, else InvalidInput: measure longer."""
        if min(samples, seconds, energy_uj) <= 0:
            raise InvalidInput(
                f"a window needs samples, seconds and energy_uj > 0, got {samples}, {seconds} and {energy_uj}; "
                "measure longer"
            )
        time_uj = self._highest_mw * 1000 * seconds
        cost_uj = self._goal.eta * energy_uj + (1 - self._goal.eta) * time_uj
        cost = cost_uj / UJ_PER_J / samples * self._needed(setting)
        self._windows[setting] = Window(setting, seconds / samples, energy_uj / samples, cost)
        return self._windows[setting]

    def fail(self, setting: PowerSetting) -> None:
        """A window of `setting` could not run, out of memory most likely: no batch as large is tried again."""
        self._failed_batch = min(self._failed_batch, setting.batch_size)

    def best(self) -> Window:
        """The cheapest that was measured. Raises InvalidInput when nothing was."""
        if not self._windows:
            raise InvalidInput("no setting could be measured; try smaller batch sizes")
        return min(self._windows.values(), key=lambda window: window.cost)

    # -- what is not measured --------------------------------------------------------------------------------------

    def _may_run(self, setting: PowerSetting) -> bool:
        return setting.batch_size < self._failed_batch

    def _needed(self, setting: PowerSetting) -> float:
        return self._goal.samples_to_target.get(setting.batch_size, 1.0)

    def _improvement(self, settings: Sequence[PowerSetting]) -> Vector:
        """Expected improvement of the logarithm of the cost over the best measured, of each setting."""
        needed = np.log([self._needed(one) for one in settings])
        mean, deviation = self._posterior(settings)
        gain = math.log(self.best().cost) - (mean + needed)
        z = gain / deviation
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        below = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in z])
        return np.asarray(gain * below + deviation * density, dtype=np.float64)

    def _posterior(self, settings: Sequence[PowerSetting]) -> tuple[Vector, Vector]:
        """Mean and standard deviation of the logarithm of the cost per sample, before what a target needs."""
        known = list(self._windows)
        values = np.log([window.cost / self._needed(window.setting) for window in self._windows.values()])
        here, there = self._place(known), self._place(settings)
        values -= here.expected
        inner = _covariance(here, here) + _ROUGH**2 * np.eye(len(known))
        across = _covariance(there, here)
        weights = np.linalg.solve(inner, across.T).T
        mean = there.expected + values.mean() + weights @ (values - values.mean())
        variance = np.diagonal(_covariance(there, there)) + _ROUGH**2 - np.einsum("ij,ij->i", weights, across)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def _place(self, settings: Sequence[PowerSetting]) -> "_Places":
        first = self._settings[0].batch_size
        octaves = np.log2([one.batch_size / first for one in settings])
        limits = np.array([one.limit_mw / self._highest_mw for one in settings])
        shapes = np.stack([_throttled(limits, share, self._goal.eta) for share in _STATIC_SHARES])
        return _Places(octaves, limits, shapes.mean(axis=0), shapes - shapes.mean(axis=0))


@dataclass(frozen=True, slots=True)
class _Places:
    """Where settings lie: octaves from the first batch size, limits over the highest, and what a limit does."""

    octaves: Vector
    limits: Vector
    expected: Vector
    """Logarithm of the cost against the highest limit's, as a mean of GPUs."""
    shapes: Vector
    """[kind of GPU, setting]: how each kind differs from that."""


def _throttled(limits: Vector, static_share: float, eta: float) -> Vector:
    """Logarithm of the cost of a GPU that a limit (over the highest) slows down, against the unlimited.

    Its power is `static_share` and a part that goes with the cube of the clock, at highest 1 in sum; so the clock that
    a limit allows is the cube root of what it leaves for that part, and time goes with its inverse.
    """
    clock = np.cbrt(np.maximum(limits - static_share, 0.02) / (1 - static_share))
    time = _CLOCKED_SHARE / clock + 1 - _CLOCKED_SHARE
    return np.asarray(np.log((eta * limits + 1 - eta) * time), dtype=np.float64)


def _covariance(left: _Places, right: _Places) -> Vector:
    """Of the logarithm of the cost at each of `left` with that at each of `right`."""
    batches = np.multiply.outer(left.octaves, right.octaves)
    apart = np.subtract.outer(left.octaves, right.octaves)
    level = _LEVEL**2 + _BATCH_SLOPE**2 * batches + (_BATCH_BEND * batches) ** 2
    level += _BATCH_WAVE**2 * np.exp(-((apart / _BATCH_LENGTH) ** 2) / 2)
    steps = np.subtract.outer(left.limits, right.limits)
    effect = _EFFECT**2 * np.multiply.outer(left.expected, right.expected) + _SHAPE**2 * left.shapes.T @ right.shapes
    effect += _LIMIT_WAVE**2 * np.exp(-((steps / _LIMIT_LENGTH) ** 2) / 2)
    return np.asarray(level + effect * np.exp(-((apart / _TOGETHER_LENGTH) ** 2) / 2), dtype=np.float64)


def _check(settings: Sequence[PowerSetting], goal: SearchGoal) -> None:
    if not settings or any(min(one.batch_size, one.limit_mw) <= 0 for one in settings):
        raise InvalidInput(f"settings must be one or more, with batch_size and limit_mw > 0, got {list(settings)}")
    if not 0 <= goal.eta <= 1:
        raise InvalidInput(f"eta must be 0 (time alone) to 1 (energy alone), got {goal.eta}")
    if not 0 < goal.share <= 1:
        raise InvalidInput(f"share of the settings that may be measured must be > 0 and <= 1, got {goal.share}")
    batches = {one.batch_size for one in settings}
    unknown = batches - goal.samples_to_target.keys() if goal.samples_to_target else set()
    if unknown or any(goal.samples_to_target[batch] <= 0 for batch in batches & goal.samples_to_target.keys()):
        raise InvalidInput(
            f"samples_to_target must be > 0 for every batch size or left out, got {dict(goal.samples_to_target)} "
            f"for batch sizes {sorted(batches)}"
        )
