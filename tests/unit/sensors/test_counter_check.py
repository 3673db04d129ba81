"""A counter is held against the power that the device tells: agreement, dispute, or neither while it is not known."""

import math
import random

import pytest

from app.sensors.counter_check import CounterCheck, Verdict

S = 1_000_000_000


def fed(check: CounterCheck, seconds: int, factor: float, power_mw=lambda at_s: 300_000.0, begin_s: int = 0):
    """Samples at uneven times about a second apart; the counter moves `factor` times what the power says."""
    uneven = random.Random(begin_s)
    counter_uj, at_s = 10**9, float(begin_s)
    while at_s < begin_s + seconds:
        step_s = uneven.uniform(0.5, 1.5)
        fine = [power_mw(at_s + step_s * n / 100) for n in range(100)]
        counter_uj += round(sum(fine) / 100 * step_s * 1000 * factor)
        at_s += step_s
        check.add(round(at_s * S), counter_uj, round(at_s * S), round(power_mw(at_s)))
    return check


def test_a_counter_that_follows_the_power_agrees():
    check = fed(CounterCheck(), 60, 1.0)
    assert check.verdict is Verdict.AGREES
    assert check.ratio == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("factor", "verdict"), [(0.6, "disagrees"), (1.4, "disagrees"), (1.09, "agrees")])
def test_ten_percent_apart_is_the_tolerance(factor, verdict):
    check = fed(CounterCheck(), 120, factor)
    assert check.verdict == verdict
    assert check.ratio == pytest.approx(factor, abs=1e-3)


def test_one_window_alone_disputes_nothing():
    check = fed(CounterCheck(), 45, 0.6)
    assert (check.verdict, check.ratio) == (Verdict.UNKNOWN, pytest.approx(0.6, abs=1e-3))


def test_samples_of_a_fluctuating_load_dispute_nothing():
    # 90 W and 690 W in turns of 0.7 s: a sample a second sees single values, the counter all of it
    check = fed(CounterCheck(), 1800, 1.0, lambda at_s: 690_000.0 if math.sin(at_s * 4.5) > 0 else 90_000.0)
    assert check.verdict is not Verdict.DISAGREES


def test_a_fluctuating_load_does_not_hide_a_counter_that_is_far_off():
    check = fed(CounterCheck(), 3600, 0.5, lambda at_s: 690_000.0 if math.sin(at_s * 4.5) > 0 else 90_000.0)
    assert check.verdict is Verdict.DISAGREES


def test_a_ratio_near_the_tolerance_does_not_flap():
    check = fed(CounterCheck(), 120, 1.12)
    assert check.verdict is Verdict.DISAGREES
    assert fed(check, 300, 1.09, begin_s=120).verdict is Verdict.DISAGREES
    assert fed(check, 300, 1.02, begin_s=420).verdict is Verdict.AGREES


def test_a_counter_that_stands_still_while_power_is_drawn_is_disputed():
    check = fed(CounterCheck(), 120, 0.0)
    assert (check.verdict, check.ratio) == (Verdict.DISAGREES, 0.0)


def test_without_power_nothing_is_known():
    check = fed(CounterCheck(), 1500, 1.0, lambda at_s: 0.0)
    assert (check.verdict, check.ratio) == (Verdict.UNKNOWN, None)


def test_a_reset_or_a_pause_begins_a_new_window():
    check = CounterCheck()
    for second in range(25):
        check.add(second * S, 300_000_000 * second, second * S, 300_000)
    check.add(25 * S, 0, 25 * S, 300_000)  # the counter began anew
    check.add(600 * S, 400_000_000, 600 * S, 300_000)  # nobody looked for minutes
    assert check.ratio is None
    assert fed(check, 120, 1.0, begin_s=600).verdict is Verdict.AGREES


def test_a_burst_of_samples_closes_a_window_only_when_it_outweighs_the_tick():
    check = CounterCheck(slack_ns=100_000_000)
    for ms in range(0, 1000, 10):
        tick = ms // 100 * 100
        check.add(tick * 1_000_000, 300_000 * tick, ms * 1_000_000, 300_000)
    assert check.ratio is None  # 100 ms of 990 are 10 %: too coarse
