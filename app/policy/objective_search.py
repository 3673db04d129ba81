"""The search behind `app.energy.optimize`: which setting of a space is measured next, and which is the best so far.

Pure: whoever asks measures. A walk over the grid of the space, one step along one dimension at a time, by
setting_search.py: a better neighbour becomes the place to go on from, and each is measured again between others, so
that noise is learnt and a drift of the machine hits all alike. It ends in a place that is better than all its
neighbours, which need not be the best of the space; `most_trials` bounds it before.

    search = ObjectiveSearch({"batch": (8, 16, 32), "threads": (1, 2)}, at_most_s=0.5)
    while (setting := search.next()) is not None:
        search.observe(setting, units=128, seconds=0.4, energy_uj=12_000_000)
    search.best(), search.trials

Raises InvalidInput for a space that is empty or too large, and for trials that cannot be.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from app.errors import InvalidInput
from app.policy.setting_search import SettingSearch
from app.policy.setting_table import SettingTable

Key = tuple[Hashable, ...]
"""Values of a setting, in the order of the space's dimensions."""

MOST_SETTINGS = 10_000
_LEAST_AGAIN = 2
"""A best setting was measured so often before the search may end."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One measured call."""

    setting: Mapping[str, Hashable]
    units: float
    seconds: float
    energy_uj: int
    quality: float | None = None

    @property
    def uj_per_unit(self) -> float:
        return self.energy_uj / self.units

    @property
    def seconds_per_unit(self) -> float:
        return self.seconds / self.units


@dataclass(slots=True)
class _Known:
    """Sums over the trials of one setting."""

    trials: int = 0
    units: float = 0.0
    seconds: float = 0.0
    longest_s: float = 0.0
    worst_quality: float = math.inf


class ObjectiveSearch:
    """Begins with the first value of every dimension, the present setting; numbers may come in any order."""

    def __init__(
        self,
        space: Mapping[str, Sequence[Hashable]],
        *,
        at_most_s: float | None = None,
        at_least_quality: float | None = None,
        most_trials: int = 0,
    ) -> None:
        """`at_most_s`: seconds of a call; `at_least_quality`: of what it returns. `most_trials` 0: four a setting."""
        if at_most_s is not None and not at_most_s > 0:
            raise InvalidInput(f"at_most_s must be > 0, got {at_most_s}; leave it out for no bound")
        self._names = tuple(space)
        self._values = tuple(tuple(dict.fromkeys(values)) for values in space.values())
        _check(space, self._values)
        self._orders = tuple(_in_order(values) for values in self._values)
        self._keys: list[Key] = list(itertools.product(*self._values))
        self.most_trials = most_trials or 4 * len(self._keys)
        self._at_most_s, self._at_least = at_most_s, at_least_quality
        self._table: SettingTable[Key] = SettingTable(allowed_late=0.0)
        neighbours = {key: self._near(key) for key in self._keys}
        self._search = SettingSearch(self._table, neighbours, eagerness=lambda key: (-float(self._keys.index(key)),))
        self._known: dict[Key, _Known] = defaultdict(_Known)
        self._next: Key | None = self._keys[0]
        self.trials: list[Trial] = []
        self.failed: dict[Key, str] = {}

    @property
    def first(self) -> Mapping[str, Hashable]:
        """The present setting."""
        return self._named(self._keys[0])

    def next(self) -> Mapping[str, Hashable] | None:
        """What to measure now; None: the search is over."""
        if self._next is None or len(self.trials) + len(self.failed) >= self.most_trials:
            return None
        return self._named(self._next)

    def observe(
        self,
        setting: Mapping[str, Hashable],
        units: float,
        seconds: float,
        energy_uj: int,
        quality: float | None = None,
    ) -> Trial:
        """A call is over and its energy known. Raises InvalidInput for no units, or no quality where one is needed."""
        if not (math.isfinite(units) and units > 0):
            raise InvalidInput(f"a call must return how many units of work it did, > 0, got {units!r}")
        if self._at_least is not None and quality is None:
            raise InvalidInput("at_least_quality needs calls that return (units, quality)")
        trial = Trial(setting, units, seconds, energy_uj, quality)
        self.trials.append(trial)
        key = self._key(setting)
        known = self._known[key]
        known.trials, known.units, known.seconds = known.trials + 1, known.units + units, known.seconds + seconds
        known.longest_s = max(known.longest_s, seconds)
        known.worst_quality = min(known.worst_quality, math.inf if quality is None else quality)
        self._table.learn(key, len(self.trials), trial.uj_per_unit, 0.0, 1.0)
        self._choose(key)
        return trial

    def fail(self, setting: Mapping[str, Hashable], why: str) -> None:
        """A setting that cannot run is not tried again. Raises InvalidInput where it is the present one."""
        key = self._key(setting)
        if key == self._keys[0]:
            raise InvalidInput(
                f"the first setting {dict(setting)} must run, it is what the others are held against: {why}"
            )
        self.failed[key] = why
        self._choose(key)

    def best(self) -> Mapping[str, Hashable]:
        """The least energy per unit of those that meet the constraints, else the setting that misses them least.

        Raises InvalidInput before anything was measured.
        """
        best = self._search.best(self)
        if best is None:
            raise InvalidInput("nothing was measured")
        return self._named(best)

    def uj_per_unit(self, setting: Mapping[str, Hashable]) -> float:
        """Mean over its trials, later ones weighing more from the sixteenth on. Raises KeyError for an unknown one."""
        return self._table[self._key(setting)].cost_uj

    def is_met(self, setting: Mapping[str, Hashable]) -> bool:
        """Whether a measured setting keeps the constraints."""
        return self.meets(self._key(setting))

    # What SettingSearch asks of its verdicts.

    def meets(self, key: Key) -> bool:
        return key in self._known and self._excess(key) == 0.0

    def misses(self, key: Key) -> bool:
        return key in self.failed or (key in self._known and self._excess(key) > 0.0)

    def lateness(self, key: Key) -> tuple[float, float]:
        return self._excess(key), self._table[key].cost_uj

    def _excess(self, key: Key) -> float:
        """By how much a measured setting misses the constraints, as shares of them; 0: it meets them."""
        known, excess = self._known[key], 0.0
        if self._at_most_s is not None:
            excess += max(0.0, known.longest_s / self._at_most_s - 1)
        if self._at_least is not None:
            excess += max(0.0, self._at_least - known.worst_quality) / max(abs(self._at_least), 1e-12)
        return excess

    def _choose(self, current: Key) -> None:
        choice = self._search.choose(current, self, has_room=True, closed=lambda key: key in self.failed)
        if choice is None:
            self._next = self._keys[0]
            return
        over = choice.setting == choice.best == current and self._known[current].trials >= _LEAST_AGAIN
        self._next = None if over else choice.setting

    def _near(self, key: Key) -> tuple[Key, ...]:
        """One step along one dimension; values that have no order are all near one another."""
        near: list[Key] = []
        for place, order in enumerate(self._orders):
            at = order.index(key[place])
            steps = [at - 1, at + 1] if _has_order(order) else range(len(order))
            near += [
                (*key[:place], order[step], *key[place + 1 :])
                for step in steps
                if step != at and 0 <= step < len(order)
            ]
        return tuple(near)

    def _key(self, setting: Mapping[str, Hashable]) -> Key:
        return tuple(setting[name] for name in self._names)

    def _named(self, key: Key) -> dict[str, Hashable]:
        return dict(zip(self._names, key, strict=True))


def _has_order(values: Sequence[Hashable]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _in_order(values: Sequence[Hashable]) -> tuple[Hashable, ...]:
    numbers = [value for value in values if isinstance(value, int | float)]
    return tuple(sorted(numbers)) if _has_order(values) else tuple(values)


def _check(space: Mapping[str, Sequence[Hashable]], values: Sequence[Sequence[Hashable]]) -> None:
    if not space or not all(values):
        raise InvalidInput(f"space must name at least one setting with at least one value each, got {dict(space)!r}")
    size = math.prod(map(len, values))
    if size > MOST_SETTINGS:
        raise InvalidInput(f"the space has {size} settings, at most {MOST_SETTINGS} can be searched: leave values out")
