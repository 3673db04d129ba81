"""What has been learnt of each setting of a knob: its cost, and how often it was too slow.

Pure: no clock, no chance. Knows nothing of batches; a setting is whatever hashes. Costs are energy per unit of work in
microjoules, noisy; how noisy is learnt from repeats. Old measurements fade, so that a setting may get better or worse.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Setting = TypeVar("Setting", bound=Hashable)

_MEMORY_EPOCHS = 16
_COUNT_FADE = 0.9  # of what was counted before, per epoch of the same setting
_FIRST_NOISE = 0.05
_NOISE_GAIN = 0.1
_DOUBT = 2.0  # standard errors to either side of a mean cost
_COUNT_DOUBT = 1.0  # standard errors to either side of a share of late answers


@dataclass(slots=True)
class Estimate:
    """Of one setting. `weight` epochs stand behind `cost_uj`; `late` of `answers` were over the objective."""

    weight: float
    cost_uj: float
    late: float
    answers: float
    epoch: int
    """Number of the epoch in which it was measured last."""

    @property
    def late_share(self) -> float:
        return self.late / self.answers

    def late_share_error(self) -> float:
        # One answer late or not more than was seen: a share of exactly 0 or 1 would otherwise have no error.
        share = min(max(self.late_share, 0.5 / self.answers), 1 - 0.5 / self.answers)
        return _COUNT_DOUBT * math.sqrt(max(share * (1 - share), 0.0) / self.answers)


class SettingTable(Generic[Setting]):
    """Estimates by setting."""

    def __init__(self, allowed_late: float) -> None:
        self._allowed_late = allowed_late
        self._noise_square = _FIRST_NOISE**2
        self._estimates: dict[Setting, Estimate] = {}

    def __contains__(self, setting: Setting) -> bool:
        return setting in self._estimates

    def __getitem__(self, setting: Setting) -> Estimate:
        return self._estimates[setting]

    def learn(self, setting: Setting, epoch: int, cost_uj: float, late: int, answers: int) -> None:
        """One epoch of `answers` >= 1 under `setting`."""
        known = self._estimates.get(setting)
        if known is None:
            self._estimates[setting] = Estimate(1, cost_uj, late, answers, epoch)
            return
        if known.cost_uj > 0:
            # Of the difference between a mean of n and one more, n/(n+1) is the square of the noise.
            square = (cost_uj / known.cost_uj - 1) ** 2 * known.weight / (known.weight + 1)
            self._noise_square += _NOISE_GAIN * (min(square, 9 * self._noise_square) - self._noise_square)
        known.weight = min(known.weight + 1, _MEMORY_EPOCHS)
        known.cost_uj += (cost_uj - known.cost_uj) / known.weight
        known.late = known.late * _COUNT_FADE + late
        known.answers = known.answers * _COUNT_FADE + answers
        known.epoch = epoch

    def doubt_all(self, scale: float = 1.0) -> None:
        """The world has changed: what was known is a hint now. Costs move by `scale`, as the changed one did."""
        for known in self._estimates.values():
            known.weight = min(known.weight, 1.0)
            known.cost_uj *= scale
            hint = min(1.0, 10 / known.answers)
            known.late, known.answers = known.late * hint, known.answers * hint

    def surprise(self, setting: Setting, cost_uj: float) -> float:
        """How many standard errors `cost_uj` lies from what is known of `setting`; 0 for an unknown one."""
        known = self._estimates.get(setting)
        if known is None or known.cost_uj <= 0:
            return 0.0
        error = math.sqrt(self._noise_square * (1 + 1 / known.weight))
        return abs(cost_uj / known.cost_uj - 1) / max(error, 1e-6)

    def lowest_cost_uj(self, setting: Setting) -> float:
        """What a measured setting may cost at best."""
        known = self._estimates[setting]
        return known.cost_uj * (1 - _DOUBT * math.sqrt(self._noise_square / known.weight))

    def meets(self, setting: Setting) -> bool:
        """Whether the objective is met, with the doubt against it."""
        known = self._estimates.get(setting)
        return known is not None and known.late_share + known.late_share_error() <= self._allowed_late

    def misses(self, setting: Setting) -> bool:
        """Whether the objective is missed, with the doubt in its favour."""
        known = self._estimates.get(setting)
        return known is not None and known.late_share - known.late_share_error() > self._allowed_late

    def best(self) -> Setting | None:
        """The cheapest that meets the objective; else the one late least often; None when nothing is measured."""
        if not self._estimates:
            return None
        meeting = [setting for setting in self._estimates if self.meets(setting)]
        if meeting:
            return min(meeting, key=lambda setting: self._estimates[setting].cost_uj)
        return min(self._estimates, key=self._lateness)

    def _lateness(self, setting: Setting) -> tuple[float, int]:
        known = self._estimates[setting]
        # Where all are late the newest leads on, or the search would stand still.
        return known.late_share, -known.epoch
