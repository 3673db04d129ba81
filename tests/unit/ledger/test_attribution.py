"""Attribution: one delta divided by hand. 100 ms at 300 W are 30,000,000 uJ."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.domain.account import FOREIGN, GAP, IDLE_UNWATCHED, IDLE_WATCHED, SYSTEM, Account, job_account, warm_account
from app.domain.reading import Delta, DeltaKind, Device, DeviceKind, Grade
from app.ledger.attribution import Attribution, Claim, Others, attribute
from app.units import NS_PER_MS

A, B = warm_account("a", "1"), warm_account("b", "1")
GPU = Device("m", "b", "gpu", DeviceKind.GPU, "H100", Grade.COUNTER)
CPU = Device("m", "b", "cpu", DeviceKind.CPU, "Xeon", Grade.MODELLED)
E_UJ = 30_000_000


def delta(device: Device = GPU, kind: DeltaKind = DeltaKind.NORMAL, energy_uj: int = E_UJ) -> Delta:
    return Delta(device, 0, 100 * NS_PER_MS, energy_uj, kind)


def claim(
    resident: Account, *slices: tuple[float, float, float], used: float | None = None, share: float = 1.0
) -> Claim:
    """Slices are (from_ms, to_ms, weight)."""
    starts = np.array([round(s[0] * NS_PER_MS) for s in slices], np.int64)
    ends = np.array([round(s[1] * NS_PER_MS) for s in slices], np.int64)
    return Claim(resident, share, used, starts, ends, np.array([s[2] for s in slices], np.float64))


def sliced(result: Attribution) -> list[list[int]]:
    return [parts.tolist() for parts in result.by_slice]


def divided(
    claims: Sequence[Claim], of: Delta | None = None, others: Others | None = None, floor_mw: float = 0, **more: float
) -> Attribution:
    of = of or delta()
    result = attribute(of, claims, others or Others(), floor_mw, **more)
    assert result.total_uj == of.energy_uj
    return result


# Time that no slice covers


def test_an_empty_device_is_idle_and_watched():
    assert divided([]).by_account == {IDLE_WATCHED: E_UJ}


def test_a_resident_without_work_pays_its_share_and_the_rest_is_idle():
    result = divided([claim(A, share=0.25)], floor_mw=300_000)
    assert result.by_account == {A: 7_500_000, IDLE_WATCHED: 22_500_000}


def test_shares_beyond_the_device_are_scaled_down():
    result = divided([claim(A), claim(B, share=0.5)], floor_mw=300_000)
    assert result.by_account == {A: 20_000_000, B: 10_000_000}


def test_energy_above_the_floor_that_nobody_explains_counts_as_uncovered_time():
    assert divided([claim(A)], floor_mw=50_000).by_account == {A: E_UJ}


# One working process


def test_a_slice_over_the_whole_interval_gets_all_of_it_floor_included():
    result = divided([claim(A, (0, 100, 1))], floor_mw=50_000)
    assert (sliced(result), result.by_account) == ([[E_UJ]], {})


def test_a_slice_over_half_the_interval_gets_all_but_the_floor_of_the_other_half():
    # floor 50 W x 50 ms = 2.5 J/1000 = 2,500,000 uJ of warm; the slice gets the rest
    result = divided([claim(A, (50, 100, 1))], floor_mw=50_000)
    assert sliced(result) == [[27_500_000]]
    assert result.by_account == {A: 2_500_000}
    assert result.covered_ns == 50 * NS_PER_MS


def test_the_floor_takes_no_more_than_there_is():
    result = divided([claim(A, (50, 100, 1))], delta(energy_uj=1_000_000), floor_mw=50_000)
    assert (sliced(result), result.by_account) == ([[0]], {A: 1_000_000})


def test_two_slices_two_to_one_over_half_the_interval_share_by_weight():
    result = divided([claim(A, (0, 50, 2), (0, 50, 1))], floor_mw=60_000)
    assert sliced(result) == [[18_000_000, 9_000_000]]
    assert result.by_account == {A: 3_000_000}


def test_slices_one_after_the_other_share_by_time_whatever_their_weights():
    assert sliced(divided([claim(A, (0, 25, 100), (25, 100, 1))])) == [[7_500_000, 22_500_000]]


def test_slices_that_overlap_in_part_share_only_that_part():
    # 0..40 alone, 40..80 shared 3:1, 80..100 alone: 40 + 30 = 70 and 10 + 20 = 30 of 100 ms
    assert sliced(divided([claim(A, (0, 80, 3), (40, 100, 1))])) == [[21_000_000, 9_000_000]]


def test_slices_reach_beyond_the_interval_on_both_sides():
    open_slice = (-500, 10**6, 1)
    assert sliced(divided([claim(A, open_slice, (0, 100, 1))])) == [[15_000_000, 15_000_000]]


def test_a_slice_outside_the_interval_gets_nothing():
    assert sliced(divided([claim(A, (0, 100, 1), (100, 200, 5), (-9, 0, 5))])) == [[E_UJ, 0, 0]]


def test_a_slice_that_ends_before_it_begins_gets_nothing():
    assert sliced(divided([claim(A, (0, 100, 1), (80, 20, 9))])) == [[E_UJ, 0]]


def test_tiny_and_huge_weights_live_together():
    assert sliced(divided([claim(A, (0, 100, 1e18), (0, 100, 1e-9))])) == [[E_UJ, 0]]


# Several processes on an accelerator


def test_processes_share_an_accelerator_by_their_utilisation():
    result = divided([claim(A, (0, 100, 1), used=0.6), claim(B, (0, 100, 1), used=0.2)])
    assert sliced(result) == [[22_500_000], [7_500_000]]


def test_without_utilisation_of_one_of_them_processes_share_by_slice_time():
    result = divided([claim(A, (0, 100, 1), used=0.9), claim(B, (0, 50, 1))], others=Others(foreign=0.5))
    assert sliced(result) == [[20_000_000], [10_000_000]]
    assert result.by_account == {}


def test_weights_of_different_processes_do_not_compare():
    assert sliced(divided([claim(A, (0, 100, 1000)), claim(B, (0, 100, 1))])) == [[15_000_000], [15_000_000]]


def test_a_foreign_process_gets_its_part_by_utilisation():
    result = divided([claim(A, (0, 100, 1), used=0.25)], others=Others(foreign=0.75))
    assert (sliced(result), result.by_account) == ([[7_500_000]], {FOREIGN: 22_500_000})


def test_a_foreign_process_alone_gets_what_is_above_the_floor():
    result = divided([claim(A)], others=Others(foreign=0.5), floor_mw=100_000)
    assert result.by_account == {A: 10_000_000, FOREIGN: 20_000_000}


def test_utilisation_of_a_process_without_a_slice_explains_nothing():
    result = divided([claim(A, (0, 100, 1), used=0.1), claim(B, used=0.9)])
    assert (sliced(result), result.by_account) == ([[E_UJ], []], {})


def test_working_processes_that_were_never_busy_share_by_slice_time():
    result = divided([claim(A, (0, 100, 1), used=0.0), claim(B, (0, 50, 1), used=0.0)])
    assert sliced(result) == [[20_000_000], [10_000_000]]


# The host


def test_a_host_device_goes_by_cpu_time_of_ours_of_ray_and_of_the_others():
    result = divided([claim(A, (0, 100, 1), used=30.0)], delta(CPU), Others(system=10, foreign=20))
    assert sliced(result) == [[15_000_000]]
    assert result.by_account == {SYSTEM: 5_000_000, FOREIGN: 10_000_000}


def test_cpu_time_outside_slices_is_the_residents():
    result = divided([claim(A, (0, 100, 1), used=30.0), claim(B, used=10.0)], delta(CPU))
    assert (sliced(result), result.by_account) == ([[22_500_000], []], {B: 7_500_000})


def test_a_host_with_nobody_busy_gives_its_slices_their_time():
    assert sliced(divided([claim(A, (0, 50, 1), used=0.0)], delta(CPU))) == [[E_UJ]]


def test_a_job_without_a_slice_pays_from_its_own_account():
    job = job_account("default", "j", 1)
    assert divided([claim(job, used=5.0)], delta(CPU), floor_mw=100_000).by_account == {job: E_UJ}


# Nobody watched


def test_a_cleanly_unwatched_interval_is_idle_unwatched():
    assert divided([], delta(kind=DeltaKind.UNWATCHED), floor_mw=100_000).by_account == {IDLE_UNWATCHED: E_UJ}


def test_a_dead_meters_interval_is_a_gap_above_the_floor():
    result = divided([claim(A)], delta(kind=DeltaKind.DEAD), floor_mw=100_000)
    assert result.by_account == {A: 10_000_000, GAP: 20_000_000}


def test_a_slice_explains_of_a_dead_interval_at_most_the_highest_power_seen():
    # floor 100 W x 80 ms = 8 J/1000, ceiling 500 W x 20 ms = 10 J/1000, the remaining 12 J/1000 nobody explains
    result = divided([claim(A, (0, 20, 1))], delta(kind=DeltaKind.DEAD), floor_mw=100_000, ceiling_mw=500_000)
    assert sliced(result) == [[10_000_000]]
    assert result.by_account == {A: 8_000_000, GAP: 12_000_000}


def test_without_a_known_ceiling_a_slice_explains_its_times_share():
    result = divided([claim(A, (0, 20, 1))], delta(kind=DeltaKind.DEAD), floor_mw=100_000)
    # 30 - 8 = 22 J/1000 above the floor, a fifth of it
    assert sliced(result) == [[4_400_000]]
    assert result.by_account == {A: 8_000_000, GAP: 17_600_000}


def test_of_an_unwatched_interval_only_slices_are_evidence():
    result = divided(
        [claim(A, (0, 100, 1), used=0.0), claim(B, used=90.0)],
        delta(CPU, DeltaKind.UNWATCHED),
        Others(system=50, foreign=50),
    )
    assert (sliced(result), result.by_account) == ([[E_UJ], []], {})


def test_utilisation_now_says_nothing_about_an_unwatched_interval():
    result = divided(
        [claim(A, (0, 100, 1), used=0.0), claim(B, (0, 100, 1), used=0.9)], delta(kind=DeltaKind.UNWATCHED)
    )
    assert sliced(result) == [[15_000_000], [15_000_000]]


@pytest.mark.parametrize("kind", list(DeltaKind))
@pytest.mark.parametrize("device", [GPU, CPU])
def test_no_energy_makes_no_postings(kind: DeltaKind, device: Device):
    result = divided([claim(A, (0, 50, 1), used=1.0)], delta(device, kind, 0), Others(1, 1), floor_mw=9)
    assert (sliced(result), result.by_account) == ([[0]], {})
