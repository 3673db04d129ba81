"""Who answers: worked by hand, on two slots of which one is clean."""

import pytest

from app.errors import InvalidInput
from app.policy.variants import Ahead, Done, Floors, Variant, choose, hull

BEST, MIDDLE, CHEAP = Variant("best", 4.0, 0.9), Variant("middle", 2.0, 0.8), Variant("cheap", 1.0, 0.6)
ALL = (BEST, MIDDLE, CHEAP)
DIRTY_NOW = (Ahead(100.0, 2.0), Ahead(100.0, 1.0))
CLEAN_NOW = DIRTY_NOW[::-1]
"""The cheapest for all: 100 x 2 + 100 x 1 = 300. Steps: clean to middle 100 for 20 of quality, dirty to middle 200 for
20, clean to best 200 for 10, dirty to best 400 for 10."""


def test_better_answers_are_bought_where_carbon_is_least():
    mix = choose(ALL, DIRTY_NOW, Floors(), Done(), left=400.0)
    assert (mix.shares, mix.cost, mix.quality) == ({"cheap": 1.0}, pytest.approx(400), pytest.approx(0.7))
    assert choose(ALL, CLEAN_NOW, Floors(), Done(), left=400.0).shares == {"middle": 1.0}
    assert mix.price == pytest.approx(20 / 200)  # of the next one that it does not pay for


def test_the_last_one_bought_is_bought_in_part():
    # 500 pays for half of the dirty slot's step
    mix = choose(ALL, DIRTY_NOW, Floors(), Done(), left=500.0)
    assert mix.shares == {"cheap": pytest.approx(0.5), "middle": pytest.approx(0.5)}
    assert (mix.cost, mix.lasts) == (pytest.approx(500), 1.0)


def test_what_is_enough_for_the_best_buys_the_best_and_no_price_holds():
    mix = choose(ALL, DIRTY_NOW, Floors(), Done(), left=1200.0)
    assert (mix.shares, mix.price, mix.cost) == ({"best": 1.0}, 0.0, pytest.approx(1200))
    assert [(way.name, way.cost) for way in mix.ways] == [
        ("always best", pytest.approx(1200)),
        ("always middle", pytest.approx(600)),
        ("always cheap", pytest.approx(300)),
        ("the mix", pytest.approx(1200)),
    ]


def test_the_floor_of_the_mean_goes_before_the_budget_which_then_ends_sooner():
    # All are answered with 0.7 for 400. For 300, 100 clean and 60 dirty ones: 80 of the clean ones better, so that
    # 160 answers have 160 x 0.6 + 80 x 0.2 = 112 of quality; 100 + 120 + 80 of cost.
    mix = choose(ALL, CLEAN_NOW, Floors(mean=0.7), Done(), left=300.0)
    assert mix.shares == {"cheap": pytest.approx(0.2, rel=1e-3), "middle": pytest.approx(0.8, rel=1e-3)}
    assert (mix.cost, mix.quality, mix.lasts) == pytest.approx((300, 0.7, 160 / 200), rel=1e-3)
    assert mix.reasons[-1].startswith("the budget pays for 80%")


def test_what_was_answered_well_before_leaves_room_below_the_floor():
    mix = choose(ALL, CLEAN_NOW, Floors(mean=0.7), Done(100.0, 90.0), left=300.0)
    assert mix.shares == {"cheap": 1.0}  # (90 + 120) / 300 is 0.7


def test_without_a_budget_the_floor_is_kept_with_the_least_carbon():
    mix = choose(ALL, DIRTY_NOW, Floors(mean=0.75), Done(), left=None)
    assert mix.shares == {"cheap": pytest.approx(0.5), "middle": pytest.approx(0.5)}
    assert mix.quality == pytest.approx(0.75)
    assert choose(ALL, DIRTY_NOW, Floors(), Done(), left=None).shares == {"best": 1.0}


def test_a_variant_below_the_floor_of_each_answer_never_answers():
    assert choose(ALL, DIRTY_NOW, Floors(each=0.7), Done(), left=0.0).shares == {"middle": 1.0}
    with pytest.raises(InvalidInput, match="lower the floor"):
        choose(ALL, DIRTY_NOW, Floors(each=0.95), Done(), left=1.0)


def test_what_is_charged_whoever_answers_is_kept_back():
    assert choose(ALL, CLEAN_NOW, Floors(), Done(), left=400.0, fixed=100.0).shares == {"cheap": 1.0}


def test_only_what_is_worth_its_joules_is_on_the_hull():
    dearer, worse = Variant("as good, dearer", 5.0, 0.9), Variant("below the line", 3.0, 0.81)
    assert hull((dearer, worse, *ALL)) == (CHEAP, MIDDLE, BEST)
    assert hull((Variant("twin", 1.0, 0.5), CHEAP)) == (CHEAP,)


def test_what_is_not_measured_answers_a_few():
    mix = choose((MIDDLE, CHEAP, Variant("new", None, 0.7)), CLEAN_NOW, Floors(), Done(), left=400.0)
    assert mix.shares == {"middle": pytest.approx(0.8), "new": 0.2}
    assert choose((Variant("a", None, 0.7), Variant("b", None, 0.8)), CLEAN_NOW, Floors(), Done(), 1.0).shares == {
        "b": pytest.approx(0.8),
        "a": 0.2,
    }
