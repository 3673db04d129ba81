"""What a process may spend: on credit, by what it was told, within what is left until it is told again."""

from collections import Counter

import pytest

from app.clock import ManualClock
from app.engine.purse import CREDIT_S, SILENT_S, Purse
from app.engine.spending_words import Offered, Told
from app.errors import OverQuota, Unavailable
from app.policy.spending import SpendingRules
from app.units import NS_PER_S

DAY_S = 86_400.0
NOON_S = 20_000 * DAY_S + DAY_S / 2
RULES = SpendingRules(gco2e_per_day=5)
OFFERED = (Offered("big", 0.9, None), Offered("small", 0.8, None))


def told(**changes) -> Told:
    known = {"shares": {"small": 0.75, "big": 0.25}, "why": "short", "spent": False, "ends_s": NOON_S + DAY_S / 2}
    return Told(**known | {"left_uj": None, "left_ugco2e": 1000.0} | changes)


@pytest.fixture
def clock():
    return ManualClock(wall_ns=round(NOON_S * NS_PER_S))


@pytest.fixture
def purse(clock):
    return Purse("digits", RULES, OFFERED, clock)


def test_before_it_was_told_the_best_answers_on_credit(purse, clock):
    assert purse.choose() == "big"
    clock.advance(round((CREDIT_S + 1) * NS_PER_S))
    with pytest.raises(Unavailable, match="not known yet"):
        purse.choose()


def test_turns_keep_to_the_shares_however_short_the_stretch(purse):
    purse.renew(told())
    names = [purse.choose() for _ in range(8)]
    assert [Counter(names[at : at + 4]) for at in (0, 4)] == [Counter(small=3, big=1)] * 2


def test_a_spent_budget_is_refused_until_the_day_ends_and_counted(purse, clock):
    purse.renew(told(spent=True))
    with pytest.raises(OverQuota, match="has used up its budget of 5 gCO2e a day; come again in 43200 s") as refused:
        purse.choose()
    assert (refused.value.retry_after_s, refused.value.is_spent) == (DAY_S / 2, True)
    assert purse.poll("me").refused == 1
    clock.advance(round(DAY_S / 2 * NS_PER_S))
    purse.check()  # another day


def test_what_is_spent_since_it_was_told_counts_until_it_is_told_again(purse):
    purse.poll("me")
    purse.renew(told())
    purse.charge("big", 50, 999.0)
    purse.check()
    purse.charge("big", 50, 1.0)
    with pytest.raises(OverQuota, match="at the end of its budget"):
        purse.check()
    purse.poll("me")
    purse.renew(told(left_ugco2e=10.0))
    purse.check()


def test_a_long_silence_is_no_licence(purse, clock):
    purse.renew(told())
    clock.advance(round((SILENT_S + 1) * NS_PER_S))
    with pytest.raises(Unavailable, match="cannot be found out"):
        purse.check()


def test_it_tells_who_answered_and_whose_choice_it_was(purse):
    purse.charge("big", 10, 1.0, steered=True)
    purse.charge("big", 20, 2.0)
    counted = purse.poll("me").counted["big"]
    assert (counted.answers, counted.steered, counted.energy_uj, counted.carbon_ugco2e) == (2, 1, 30, 3.0)
    alone = Purse("digits", RULES, OFFERED[:1], ManualClock())
    alone.charge("big", 10, 1.0)
    assert alone.poll("me").counted["big"].steered == 1  # there was no other
