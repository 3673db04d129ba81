"""Deltas: what two readings say, with wraps, resets, corrections and absence."""

import pytest

from app.domain.reading import CounterReading, DeltaKind, Device, DeviceKind, Grade, PowerReading
from app.ledger.delta import delta_between
from app.units import NS_PER_S

WRAPS_AT_UJ = 262_143_328_850  # the range of a RAPL package domain


def device(grade: Grade = Grade.COUNTER, wraps_at_uj: int | None = None) -> Device:
    return Device("m", "b", "u", DeviceKind.CPU, "CPU", grade, wraps_at_uj)


def moved(before_uj: int, after_uj: int, of: Device, seconds: float = 1.0) -> int:
    delta = delta_between(of, CounterReading(0, before_uj), CounterReading(round(seconds * NS_PER_S), after_uj))
    assert delta is not None
    return delta.energy_uj


def test_a_counter_that_went_forward_moved_by_the_difference():
    assert moved(1_000, 61_000, device()) == 60_000


def test_a_wrap_counts_up_to_the_range_and_on_from_zero():
    assert moved(WRAPS_AT_UJ - 40, 60, device(wraps_at_uj=WRAPS_AT_UJ)) == 100


def test_a_wrap_that_would_take_more_power_than_any_device_is_a_reset():
    # 262 kJ in a second would be 262 kW; the bound is 10 kW.
    assert moved(60, 40, device(wraps_at_uj=WRAPS_AT_UJ)) == 40
    assert moved(60, 40, device(wraps_at_uj=WRAPS_AT_UJ), seconds=60) == WRAPS_AT_UJ - 20


def test_a_reset_counts_what_the_counter_says_since():
    assert moved(1_000_000, 300, device()) == 300


def test_a_counter_above_its_own_range_is_a_reset():
    assert moved(WRAPS_AT_UJ + 50, 7, device(wraps_at_uj=WRAPS_AT_UJ)) == 7


def test_a_modelled_counter_that_falls_did_not_move():
    assert moved(1_000_000, 999_000, device(Grade.MODELLED)) == 0


def test_sampled_power_is_the_area_of_a_trapezoid():
    # 100 W rising to 300 W within half a second: 200 W x 0.5 s = 100 J
    delta = delta_between(device(Grade.INTEGRATED), PowerReading(0, 100_000), PowerReading(NS_PER_S // 2, 300_000))
    assert delta is not None
    assert delta.energy_uj == 100_000_000


@pytest.mark.parametrize("kind", [DeltaKind.UNWATCHED, DeltaKind.DEAD])
def test_no_energy_is_invented_where_nobody_sampled_power(kind: DeltaKind):
    delta = delta_between(device(Grade.INTEGRATED), PowerReading(0, 100_000), PowerReading(NS_PER_S, 100_000), kind)
    assert delta is not None
    assert (delta.energy_uj, delta.kind, delta.duration_ns) == (0, kind, NS_PER_S)


@pytest.mark.parametrize("kind", [DeltaKind.UNWATCHED, DeltaKind.DEAD])
def test_a_counter_tells_what_passed_unwatched(kind: DeltaKind):
    delta = delta_between(device(), CounterReading(0, 5), CounterReading(9, 25), kind)
    assert delta is not None
    assert (delta.energy_uj, delta.kind) == (20, kind)


def test_no_time_means_no_delta():
    assert delta_between(device(), CounterReading(5, 1), CounterReading(5, 2)) is None
    assert delta_between(device(), CounterReading(5, 1), CounterReading(4, 2)) is None


def test_a_counter_and_a_power_value_do_not_mix():
    delta = delta_between(device(), CounterReading(0, 10**12), PowerReading(1, 5))
    assert delta is not None
    assert delta.energy_uj == 0


@pytest.mark.parametrize(("before_uj", "after_uj"), [(0, 10**15), (10**15, 5 * 10**14)])
def test_more_than_a_device_can_draw_is_not_energy(before_uj: int, after_uj: int):
    # 10 kW for 0.1 s and the 0.25 s that a value may be old are 3.5 kJ
    delta = delta_between(device(), CounterReading(0, before_uj), CounterReading(NS_PER_S // 10, after_uj))
    assert delta is not None
    assert delta.energy_uj == 0
