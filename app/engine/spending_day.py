"""One deployment's day: what was answered by whom, what it took, what may still come, and who answers now.

Pure but for its state: time, books and forecasts come in as arguments, polls as they are sent. Knows nothing of Ray,
stores or files (spending_desk.py).

    day = SpendingDay(rules)
    day.hear(poll, now_s)
    mix = day.decide(now_s, use, view, pue)

What was spent is what the books have, and what receipts told in the last seconds, which the books do not have yet. The
joules of an answer are the books' over the answers counted; of a variant that has hardly answered its receipts', else
those on its card in proportion, else not known.
"""

from collections import deque
from dataclasses import dataclass

from app.engine.outlook import View
from app.engine.spending_words import Counted, Offered, SpendingPoll, Use
from app.policy.day_load import DayLoad
from app.policy.spending import SLOTS, SpendingRules
from app.policy.variants import Ahead, Done, Floors, Mix, Variant, choose
from app.units import UJ_PER_J

_G_PER_J_OF_KWH = 1 / 3.6e6
_SURE_ANSWERS, _SOME_ANSWERS = 50, 5
_FORGET = 0.5
"""Of what a day measured, at its end."""
_NOTHING = Counted()


@dataclass(slots=True)
class _Tally:
    """Of one variant."""

    answers: float = 0.0
    """Since the day began."""
    steered: float = 0.0
    heard: float = 0.0
    """Answers and joules by receipts, older ones forgotten by half a day."""
    heard_j: float = 0.0
    known: float = 0.0
    """The same by the books, whole days alone."""
    known_j: float = 0.0


class SpendingDay:
    """Of one model. Not thread-safe."""

    def __init__(self, rules: SpendingRules, now_s: float, unsettled_s: float, load: DayLoad | None = None) -> None:
        """`unsettled_s`: how long after the work the books may not have it yet. `load`: that of the days before."""
        self.rules, self._unsettled_s = rules, unsettled_s
        self.load = load or DayLoad(SLOTS)
        self.start_s = rules.start_s(now_s)
        self.offered: dict[str, Offered] = {}
        self.refused = 0
        self.seen_s = now_s
        """Since when it is counted."""
        self._base = Use()
        """What the books had when counting began, of an earlier part of the day."""
        self._tallies: dict[str, _Tally] = {}
        self._last: dict[str, tuple[float, SpendingPoll]] = {}
        self._unsettled: deque[tuple[float, float, float]] = deque()

    @property
    def ends_s(self) -> float:
        return self.start_s + self.rules.period_s

    @property
    def answers(self) -> dict[str, float]:
        """By variant, of the day as far as it was seen."""
        return {name: tally.answers for name, tally in self._tallies.items() if tally.answers}

    @property
    def steered(self) -> dict[str, float]:
        """Of those the ones that could have been answered by another."""
        return {name: tally.steered for name, tally in self._tallies.items() if tally.steered}

    def gates(self, now_s: float) -> int:
        """Processes that were heard lately; one at least."""
        lately = max(10.0, 0.01 * self.rules.period_s)
        self._last = {who: each for who, each in self._last.items() if now_s - each[0] <= 6 * lately}
        return max(1, sum(now_s - heard_s <= lately for heard_s, _ in self._last.values()))

    def hear(self, poll: SpendingPoll, now_s: float) -> None:
        """Count what a process has answered since it was heard last."""
        self.offered |= {each.name: each for each in poll.offered}
        before = self._last[poll.who][1] if poll.who in self._last else None
        self._last[poll.who] = now_s, poll
        self.refused += poll.refused - (before.refused if before else 0)
        slot = self._slot(now_s)[0]
        self.load.add(slot, poll.refused - (before.refused if before else 0))
        for name, counted in poll.counted.items():
            old = before.counted.get(name, _NOTHING) if before else _NOTHING
            tally = self._tallies.setdefault(name, _Tally())
            answers, energy_uj = counted.answers - old.answers, counted.energy_uj - old.energy_uj
            tally.answers += answers
            tally.steered += counted.steered - old.steered
            self.load.add(slot, counted.steered - old.steered)
            if energy_uj:
                tally.heard += answers
                tally.heard_j += energy_uj / UJ_PER_J
                self._unsettled.append((now_s, energy_uj, counted.carbon_ugco2e - old.carbon_ugco2e))

    def spent(self, use: Use, now_s: float) -> tuple[float, float]:
        """Energy (uJ) and carbon (ug) since the day began."""
        while self._unsettled and now_s - self._unsettled[0][0] >= self._unsettled_s:
            self._unsettled.popleft()
        energy_uj = use.energy_uj + sum(each[1] for each in self._unsettled)
        return energy_uj, use.carbon_ugco2e + sum(each[2] for each in self._unsettled)

    def left(self, use: Use, now_s: float) -> tuple[float | None, float | None]:
        """Energy (uJ) and carbon (ug) that are left of the day; None without such a budget."""
        energy_uj, carbon_ug = self.spent(use, now_s)
        joules, grams = self.rules.joules_per_day, self.rules.gco2e_per_day
        return (
            None if joules is None else max(0.0, joules * 1e6 - energy_uj),
            None if grams is None else max(0.0, grams * 1e6 - carbon_ug),
        )

    def variants(self, use: Use) -> tuple[Variant, ...]:
        """What each variant costs and is worth, as far as is known; where nobody said what answers are worth, 1."""
        measured = {name: self._measured_j(name, use) for name in self.offered}
        ratios = [
            joules / card
            for name, joules in measured.items()
            if joules is not None and (card := self.offered[name].card_j)
        ]
        ratio = sorted(ratios)[len(ratios) // 2] if ratios else 1.0
        return tuple(
            Variant(
                name,
                _first(measured[name], each.card_j and each.card_j * ratio),
                1.0 if each.quality is None else each.quality,
            )
            for name, each in self.offered.items()
        )

    def expected(self, now_s: float) -> list[float]:
        """Answers that are still to come, by slot, the present one first."""
        return self.load.rest(*self._slot(now_s))

    def decide(self, now_s: float, use: Use, view: View, pue: float) -> Mix:
        """Who answers now. Raises InvalidInput where no variant may."""
        variants, expected = self.variants(use), self.expected(now_s)
        g_per_j = [
            view.outlook.at(max(now_s, self.start_s + (slot + 0.5) * self.rules.slot_s)) * pue * _G_PER_J_OF_KWH
            for slot in range(SLOTS - len(expected), SLOTS)
        ]
        floors = Floors(self.rules.least_quality, self.rules.mean_quality)
        worth = {each.name: each.quality for each in variants}
        done = Done(
            sum(self.steered.values()), sum(count * worth.get(name, 0.0) for name, count in self.steered.items())
        )
        left_uj, left_ug = self.left(use, now_s)
        base_w = self._base_w(variants, use, now_s)
        mixes = []
        for left, costs in ((left_ug, g_per_j), (left_uj, [1.0] * len(g_per_j))):
            if left is None and (costs is not g_per_j or left_uj is not None):
                continue  # without any budget carbon is kept down
            ahead = [Ahead(count, cost) for count, cost in zip(expected, costs, strict=True)]
            whole = [self.rules.slot_s] * (len(costs) - 1)
            seconds = [self.ends_s - now_s - sum(whole), *whole]
            fixed = base_w * sum(second * cost for second, cost in zip(seconds, costs, strict=True))
            room, spread = None if left is None else left / 1e6, self.load.spread(SLOTS - len(expected))
            mixes.append(choose(variants, ahead, floors, done, room, fixed, spread))
        return min(mixes, key=lambda each: sum(share * worth[name] for name, share in each.shares.items()))

    def next_day(self, use: Use, now_s: float) -> None:
        """The day is over; `use` is all of it."""
        for name, tally in self._tallies.items():
            tally.known_j = _FORGET * tally.known_j + self._booked_j(name, use)
            tally.known = _FORGET * tally.known + tally.answers
            tally.heard, tally.heard_j = _FORGET * tally.heard, _FORGET * tally.heard_j
            tally.answers = tally.steered = 0.0
        was_whole = self.seen_s - self.start_s <= self.rules.slot_s and now_s - self.ends_s <= self.rules.slot_s
        (self.load.end_day if was_whole else self.load.forget_today)()
        self._base = Use()
        self.start_s, self.seen_s, self.refused = self.rules.start_s(now_s), now_s, 0

    def begin_at(self, use: Use) -> None:
        """Counting begins within a day of which the books know already."""
        self._base = use

    def _measured_j(self, name: str, use: Use) -> float | None:
        tally = self._tallies.get(name)
        if tally is None:
            return None
        answers = tally.answers + tally.known
        joules = self._booked_j(name, use) + tally.known_j
        if answers >= _SURE_ANSWERS and joules > 0:
            return joules / answers
        return tally.heard_j / tally.heard if tally.heard >= _SOME_ANSWERS and tally.heard_j > 0 else None

    def _booked_j(self, name: str, use: Use) -> float:
        """Of a version's requests since counting began."""
        return (use.requests_uj.get(name, 0) - self._base.requests_uj.get(name, 0)) / UJ_PER_J

    def _base_w(self, variants: tuple[Variant, ...], use: Use, now_s: float) -> float:
        """Of what is charged whoever answers: loads, warm time, and those who chose their variant themselves."""
        steered_j = sum(self.steered.get(each.name, 0.0) * (each.energy_j or 0.0) for each in variants)
        other_j = (use.energy_uj - self._base.energy_uj) / UJ_PER_J - steered_j
        return max(0.0, other_j) / max(now_s - self.seen_s, self.rules.slot_s)

    def _slot(self, now_s: float) -> tuple[int, float]:
        """The slot of an instant, and how much of it is over."""
        slots = min(max(0.0, (now_s - self.start_s) / self.rules.slot_s), SLOTS - 1e-9)
        return int(slots), slots - int(slots)


def _first(*values: float | None) -> float | None:
    return next((each for each in values if each is not None), None)
