"""Cells: the power between readings. Readings every 100 ms; 100 W for 100 ms are 10,000,000 uJ."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.domain.reading import Delta, Device, DeviceKind, Grade
from app.ledger.cells import MAX_CELLS, Cells, Expected, cut, solve
from app.units import NS_PER_MS

GPU = Device("m", "b", "gpu", DeviceKind.GPU, "H100", Grade.COUNTER)
W = 1_000
FLOOR = Expected(50 * W)


def deltas(*energies_uj: int) -> list[Delta]:
    """Consecutive intervals of 100 ms."""
    return [Delta(GPU, n * 100 * NS_PER_MS, (n + 1) * 100 * NS_PER_MS, uj) for n, uj in enumerate(energies_uj)]


def cells(of: Sequence[Delta], *slices: tuple[float, float, int]) -> Cells:
    """Slices are (from_ms, to_ms, process)."""
    starts = np.array([round(s[0] * NS_PER_MS) for s in slices], np.int64)
    ends = np.array([round(s[1] * NS_PER_MS) for s in slices], np.int64)
    owners = np.array([s[2] for s in slices], np.int64)
    found = cut(of, starts, ends, owners, max((s[2] for s in slices), default=-1) + 1)
    assert found is not None
    return found


def energies(of: Cells, power_mw: np.ndarray) -> list[float]:
    """Energy of each delta by its cells."""
    return np.bincount(of.interval, power_mw * of.lengths_ns / 1e6).tolist()


def test_intervals_are_cut_where_slices_begin_and_end():
    found = cells(deltas(1, 1), (30, 130, 0), (60, 80, 1))
    assert (found.edges_ns / NS_PER_MS).tolist() == [0, 30, 60, 80, 100, 130, 200]
    assert found.interval.tolist() == [0, 0, 0, 0, 1, 1]
    assert found.working.tolist() == [[False, True, True, True, True, False], [False, False, True, False, False, False]]
    # only the reading at 100 ms cuts work that goes on; the run's start cuts what was before it
    assert found.joins.tolist() == [True, False, False, False, True, False]
    assert found.of_first() == 4


def test_a_slice_that_ends_with_a_reading_does_not_join_what_comes_after():
    assert cells(deltas(1, 1), (20, 100, 0)).joins.tolist() == [True, False, False]
    assert cells(deltas(1), (-50, 0, 0)).joins.tolist() == [False]


def test_too_many_edges_are_not_resolved():
    many = np.arange(MAX_CELLS + 2, dtype=np.int64) * 1_000 + 5
    assert cut(deltas(1), many, many + 7, np.zeros(len(many), np.int64), 1) is None


def test_only_as_much_is_looked_at_as_tells_something_of_the_first():
    found = cells(deltas(1, 1, 1, 1), (50, 150, 0), (350, 370, 0)).through_first_whole()
    assert (len(found.energy_uj), (found.edges_ns / NS_PER_MS).tolist()) == (3, [0, 50, 100, 150, 200, 300])


def test_a_whole_interval_has_its_mean_power():
    power_mw, told = solve(cells(deltas(10_000_000), (-10, 500, 0)), FLOOR)
    assert (power_mw.tolist(), told.tolist()) == ([100 * W], [1.0])


def test_a_lone_slice_has_what_the_floor_leaves():
    # 50 W for 60 ms and 200 W for 40 ms: 3,000,000 + 8,000,000 uJ
    found = cells(deltas(5_000_000, 11_000_000, 5_000_000), (130, 170, 0))
    power_mw, _ = solve(found, FLOOR)
    assert power_mw == pytest.approx([50 * W, 50 * W, 200 * W, 50 * W, 50 * W], rel=1e-4)


def test_without_a_floor_the_neighbours_tell_it():
    found = cells(deltas(5_000_000, 11_000_000, 5_000_000), (130, 170, 0))
    power_mw, _ = solve(found, Expected(0.0))
    assert power_mw[2] == pytest.approx(200 * W, rel=0.01)


def test_two_slices_in_a_row_keep_their_powers_by_what_lies_around_them():
    # 100 W until 250 ms, 300 W after it: 100, 200 and 300 W on the mean
    found = cells(deltas(10_000_000, 10_000_000, 20_000_000, 30_000_000), (0, 250, 0), (250, 400, 0))
    power_mw, told = solve(found, FLOOR)
    assert power_mw == pytest.approx([100 * W, 100 * W, 100 * W, 300 * W, 300 * W], rel=2e-3)
    assert told.min() > 0.99


def test_the_power_before_the_run_counts_where_the_work_went_on():
    # 50 ms of what went on before at 100 W, then 50 ms of something at 300 W
    found = cells(deltas(20_000_000), (-80, 50, 0), (50, 100, 0))
    power_mw, _ = solve(found, replace(FLOOR, left_mw=100.0 * W))
    assert power_mw == pytest.approx([100 * W, 300 * W], rel=0.01)


def test_known_draws_tell_two_processes_apart():
    # 30 ms of one alone, 70 ms of both
    found = cells(deltas(3 * (50 + 100) * 10_000 + 7 * (50 + 100 + 200) * 10_000), (0, 100, 0), (30, 100, 1))
    drawn, spread = np.array([100.0 * W, 300.0 * W]), np.array([1.0 * W, 1.0 * W])
    power_mw, _ = solve(found, Expected(50 * W, None, drawn, spread))
    assert power_mw == pytest.approx([150 * W, 350 * W], rel=1e-3)


@pytest.mark.parametrize("energy_uj", [0, 1, 1_000, 30_000_000])
def test_cells_add_up_to_the_reading_and_are_never_negative(energy_uj: int):
    of = deltas(energy_uj, 0, 3 * energy_uj)
    found = cells(of, (10, 20, 0), (20, 90, 1), (95, 210, 0))
    power_mw, _ = solve(found, Expected(80 * W, 500 * W))
    assert power_mw.min() >= 0
    reached = energies(found, power_mw)
    assert reached[0] == pytest.approx(energy_uj, abs=1e-3)
    assert reached[2] == pytest.approx(3 * energy_uj, abs=1e-3)
