"""A day of polls at the desk of budgets: the budget holds, the clean hours get the better answers, records tell why."""

from collections import Counter
from pathlib import Path

import pytest

from app.clock import ManualClock
from app.engine.decision_files import choices_in
from app.engine.outlook import look_ahead
from app.engine.purse import Purse
from app.engine.spending_desk import SpendingDesk
from app.engine.spending_words import Offered, SpendingPoll, Use
from app.errors import InvalidInput, OverQuota
from app.policy.spending import SpendingRules
from app.units import NS_PER_S
from tests.fixtures.paper_grid import PaperGrid

DAY_S, HOUR_S = 86_400.0, 3_600.0
MIDNIGHT_S = 20_000 * DAY_S
CLEAN_AT_NOON = (500.0,) * 10 + (50.0,) * 6 + (500.0,) * 8
JOULES = {"big": 4.0, "small": 1.0}
A_STEP = 5
"""Answers in ten minutes: 720 a day, 540 of them in dirty hours. All small take 540 J at 500 and 180 J at 50 g/kWh,
77.5 mg; all big at noon 75 + 10 mg; all big 310 mg."""


class World:
    """One replica whose answers are on the books at once."""

    def __init__(self, directory: Path, rules: SpendingRules) -> None:
        self.clock = ManualClock(wall_ns=round(MIDNIGHT_S * NS_PER_S))
        self.grid = PaperGrid(MIDNIGHT_S - 7 * DAY_S, HOUR_S, CLEAN_AT_NOON * 10, self.clock)
        self.rules, self.directory = rules, directory
        self.work: list[tuple[float, str, float]] = []
        self.asked = self.refused = 0
        self.purse = self.begin()
        self.desk = self.open()

    def begin(self) -> Purse:
        return Purse("digits", self.rules, (Offered("big", 0.9), Offered("small", 0.8)), self.clock)

    def open(self) -> SpendingDesk:
        def look(now_s: float, until_s: float):
            return look_ahead(self.grid.average(), now_s, until_s)

        return SpendingDesk(self.directory, self.used, look, self.clock, unsettled_s=0.0)

    @property
    def now_s(self) -> float:
        return self.clock.wall_ns() / NS_PER_S

    def used(self, model: str, since_s: float) -> Use:
        mine = [(joules, g, name) for at_s, name, joules in self.work if at_s >= since_s for g in (self.g(at_s),)]
        requests: Counter[str] = Counter()
        for joules, _, name in mine:
            requests[name] += round(joules * 1e6)
        return Use(sum(requests.values()), sum(joules * g / 3.6 for joules, g, _ in mine), requests)

    def g(self, at_s: float) -> float:
        return CLEAN_AT_NOON[int(at_s % DAY_S // HOUR_S)]

    def poll(self, who: str = "one") -> SpendingPoll:
        return self.purse.poll(who)

    def live(self, hours: float) -> list[Counter[str]]:
        """By hour, who answered."""
        found = []
        for step in range(round(hours * 6)):
            self.purse.renew(self.desk.answer(self.poll()))
            if step % 6 == 0:
                found.append(Counter[str]())
            for _ in range(A_STEP):
                self.asked += 1
                try:
                    name = self.purse.choose()
                except OverQuota:
                    self.refused += 1
                    continue
                found[-1][name] += 1
                self.work.append((self.now_s, name, JOULES[name]))
                joules = JOULES[name]
                self.purse.charge(name, round(joules * 1e6), joules * self.g(self.now_s) / 3.6, steered=True)
            self.clock.advance(round(600 * NS_PER_S))
        return found

    def grams(self, day: int) -> float:
        """Emitted on a day."""
        begin_s = MIDNIGHT_S + day * DAY_S
        return sum(j * self.g(at_s) / 3.6e6 for at_s, _, j in self.work if begin_s <= at_s < begin_s + DAY_S)

    def records(self):
        return choices_in(self.directory / "decisions" / "digits")


def test_a_budget_buys_the_better_answers_at_the_clean_hours(tmp_path):
    world = World(tmp_path, SpendingRules(gco2e_per_day=0.100))
    world.live(24)  # it learns what answers take, and the load
    world.refused = 0
    second = world.live(24)
    assert world.refused == 0
    assert world.grams(1) <= 0.100
    noon, night = sum(second[10:16], Counter()), sum(second[17:23], Counter())
    assert noon["small"] == 0
    assert night["big"] <= 0.25 * night["small"]
    # 85 mg with all of noon big: the rest buys 15 mg of big answers, 36 of the dirty hours' 540, less by its reserve
    assert world.grams(1) >= 0.080


def test_a_budget_that_cannot_do_refuses_until_the_day_ends_and_says_so(tmp_path):
    world = World(tmp_path, SpendingRules(gco2e_per_day=0.020))
    world.live(24)
    assert world.grams(0) <= 0.020 + A_STEP * 4 * 500 / 3.6e6  # what one poll lets pass
    told = world.desk.answer(world.poll())
    assert (told.spent, told.ends_s) == (False, MIDNIGHT_S + 2 * DAY_S)  # another day
    refused = [each for each in world.records().values() if each.action.startswith("refuse")]
    assert "is spent: 429 until the day ends" in refused[0].reasons[0]
    ended = [each for each in world.records().values() if each.about is not None]
    facts = {fact.name: fact.value for fact in ended[0].facts}
    assert facts["refused"] > 0
    assert facts["answers"] + facts["refused"] == pytest.approx(world.asked, abs=A_STEP)  # the last poll's came later


def test_a_record_says_what_was_known_what_else_could_be_done_and_what_came_of_it(tmp_path):
    world = World(tmp_path, SpendingRules(gco2e_per_day=0.100, mean_quality=0.81))
    world.live(25)
    records = world.records()
    chosen = [each for each in records.values() if each.courses and each.courses[-1].carbon_g]
    assert {course.name for course in chosen[-1].courses} == {"always big", "always small", "the mix"}
    assert {"budget of the day", "floor of the mean", "grid now", "answers to come"} <= {
        f.name for f in chosen[-1].facts
    }
    ended = next(each for each in records.values() if each.about is not None)
    small = next(fact.value for fact in ended.facts if fact.name == "answers of small")
    assert ended.about == 1
    assert ended.realised.energy_j == pytest.approx(small * 3.0, rel=0.03)  # 4 J of a big one, 1 J of a small one
    assert ended.realised.against == "always big"


def test_a_restarted_desk_knows_the_load_and_what_was_spent(tmp_path):
    world = World(tmp_path, SpendingRules(gco2e_per_day=0.100))
    world.live(36)
    before = world.desk.answer(world.poll())
    world.desk = world.open()
    world.purse = world.begin()  # the replica begins anew, too
    after = world.desk.answer(world.poll("another"))
    assert after.left_ugco2e == pytest.approx(before.left_ugco2e)
    model = world.desk._models["digits"]
    assert sum(model.day.expected(world.now_s)) == pytest.approx(360, rel=0.1)


def test_what_is_left_is_divided_among_the_processes_that_are_there(tmp_path):
    world = World(tmp_path, SpendingRules(joules_per_day=100.0))
    alone = world.desk.answer(world.poll("one"))
    both = world.desk.answer(world.poll("two"))
    assert (alone.left_uj, both.left_uj, both.left_ugco2e) == (100e6, 50e6, None)


def test_joules_are_a_budget_of_their_own_and_hours_are_alike(tmp_path):
    world = World(tmp_path, SpendingRules(joules_per_day=1500.0))
    world.live(48)
    assert sum(j for at_s, _, j in world.work if at_s >= MIDNIGHT_S + DAY_S) <= 1500.0
    assert world.refused == 0


def test_a_choice_needs_to_know_what_answers_are_worth(tmp_path):
    world = World(tmp_path, SpendingRules(gco2e_per_day=1.0))
    poll = SpendingPoll("one", "digits", world.rules, (Offered("big", 0.9), Offered("small")))
    with pytest.raises(InvalidInput, match="answers of small are worth"):
        world.desk.answer(poll)
