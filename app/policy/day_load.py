"""How many answers the rest of a day will take: the shape of the days before, at the level that today has so far.

Pure; knows nothing of clocks or models. A day has so many slots, the same every day.

    load = DayLoad(slots=24)
    load.add(slot=9, answers=412)                      # what came; again and again within a slot
    load.end_day()
    load.rest(slot=9, part=0.25)                       # expected in three quarters of slot 9, then in 10, 11, ...

The level is the usual day's total times a ratio that begins at 1 and moves to what was counted over what was usual by
now, as if half a usual day had been counted as usual before (a gamma prior on the rate of a Poisson process). Days are
forgotten by a twentieth each, so that three weeks decide. Before any day is over, the mean of today so far holds. How
far off it is, is measured: at a day's end what would have been said at the begin of each slot.
"""

from collections.abc import Sequence

_FORGET = 0.95
_PRIOR_DAYS = 0.5
_FIRST_SPREAD = 0.5
"""Before any day is over. The two above have the least error on a year of arrivals (docs/decisions/serving.md)."""


class DayLoad:
    """Of one deployment."""

    def __init__(
        self,
        slots: int,
        usual: Sequence[float] = (),
        days: float = 0.0,
        today: Sequence[float] = (),
        errors: Sequence[float] = (),
    ) -> None:
        """All are those of `state`, to go on with."""
        self.slots = slots
        self._sums = list(usual) if len(usual) == slots else [0.0] * slots
        self._days = days if len(usual) == slots else 0.0
        self._today = list(today) if len(today) == slots else [0.0] * slots
        self._errors = list(errors) if len(errors) == slots and len(usual) == slots else [0.0] * slots
        """Squares of what the rest of the day was off from the begin of each slot, as a share; summed as days are."""

    @property
    def state(self) -> tuple[list[float], float, list[float], list[float]]:
        """What the constructor takes."""
        return list(self._sums), self._days, list(self._today), list(self._errors)

    @property
    def today(self) -> float:
        """Answers so far."""
        return sum(self._today)

    def add(self, slot: int, answers: float) -> None:
        """Count what came in a slot of today."""
        self._today[slot] += answers

    def end_day(self) -> None:
        """Today was a whole day: it is one of those before."""
        if self._days:
            self._errors = [_FORGET * old + self._off(slot) ** 2 for slot, old in enumerate(self._errors)]
        self._sums = [_FORGET * old + new for old, new in zip(self._sums, self._today, strict=True)]
        self._days = _FORGET * self._days + 1
        self.forget_today()

    def forget_today(self) -> None:
        """Today was not seen whole: it says nothing of other days."""
        self._today = [0.0] * self.slots

    def rest(self, slot: int, part: float) -> list[float]:
        """Expected answers from `part` of `slot` on, slot by slot to the end of the day."""
        return self._rest(self.today, slot, part)

    def spread(self, slot: int) -> float:
        """Standard deviation of the sum of `rest`, as a share of it."""
        known = self._days - 1  # the first day had none before it
        return (self._errors[slot] / known) ** 0.5 if known > 0 else _FIRST_SPREAD

    def _rest(self, so_far: float, slot: int, part: float) -> list[float]:
        usual = self._usual()
        by_now = sum(usual[:slot]) + part * usual[slot]
        prior = _PRIOR_DAYS * sum(usual) if self._days else 0.0
        ratio = (so_far + prior) / (by_now + prior) if by_now + prior > 0 else 1.0
        return [ratio * usual[slot] * (1 - part), *(ratio * each for each in usual[slot + 1 :])]

    def _off(self, slot: int) -> float:
        """How much more came of today from `slot` on than was to be expected then, as a share."""
        expected = sum(self._rest(sum(self._today[:slot]), slot, 0.0))
        return (sum(self._today[slot:]) - expected) / expected if expected > 0 else 0.0

    def _usual(self) -> list[float]:
        """Of a day before; flat where there was none."""
        if self._days:
            return [each / self._days for each in self._sums]
        return [1.0] * self.slots
