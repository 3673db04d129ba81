"""Properties of deltas: never negative, and a walk of them is the movement of the counter."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.domain.reading import CounterReading, DeltaKind, Device, DeviceKind, Grade, PowerReading
from app.ledger.delta import delta_between
from app.units import NS_PER_S

grades = st.sampled_from([Grade.COUNTER, Grade.MODELLED])
counters = st.integers(0, 2**50)


def device(grade: Grade, wraps_at_uj: int | None) -> Device:
    return Device("m", "b", "u", DeviceKind.GPU, "", grade, wraps_at_uj)


@given(grades, st.none() | st.integers(1, 2**50), counters, counters, st.integers(1, 10**12))
def test_energy_is_never_negative(grade: Grade, wraps_at_uj: int | None, before: int, after: int, duration_ns: int):
    delta = delta_between(device(grade, wraps_at_uj), CounterReading(0, before), CounterReading(duration_ns, after))
    assert delta is not None
    assert delta.energy_uj >= 0


@given(grades, st.lists(st.integers(0, 10**9), min_size=2, max_size=20))
def test_deltas_of_a_rising_counter_add_up_to_its_movement(grade: Grade, steps: list[int]):
    readings = [CounterReading(at_ns, sum(steps[: at_ns + 1])) for at_ns in range(len(steps))]
    deltas = [delta_between(device(grade, None), *pair) for pair in pairwise(readings)]
    assert sum(delta.energy_uj for delta in deltas if delta) == readings[-1].counter_uj - readings[0].counter_uj


@given(st.integers(10**9, 2**40), st.lists(st.integers(0, 10**6), min_size=2, max_size=30))
def test_a_wrapping_counter_loses_nothing(wraps_at_uj: int, steps: list[int]):
    of = device(Grade.COUNTER, wraps_at_uj)
    totals = [wraps_at_uj - 10**6 + sum(steps[: i + 1]) for i in range(len(steps))]
    readings = [CounterReading(i * NS_PER_S, total % wraps_at_uj) for i, total in enumerate(totals)]
    deltas = [delta_between(of, *pair) for pair in pairwise(readings)]
    assert sum(delta.energy_uj for delta in deltas if delta) == totals[-1] - totals[0]


@given(st.lists(st.integers(0, 10**7), min_size=2, max_size=10), st.sampled_from(DeltaKind))
def test_integrated_power_lies_between_its_lowest_and_highest(powers: list[int], kind: DeltaKind):
    of = device(Grade.INTEGRATED, None)
    for before, after in pairwise(powers):
        delta = delta_between(of, PowerReading(0, before), PowerReading(NS_PER_S, after), kind)
        assert delta is not None
        if kind is DeltaKind.NORMAL:
            assert min(before, after) * 1000 <= delta.energy_uj <= max(before, after) * 1000
        else:
            assert delta.energy_uj == 0
