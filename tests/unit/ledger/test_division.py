"""Division of one delta by its cells, worked by hand. 100 ms at 100 W are 10,000,000 uJ."""

import numpy as np
import pytest

from app.domain.account import FOREIGN, IDLE_WATCHED, Account, warm_account
from app.domain.reading import Delta, Device, DeviceKind, Grade
from app.ledger.attribution import NOBODY, Attribution, Claim, Others
from app.ledger.division import Profile, divide
from app.units import NS_PER_MS

A, B = warm_account("a", "1"), warm_account("b", "1")
GPU = Device("m", "b", "gpu", DeviceKind.GPU, "H100", Grade.COUNTER)
W = 1_000


def claim(resident: Account, *slices: tuple[float, float, float], share: float = 1.0, **more: object) -> Claim:
    """Slices are (from_ms, to_ms, weight)."""
    starts = np.array([round(s[0] * NS_PER_MS) for s in slices], np.int64)
    ends = np.array([round(s[1] * NS_PER_MS) for s in slices], np.int64)
    used = more.pop("used", None)
    return Claim(resident, share, used, starts, ends, np.array([s[2] for s in slices], np.float64), **more)  # type: ignore[arg-type]


def profile(*cells: tuple[float, float], lowest: float = 0.0, highest: float = 0.0, blur_ms: int = 0) -> Profile:
    """Cells are (length in ms, watts); the limits are watts."""
    edges = np.cumsum([0, *(length for length, _ in cells)]) * NS_PER_MS
    limits = (np.full(len(cells), lowest * W), np.full(len(cells), highest * W)) if highest else (None, None)
    power = np.array([watts * W for _, watts in cells], np.float64)
    return Profile(edges.astype(np.int64), power, 50 * W, *limits, blur_ns=blur_ms * NS_PER_MS)


def divided(of: Profile, *claims: Claim, others: Others | None = None) -> Attribution:
    delta = Delta(GPU, int(of.edges_ns[0]), int(of.edges_ns[-1]), round(float(of.energy_uj.sum())))
    result = divide(delta, of, claims, others or Others())
    assert result.total_uj == delta.energy_uj
    return result


def sliced(result: Attribution) -> list[list[int]]:
    return [parts.tolist() for parts in result.by_slice]


def test_each_slice_gets_the_energy_of_its_own_cells():
    result = divided(profile((50, 100), (50, 300)), claim(A, (-30, 50, 1), (50, 120, 1)))
    assert sliced(result) == [[5_000_000, 15_000_000]]
    assert result.covered_ns == 100 * NS_PER_MS


def test_uncovered_cells_are_the_residents_and_idle():
    result = divided(profile((50, 60), (50, 300)), claim(A, (50, 100, 1), share=0.25))
    assert sliced(result) == [[15_000_000]]
    assert result.by_account == {A: 750_000, IDLE_WATCHED: 2_250_000}


def test_within_a_process_weights_share_a_cell():
    result = divided(profile((40, 100), (60, 200)), claim(A, (0, 100, 3), (40, 100, 1)))
    assert sliced(result) == [[4_000_000 + 9_000_000, 3_000_000]]


def test_processes_share_a_cell_by_utilisation():
    both = claim(A, (0, 100, 1), used=0.75), claim(B, (50, 100, 1), used=0.25)
    assert sliced(divided(profile((50, 100), (50, 200)), *both)) == [[5_000_000 + 7_500_000], [2_500_000]]


def test_without_utilisation_processes_share_by_what_they_draw():
    both = claim(A, (0, 100, 1), draw_mw=150.0 * W), claim(B, (0, 100, 1), used=0.9, draw_mw=50.0 * W)
    assert sliced(divided(profile((100, 200)), *both)) == [[15_000_000], [5_000_000]]


def test_without_either_processes_share_equally():
    both = claim(A, (0, 100, 9), draw_mw=150.0 * W), claim(B, (0, 100, 1))
    assert sliced(divided(profile((100, 200)), *both)) == [[10_000_000], [10_000_000]]


def test_processes_that_work_and_were_never_busy_share_equally():
    both = claim(A, (0, 100, 1), used=0.0), claim(B, (0, 100, 1), used=0.0)
    assert sliced(divided(profile((100, 200)), *both)) == [[10_000_000], [10_000_000]]


def test_instances_of_a_partitioned_accelerator_share_by_what_they_can_use():
    both = (
        claim(A, (0, 100, 1), share=0.25, compute_share=0.75, apportioned=True),
        claim(B, (50, 100, 1), share=0.25, compute_share=0.25, apportioned=True),
    )
    result = divided(profile((50, 200), (50, 200)), *both)
    assert sliced(result) == [[10_000_000 + 7_500_000], [2_500_000]]
    idle = divided(profile((100, 200)), *(claim(x.resident, share=0.25, apportioned=True) for x in both))
    assert (idle.by_account, idle.apportioned) == ({IDLE_WATCHED: 10_000_000}, {A: 5_000_000, B: 5_000_000})


def test_a_foreign_process_pays_above_the_floor_and_its_part_of_cells():
    result = divided(profile((50, 150), (50, 200)), claim(A, (50, 100, 1), used=0.5), others=Others(foreign=0.5))
    # 50 ms x 100 W above the floor of 50 W, and half of 50 ms x 200 W
    assert result.by_account == {A: 2_500_000, FOREIGN: 5_000_000 + 5_000_000}
    assert sliced(result) == [[5_000_000]]


def test_nobody_to_compare_a_foreign_process_with_leaves_it_out():
    result = divided(profile((100, 200)), claim(A, (0, 100, 1)), others=Others(foreign=0.5))
    assert result.by_account == {}


def test_who_covers_the_whole_interval_alone_is_in_no_doubt():
    assert divided(profile((100, 200), lowest=50, highest=400), claim(A, (0, 100, 1))).doubt_uj == {}


def test_the_doubt_is_what_the_limits_of_power_leave():
    # 20 J/1000 of two halves between 100 and 300 W: each may have 5 to 15 of them, and is taken to have 8 and 12
    of = profile((50, 160), (50, 240), lowest=100, highest=300)
    result = divided(of, claim(A, (0, 50, 1), (50, 100, 1), owners=np.array([4, 9])))
    assert result.doubt_uj == {(0, 4): (15 - 8) * 1_000_000, (0, 9): (12 - 5) * 1_000_000}


def test_unsure_instants_add_to_the_doubt():
    sure, unsure = (
        divided(profile((50, 100), (50, 300), lowest=100, highest=300, blur_ms=blur), claim(A, (50, 100, 1))).doubt_uj
        for blur in (0, 10)
    )
    assert sure is not None
    assert unsure is not None
    assert unsure[0, 0] - sure.get((0, 0), 0) == 2_000_000  # 10 ms x 200 W


def test_processes_that_nothing_tells_apart_are_in_doubt_by_all_they_share():
    result = divided(profile((100, 200), lowest=50, highest=400), claim(A, (0, 100, 1)), claim(B, (0, 100, 1)))
    assert result.doubt_uj == {(0, 0): 10_000_000, (1, 0): 10_000_000}


def test_known_draws_narrow_that_doubt():
    known = {"draw_mw": 100.0 * W, "draw_spread_mw": 2.0 * W}
    of = profile((100, 200), lowest=50, highest=400)
    result = divided(of, claim(A, (0, 100, 1), **known), claim(B, (0, 100, 1), **known))
    assert result.doubt_uj == {(0, 0): 600_000, (1, 0): 600_000}  # three spreads of 2 W over 100 ms


def test_idle_is_in_doubt_like_the_rest():
    result = divided(profile((50, 50), (50, 250), lowest=40, highest=300), claim(A, (50, 100, 1), share=0.0))
    assert result.doubt_uj is not None
    assert result.doubt_uj[NOBODY, NOBODY] == result.doubt_uj[0, 0]


@pytest.mark.parametrize("slices", [((80, 20, 9),), ((0, 100, 1), (100, 200, 5)), ((-9, 0, 5), (10, 90, 1e-9))])
def test_odd_slices_do_no_harm(slices: tuple[tuple[float, float, float], ...]):
    divided(profile((10, 70), (80, 90), (10, 80), lowest=50, highest=100), claim(A, *slices))
