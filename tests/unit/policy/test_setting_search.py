"""Which setting runs next, when knowledge is doubted, and when a slow epoch can be afforded."""

import pytest

from app.policy.setting_search import SETTLED_EVERY, Doubts, Room, SettingSearch
from app.policy.setting_table import SettingTable, Tally

LINE = {1: (2,), 2: (1, 3), 3: (2, 4), 4: (3,)}


def table_of(*measured):
    """(setting, cost, late of 100 answers), in the order of the epochs; 10 of 100 may be late."""
    table = SettingTable(0.1)
    for epoch, (setting, cost_uj, late) in enumerate(measured, 1):
        table.learn(setting, epoch, cost_uj, late, 100)
    return table


def chosen(table, current, *, has_room=True, closed=()):
    search = SettingSearch(table, LINE, eagerness=lambda setting: (setting,))
    return search.choose(current, table, has_room=has_room, closed=lambda setting: setting in closed).setting


def test_nothing_measured_is_no_choice():
    table = SettingTable(0.1)
    assert SettingSearch(table, LINE, lambda setting: (setting,)).choose(2, table, has_room=True, closed=bool) is None


def test_an_unknown_neighbour_of_the_best_is_tried_then_the_best_again():
    table = table_of((2, 100, 0))
    assert chosen(table, 2) == 3
    assert chosen(table, 2, closed={3}) == 1
    assert chosen(table, 2, has_room=False) == 2
    assert chosen(table_of((2, 100, 0), (3, 150, 0)), 3) == 2


def test_the_cheapest_that_meets_is_the_best_and_one_that_misses_is_not_tried_again():
    table = table_of((1, 200, 0), (2, 100, 0), (3, 50, 90))
    assert chosen(table, 2) == 2
    assert chosen(table, 3) == 2


def test_while_the_best_misses_the_unknown_is_tried_without_going_back():
    table = table_of((2, 100, 60), (3, 100, 50))
    assert chosen(table, 2) == 4
    # Everything is known: the least late stays.
    table = table_of((1, 100, 60), (2, 100, 50), (3, 100, 70), (4, 100, 80))
    assert chosen(table, 1) == 2


def test_while_nothing_is_known_to_meet_the_unsure_are_measured_further():
    # 9 of 100 late, give or take 2.9: neither meets nor misses.
    table = table_of((1, 100, 9), (2, 100, 60), (3, 90, 8), (4, 100, 60))
    assert chosen(table, 3) == 1


def test_of_several_that_may_be_cheaper_the_one_measured_longest_ago_comes_first():
    near = {1: (2, 3), 2: (1,), 3: (1,)}
    table = table_of((2, 80, 9), (3, 60, 9), (1, 100, 0))  # 2 and 3 are unsure, and cheaper
    search = SettingSearch(table, near, eagerness=lambda setting: (setting,))
    assert search.choose(1, table, has_room=True, closed=lambda setting: False).setting == 2
    table.learn(2, 9, 80, 9, 100)
    assert search.choose(1, table, has_room=True, closed=lambda setting: False).setting == 3


def test_once_settled_a_neighbour_is_looked_at_now_and_then():
    table = table_of((2, 100, 0), (1, 200, 0), (3, 200, 0))
    search = SettingSearch(table, LINE, eagerness=lambda setting: (setting,))
    settings = [
        search.choose(2, table, has_room=True, closed=lambda setting: False).setting for _ in range(SETTLED_EVERY)
    ]
    assert settings == [2] * (SETTLED_EVERY - 1) + [1]


def test_room_is_what_answers_in_time_have_left():
    room = Room(0.1, epoch_answers=50)  # 5 late answers an epoch; two epochs' worth are wanted
    room.add(0, 99)
    assert not room.enough
    room.add(0, 1)
    assert room.enough
    room.add(6, 50)  # one more than allowed
    assert not room.enough


@pytest.mark.parametrize(("pace", "doubted"), [(1.3, None), (1.5, 1.5), (0.5, 0.5)])
def test_a_pace_that_changed_twice_in_a_row_is_a_changed_world(pace, doubted):
    table = table_of((2, 100, 0))
    doubts = Doubts(table, most_change=1.4)
    doubts.weigh(2, 100, 1.0)
    assert doubts.weigh(2, 100, pace) is None
    assert doubts.weigh(2, 100, pace) == doubted
    # Of 100 answers, the hint of 10 is left.
    assert table[2].tally.answers == (100 if doubted is None else pytest.approx(10))


def test_a_cost_that_changed_twice_in_a_row_moves_all_costs():
    table = table_of((2, 100, 0), (3, 200, 0))
    doubts = Doubts(table, most_change=1.4)
    for cost_uj in (100, 300, 300):
        doubts.weigh(2, cost_uj, 1.0)
    assert (table[2].cost_uj, table[3].cost_uj) == (300, 600)


def test_shares_are_judged_with_their_doubt():
    # 7 of 100: 2.6 standard error. 7 + 2.6 <= 10; 16 - 2 x 3.7 <= 10 < 18 - 2 x 3.8.
    assert Tally(7, 100).within(0.1)
    assert not Tally(8, 100).within(0.1)
    assert not Tally(16, 100).beyond(0.1)
    assert Tally(18, 100).beyond(0.1)
