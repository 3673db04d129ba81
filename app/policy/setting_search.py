"""Which setting of a knob gets the next epoch: the cheapest known to meet the objectives, or a neighbour of it.

Pure. Knows nothing of what the knob is, nor what the objectives are: whoever asks says of each setting whether it meets
them, misses them, and how late it is where nothing meets them.

    search = SettingSearch(table, neighbours, eagerness=lambda setting: setting)
    choice = search.choose(current, verdicts, has_room=room.enough, closed=lambda setting: False)
    choice.setting, choice.best            # what runs next; the best so far

An epoch with a neighbour is put between epochs of the best, many while neighbours are unknown or may be better by more
than `TOLERANCE`, few later on.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from app.policy.setting_table import Setting, SettingTable

TOLERANCE = 0.05
"""A neighbour that can at best be cheaper by less than this is not worth an epoch."""
SETTLED_EVERY = 20
"""Once nothing promises more than `TOLERANCE`, every so many epochs one goes to the neighbour measured longest ago."""
_ROOM_EPOCHS = 2  # late answers saved up before exploring, in epochs' allowances
_MOST_ROOM_EPOCHS = 8
_SURPRISE = 4.0  # standard errors, twice in a row
Asked = TypeVar("Asked", bound=Hashable, contravariant=True)


class Verdicts(Protocol[Asked]):
    """What is known of a setting against the objectives; nothing known: neither meets nor misses."""

    def meets(self, setting: Asked) -> bool: ...

    def misses(self, setting: Asked) -> bool: ...

    def lateness(self, setting: Asked) -> tuple[float, float]:
        """Of a measured setting, where nothing meets the objectives: the least is chosen."""


@dataclass(frozen=True, slots=True)
class Choice(Generic[Setting]):
    """`setting` runs next; it is `best`, or a neighbour to be tried."""

    setting: Setting
    best: Setting


class Room:
    """Answers that may still be late before the objective is missed over all answers, explored ones included."""

    def __init__(self, allowed_late: float, epoch_answers: int) -> None:
        self._allowed_late = allowed_late
        self._allowance = allowed_late * epoch_answers
        self._saved = 0.0

    def add(self, late: float, answers: float) -> None:
        most = _MOST_ROOM_EPOCHS * self._allowance
        self._saved = min(max(self._saved + self._allowed_late * answers - late, -most), most)

    @property
    def enough(self) -> bool:
        """Whether an epoch that is too slow can be afforded."""
        return self._saved >= _ROOM_EPOCHS * self._allowance


class Doubts(Generic[Setting]):
    """Forgets what `table` knows when a setting measured before is no longer what it was; once may be chance."""

    def __init__(self, table: SettingTable[Setting], most_change: float) -> None:
        self._table, self._most_change = table, most_change
        self._pace: dict[Setting, float] = {}
        self._surprises = 0

    def weigh(self, setting: Setting, cost_uj: float, pace: float) -> float | None:
        """One epoch, before it is learnt. `pace` > 0 (a rate, a time) may change by a factor of `most_change`.

        If all is doubted now, by how much the pace has changed; else None.
        """
        known_pace = self._pace.setdefault(setting, pace)
        if setting not in self._table:
            self._pace[setting] = pace
            return None
        changed = not 1 / self._most_change < pace / known_pace < self._most_change
        changed |= self._table.surprise(setting, cost_uj) > _SURPRISE
        self._surprises = self._surprises + 1 if changed else 0
        if not changed:
            self._pace[setting] = pace
        if self._surprises < 2:
            return None
        self._surprises, self._pace = 0, {setting: pace}
        known_uj = self._table[setting].cost_uj
        self._table.doubt_all(cost_uj / known_uj if known_uj > 0 and cost_uj > 0 else 1.0)
        return pace / known_pace


class SettingSearch(Generic[Setting]):
    """Walks over `neighbours`, each setting with those near it; among unknown ones the most eager first."""

    def __init__(
        self,
        table: SettingTable[Setting],
        neighbours: Mapping[Setting, Sequence[Setting]],
        eagerness: Callable[[Setting], tuple[float, ...]],
    ) -> None:
        self._table, self._neighbours, self._eagerness = table, neighbours, eagerness
        self._since_exploring = 0

    def choose(
        self, current: Setting, verdicts: Verdicts[Setting], *, has_room: bool, closed: Callable[[Setting], bool]
    ) -> Choice[Setting] | None:
        """After an epoch of `current`. None: nothing is measured yet. A setting that is `closed` is not tried now."""
        best = self.best(verdicts)
        if best is None:
            return None
        explored = current != best
        self._since_exploring = 0 if explored else self._since_exploring + 1
        candidate = self._candidate(best, verdicts, has_room, closed)
        # Back to the best after each try, unless it is known to be no good itself.
        if candidate is None or (explored and not verdicts.misses(best)):
            return Choice(best, best)
        return Choice(candidate, best)

    def best(self, verdicts: Verdicts[Setting]) -> Setting | None:
        """The cheapest that meets the objectives; else the least late one; None when nothing is measured."""
        meeting = [setting for setting in self._table if verdicts.meets(setting)]
        if meeting:
            return min(meeting, key=lambda setting: self._table[setting].cost_uj)
        return min(self._table, key=verdicts.lateness, default=None)

    def _candidate(
        self, best: Setting, verdicts: Verdicts[Setting], has_room: bool, closed: Callable[[Setting], bool]
    ) -> Setting | None:
        """The neighbour of the incumbent that is worth the next epoch; None when there is none, or no room for it."""
        table = self._table
        if not verdicts.meets(best):
            return self._way_out(best, verdicts, closed)
        if not has_room:
            return None
        near = [one for one in self._neighbours[best] if not verdicts.misses(one) and not closed(one)]
        unknown = [one for one in near if one not in table]
        if unknown:
            return max(unknown, key=self._eagerness)
        hoped_uj = table[best].cost_uj * (1 - TOLERANCE)
        hopeful = [one for one in near if table.lowest_cost_uj(one) < hoped_uj]
        if hopeful:
            # Not the cheapest: one that will never quite meet the objectives would keep the others from their turn.
            return min(hopeful, key=self._last_epoch)
        return self._stalest(best, closed) if self._since_exploring >= SETTLED_EVERY else None

    def _way_out(self, best: Setting, verdicts: Verdicts[Setting], closed: Callable[[Setting], bool]) -> Setting | None:
        """While nothing meets the objectives: something unknown, else what may meet them after all."""
        for setting in self._frontier(best):
            if setting not in self._table and not closed(setting):
                return setting
        unsure = [one for one in self._table if one != best and not verdicts.misses(one) and not closed(one)]
        return min(unsure, key=self._last_epoch, default=None)

    def _frontier(self, best: Setting) -> Iterator[Setting]:
        """Settings to try while nothing meets the objectives: those near `best` first, then near anything measured."""
        yield from self._neighbours[best]
        for setting, near in self._neighbours.items():
            if setting in self._table:
                yield from near

    def _stalest(self, best: Setting, closed: Callable[[Setting], bool]) -> Setting | None:
        near = [one for one in self._neighbours[best] if not closed(one)]
        return min(near, key=self._last_epoch, default=None)

    def _last_epoch(self, setting: Setting) -> int:
        return self._table[setting].epoch if setting in self._table else 0
