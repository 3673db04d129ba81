"""How many answers the rest of a day will take: the shape of the days before, at the level that today has so far.

Pure; knows nothing of clocks or models. A day has so many slots, the same every day.

    load = DayLoad(slots=24)
    load.add(slot=9, answers=412)                      # what came; again and again within a slot
    load.end_day()
    load.rest(slot=9, part=0.25)                       # expected in three quarters of slot 9, then in 10, 11, ...

The level is the usual day's total times a ratio that begins at 1 and moves to what was counted over what was usual by
now, as if a quarter of a usual day had been counted as usual before (a gamma prior on the rate of a Poisson process).
Days are forgotten by a fifth each, so that a week decides. Before any day is over, the mean of today so far holds.
"""

from collections.abc import Sequence

_FORGET = 0.8
_PRIOR_DAYS = 0.25


class DayLoad:
    """Of one deployment."""

    def __init__(self, slots: int, usual: Sequence[float] = (), days: float = 0.0, today: Sequence[float] = ()) -> None:
        """`usual`, `days` and `today` are those of `state`, to go on with."""
        self.slots = slots
        self._sums = list(usual) if len(usual) == slots else [0.0] * slots
        self._days = days if len(usual) == slots else 0.0
        self._today = list(today) if len(today) == slots else [0.0] * slots

    @property
    def state(self) -> tuple[list[float], float, list[float]]:
        """What the constructor takes."""
        return list(self._sums), self._days, list(self._today)

    @property
    def today(self) -> float:
        """Answers so far."""
        return sum(self._today)

    def add(self, slot: int, answers: float) -> None:
        """Count what came in a slot of today."""
        self._today[slot] += answers

    def end_day(self) -> None:
        """Today was a whole day: it is one of those before."""
        self._sums = [_FORGET * old + new for old, new in zip(self._sums, self._today, strict=True)]
        self._days = _FORGET * self._days + 1
        self.forget_today()

    def forget_today(self) -> None:
        """Today was not seen whole: it says nothing of other days."""
        self._today = [0.0] * self.slots

    def rest(self, slot: int, part: float) -> list[float]:
        """Expected answers from `part` of `slot` on, slot by slot to the end of the day."""
        usual = self._usual()
        by_now = sum(usual[:slot]) + part * usual[slot]
        prior = _PRIOR_DAYS * sum(usual) if self._days else 0.0
        ratio = (self.today + prior) / (by_now + prior) if by_now + prior > 0 else 1.0
        return [ratio * usual[slot] * (1 - part), *(ratio * each for each in usual[slot + 1 :])]

    def _usual(self) -> list[float]:
        """Of a day before; flat where there was none."""
        if self._days:
            return [each / self._days for each in self._sums]
        return [1.0] * self.slots
