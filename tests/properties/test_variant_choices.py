"""The mix is the optimum of the linear programme, whatever variants, grid, load and budget: HiGHS says the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from app.policy.variants import Ahead, Done, Floors, Variant, choose

amounts = st.floats(0.01, 10.0)
variants = st.lists(st.tuples(amounts, st.floats(0.0, 1.0)), min_size=1, max_size=4).map(
    lambda found: tuple(Variant(f"v{number}", *each) for number, each in enumerate(found))
)
slots = st.lists(st.tuples(st.floats(1.0, 50.0), amounts), min_size=1, max_size=5).map(
    lambda found: tuple(Ahead(*each) for each in found)
)


def optimum(variants, slots, left, mean):
    """Least cost where there is no budget, else most quality; every answer is given. None: it cannot be."""
    answers = np.array([slot.answers for slot in slots])
    cost = np.array([slot.answers * slot.cost_per_j * each.energy_j for slot in slots for each in variants])
    worth = np.array([slot.answers * each.quality for slot in slots for each in variants])
    ways = len(variants)
    all_of_it = np.kron(np.eye(len(slots)), np.ones(ways))
    rows, room = [], []
    if mean is not None:
        rows.append(-worth)
        room.append(-mean * answers.sum() + 1e-9)
    if left is not None:
        rows.append(cost)
        room.append(left)
    found = linprog(
        cost if left is None and mean is not None else -worth,
        A_ub=np.array(rows) if rows else None,
        b_ub=room or None,
        A_eq=all_of_it,
        b_eq=np.ones(len(slots)),
        bounds=(0, 1),
        method="highs",
    )
    return (cost @ found.x, worth @ found.x / answers.sum()) if found.status == 0 else None


@settings(deadline=None, max_examples=60)
@given(variants, slots, st.floats(0.0, 1.5))
def test_quality_is_the_most_that_a_budget_buys(variants, slots, part):
    dearest = max(each.energy_j for each in variants) * sum(each.answers * each.cost_per_j for each in slots)
    mix = choose(variants, slots, Floors(), Done(), part * dearest)
    best = optimum(variants, slots, part * dearest, None)
    if best is None:
        assert mix.lasts < 1
        return
    assert mix.cost <= part * dearest * (1 + 1e-9)
    assert mix.quality == pytest.approx(best[1], abs=1e-6)
    assert sum(mix.shares.values()) == pytest.approx(1)


@settings(deadline=None, max_examples=60)
@given(variants, slots, st.floats(0.0, 1.0))
def test_a_floor_costs_the_least_that_it_can(variants, slots, part):
    worths = [each.quality for each in variants]
    mean = min(worths) + part * (max(worths) - min(worths))
    mix = choose(variants, slots, Floors(mean=mean), Done(), None)
    best = optimum(variants, slots, None, mean)
    assert best is not None
    assert mix.quality >= mean - 1e-6
    assert mix.cost == pytest.approx(best[0], rel=1e-4, abs=1e-6)
