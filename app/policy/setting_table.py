"""What has been learnt of each setting of a knob: its cost, and how often it was too slow.

Pure: no clock, no chance. Knows nothing of batches or tokens; a setting is whatever hashes. Costs are energy per unit
of work in microjoules, noisy; how noisy is learnt from repeats. Old measurements fade, so that a setting may get better
or worse.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Setting = TypeVar("Setting", bound=Hashable)

_MEMORY_EPOCHS = 16
_COUNT_FADE = 0.9  # of what was counted before, per epoch of the same setting
_FIRST_NOISE = 0.05
_NOISE_GAIN = 0.1
_DOUBT = 2.0  # standard errors to either side of a mean cost
_MEET_DOUBT = 1.0  # standard errors that a share of late answers may be higher
_MISS_DOUBT = 2.0  # and lower: a setting that is wrongly given up is not tried for long


@dataclass(slots=True)
class Tally:
    """`late` of `answers` > 0 were over the objective. Both fade, so they are no whole numbers."""

    late: float
    answers: float

    @property
    def share(self) -> float:
        return self.late / self.answers

    def error(self) -> float:
        """Standard error of the share."""
        # One answer late or not more than was seen: a share of exactly 0 or 1 would otherwise have no error.
        share = min(max(self.share, 0.5 / self.answers), 1 - 0.5 / self.answers)
        return math.sqrt(max(share * (1 - share), 0.0) / self.answers)

    def within(self, allowed: float) -> bool:
        """Whether the share is at most `allowed`, with the doubt against it."""
        return self.share + _MEET_DOUBT * self.error() <= allowed

    def beyond(self, allowed: float) -> bool:
        """Whether the share is more than `allowed`, with the doubt in its favour."""
        return self.share - _MISS_DOUBT * self.error() > allowed

    def add(self, late: float, answers: float, keep: float = 1.0) -> None:
        """Count more; `keep` of what was counted before."""
        self.late = self.late * keep + late
        self.answers = self.answers * keep + answers


@dataclass(slots=True)
class Estimate:
    """Of one setting. `weight` epochs stand behind `cost_uj`."""

    weight: float
    cost_uj: float
    tally: Tally
    epoch: int
    """Number of the epoch in which it was measured last."""


class SettingTable(Generic[Setting]):
    """Estimates by setting. `count_fade` of the answers counted before stays with each epoch of the same setting."""

    def __init__(self, allowed_late: float, count_fade: float = _COUNT_FADE) -> None:
        self._allowed_late, self._count_fade = allowed_late, count_fade
        self._noise_square = _FIRST_NOISE**2
        self._estimates: dict[Setting, Estimate] = {}

    def __contains__(self, setting: Setting) -> bool:
        return setting in self._estimates

    def __getitem__(self, setting: Setting) -> Estimate:
        return self._estimates[setting]

    def __iter__(self) -> Iterator[Setting]:
        return iter(self._estimates)

    def learn(self, setting: Setting, epoch: int, cost_uj: float, late: float, answers: float) -> None:
        """One epoch of `answers` > 0 under `setting`."""
        known = self._estimates.get(setting)
        if known is None:
            self._estimates[setting] = Estimate(1, cost_uj, Tally(late, answers), epoch)
            return
        if known.cost_uj > 0:
            # Of the difference between a mean of n and one more, n/(n+1) is the square of the noise.
            square = (cost_uj / known.cost_uj - 1) ** 2 * known.weight / (known.weight + 1)
            self._noise_square += _NOISE_GAIN * (min(square, 9 * self._noise_square) - self._noise_square)
        known.weight = min(known.weight + 1, _MEMORY_EPOCHS)
        known.cost_uj += (cost_uj - known.cost_uj) / known.weight
        known.tally.add(late, answers, self._count_fade)
        known.epoch = epoch

    def doubt_all(self, scale: float = 1.0) -> None:
        """The world has changed: what was known is a hint now. Costs move by `scale`, as the changed one did."""
        for known in self._estimates.values():
            known.weight = min(known.weight, 1.0)
            known.cost_uj *= scale
            known.tally.add(0, 0, keep=min(1.0, 10 / known.tally.answers))

    def forget(self, setting: Setting) -> None:
        """As if it had never been measured."""
        del self._estimates[setting]

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
        return known is not None and known.tally.within(self._allowed_late)

    def misses(self, setting: Setting) -> bool:
        """Whether the objective is missed, with the doubt in its favour."""
        known = self._estimates.get(setting)
        return known is not None and known.tally.beyond(self._allowed_late)

    def excess(self, setting: Setting) -> float:
        """Share of answers of a measured setting over what is allowed; 0 at least."""
        return max(0.0, self._estimates[setting].tally.share - self._allowed_late)

    def lateness(self, setting: Setting) -> tuple[float, float]:
        """Ascending where nothing meets the objective: less often late first, and of all late ones the newest first."""
        known = self._estimates[setting]
        # Where all are late the newest leads on, or the search would stand still.
        return known.tally.share, -known.epoch
