"""The pace of a device: what work costs on it now, and what work of just now will most likely be charged."""

import numpy as np
import pytest

from app.domain.reading import Delta, Device, DeviceKind, Grade
from app.ledger.pace import Drawn, Pace, PaceTracker, WorkingPower, priced_uj, union_ns
from app.units import NS_PER_MS, NS_PER_S

TICK_NS = 100 * NS_PER_MS


def tick(tracker: PaceTracker, busy_ms: int, covered_ms: int = 0, floor_mw: float = 2_000.0) -> None:
    """100 ms of a host of 2 W and 3 W more for each busy CPU."""
    energy_uj = 2_000 * 100 + 3_000 * busy_ms
    tracker.add(energy_uj, TICK_NS, busy_ms * NS_PER_MS, covered_ms * NS_PER_MS, floor_mw)


def test_before_a_busy_tick_no_pace_is_known():
    tracker = PaceTracker()
    assert tracker.pace == Pace()
    tick(tracker, busy_ms=10)
    assert tracker.pace == Pace()


def test_what_a_busy_cpu_adds_is_learned_from_busy_ticks_and_kept_in_quiet_ones():
    tracker = PaceTracker()
    tick(tracker, busy_ms=150, covered_ms=100)
    tick(tracker, busy_ms=50, covered_ms=40)
    assert tracker.pace == pytest.approx(Pace(3_000.0, TICK_NS, 100 * NS_PER_MS, 70 * NS_PER_MS))
    for _ in range(20):
        tick(tracker, busy_ms=1)
    assert tracker.pace == pytest.approx(Pace(3_000.0, TICK_NS, NS_PER_MS, 0))


def test_while_the_floor_is_unknown_the_busy_cpus_carry_everything():
    tracker = PaceTracker()
    tick(tracker, busy_ms=100, covered_ms=100, floor_mw=0.0)
    assert tracker.pace.marginal_mw == pytest.approx(5_000.0)


def test_an_estimate_is_what_attribution_gives_in_a_covered_tick():
    """100 ms, 150 ms of CPU time, 650 mJ: 60 ms of CPU time are 60/150 of it, 260 mJ."""
    tracker = PaceTracker()
    tick(tracker, busy_ms=150, covered_ms=100)
    assert priced_uj(tracker.pace, 2_000.0, 60 * NS_PER_MS, 100 * NS_PER_MS) == pytest.approx(260_000)


def test_work_after_a_silence_shares_its_own_time_of_the_floor():
    """A tick with 5 ms of others' CPU time, then 10 ms of our own: in the next tick we have 10 of 15 ms, of 45 mJ above
    the floor and of 20 mJ, the floor in our 10 ms."""
    tracker = PaceTracker()
    tick(tracker, busy_ms=150)
    for _ in range(3):
        tick(tracker, busy_ms=5)
    found_uj = priced_uj(tracker.pace, 2_000.0, 10 * NS_PER_MS, 10 * NS_PER_MS)
    assert found_uj == pytest.approx((45_000 + 20_000) * 10 / 15)


def test_without_a_pace_an_estimate_is_the_floor_over_the_time():
    assert priced_uj(Pace(), 2_000.0, 5 * NS_PER_MS, 10 * NS_PER_MS) == pytest.approx(20_000)


def test_no_time_costs_nothing():
    tracker = PaceTracker()
    tick(tracker, busy_ms=150)
    assert priced_uj(tracker.pace, 2_000.0, 0, 0) == 0


def test_the_working_power_is_that_of_the_latest_covered_ticks_and_grows_stale():
    """300 W and 200 W for 100 ms each, then a tick that nobody covers."""
    working = WorkingPower()
    assert working.power_mw(0) == 0
    for start_ms, energy_uj, covered_ms in ((0, 30_000_000, 100), (100, 20_000_000, 95), (200, 6_000_000, 50)):
        start_ns = start_ms * NS_PER_MS
        working.add(energy_uj, start_ns, start_ns + TICK_NS, covered_ms * NS_PER_MS)
    assert working.power_mw(300 * NS_PER_MS) == pytest.approx(250_000.0)
    assert working.power_mw(NS_PER_S + 201 * NS_PER_MS) == 0


def test_slices_have_a_power_and_a_part_of_the_power_while_somebody_works():
    """30 J for 50 ms of a covered interval of 80 J in 100 ms: 600 W, and 30 of the 40 J of that time. 10 J for 10 ms of
    another that is not covered: 666.7 W in all."""
    gpu = Device("m", "boot", "GPU-1", DeviceKind.GPU, "GPU", Grade.COUNTER)
    drawn = Drawn()
    assert drawn.told() is None
    drawn.add(30e6, 50 * NS_PER_MS, Delta(gpu, 0, TICK_NS, 80_000_000), TICK_NS)
    assert drawn.told() == pytest.approx((600_000.0, 0.75))
    assert drawn.told() is None
    for _ in range(9):
        drawn.add(30e6, 50 * NS_PER_MS, Delta(gpu, 0, TICK_NS, 80_000_000), TICK_NS)
    drawn.add(10e6, 10 * NS_PER_MS, Delta(gpu, 0, TICK_NS, 80_000_000), 10 * NS_PER_MS)
    power_mw, part = drawn.told()
    assert part == pytest.approx(0.75)
    assert power_mw == pytest.approx((9.9 * 30e6 + 10e6) / (9.9 * 50 + 10) * 1_000 / 1_000, rel=1e-6)


def test_the_union_of_intervals_counts_each_instant_once():
    starts, ends = np.array([5, 0, 7, 20]), np.array([9, 6, 8, 25])
    assert union_ns(starts, ends) == 9 + 5
    assert union_ns(starts[:0], ends[:0]) == 0
