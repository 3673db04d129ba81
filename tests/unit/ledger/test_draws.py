"""What processes draw, told apart from what they draw together."""

import numpy as np
import pytest

from app.ledger.draws import MAX_PROCESSES, Draws


def test_nobody_is_known_at_first():
    means, _ = Draws().known(["a"])
    assert np.isnan(means).tolist() == [True]


def test_a_process_that_worked_alone_is_known():
    draws = Draws()
    draws.observe(["a"], 200_000.0)
    assert draws.known(["a"])[0] == pytest.approx([200_000.0], rel=1e-3)


def test_two_that_never_worked_alone_are_known_only_together():
    draws = Draws()
    for _ in range(50):
        draws.observe(["a", "b"], 300_000.0)
    assert np.isnan(draws.known(["a", "b"])[0]).all()
    together, spread = draws.together(["a", "b"], np.array([[True], [True]]))
    assert together == pytest.approx([300_000.0], rel=1e-2)
    assert spread[0] < 20_000


def test_the_second_is_what_the_first_leaves():
    draws = Draws()
    for _ in range(5):
        draws.observe(["a", "b"], 300_000.0)
    draws.observe(["a"], 200_000.0)
    assert draws.known(["a", "b"])[0] == pytest.approx([200_000.0, 100_000.0], rel=0.02)


def test_a_change_is_followed():
    draws = Draws()
    for _ in range(100):
        draws.observe(["a"], 200_000.0)
    for _ in range(40):
        draws.observe(["a"], 100_000.0)
    assert draws.known(["a"])[0] == pytest.approx([100_000.0], rel=0.05)


def test_a_doubtful_measurement_moves_little():
    draws = Draws()
    for _ in range(10):
        draws.observe(["a"], 200_000.0)
    draws.observe(["a"], 100_000.0, variance=1e12)
    assert draws.known(["a"])[0] == pytest.approx([200_000.0], rel=0.01)


def test_one_unknown_process_makes_its_cells_unknown():
    draws = Draws()
    draws.observe(["a"], 200_000.0)
    means, _ = draws.together(["a", "x"], np.array([[True, True], [False, True]]))
    assert np.isnan(means).tolist() == [False, True]


def test_the_oldest_of_too_many_is_forgotten():
    draws = Draws()
    for n in range(MAX_PROCESSES + 1):
        draws.observe([str(n)], 100_000.0 + n)
    means, _ = draws.known(["0", "1", str(MAX_PROCESSES)])
    assert np.isnan(means).tolist() == [True, False, False]
