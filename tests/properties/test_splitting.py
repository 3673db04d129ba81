"""Properties of exact division: nothing is lost, nothing is negative, order does not matter."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ledger.attribution import split_array
from app.units import carbon_ug, energy_of_power, power_of_energy, split_exactly

totals = st.one_of(st.integers(0, 1000), st.integers(0, 2**62))
weights = st.lists(
    st.one_of(st.just(0.0), st.floats(0, 1e18, allow_subnormal=True), st.floats(1e-9, 1.0)), min_size=1, max_size=12
)


@settings(deadline=None)
@given(totals, weights)
def test_the_parts_add_up_and_none_is_negative(total: int, by: list[float]):
    for parts in (split_exactly(total, by), split_array(total, np.array(by)).tolist()):
        assert sum(parts) == total
        assert min(parts) >= 0


@settings(deadline=None)
@given(totals, weights)
def test_a_zero_weight_gets_nothing_beside_others(total: int, by: list[float]):
    for parts in (split_exactly(total, by), split_array(total, np.array(by)).tolist()):
        if any(by):
            assert all(part == 0 for part, weight in zip(parts, by, strict=True) if weight == 0)


@settings(deadline=None)
@given(st.integers(0, 2**50), weights)
def test_each_part_is_its_share_rounded(total: int, by: list[float]):
    whole = sum(by)
    if whole > 1e-200:
        for parts in (split_exactly(total, by), split_array(total, np.array(by)).tolist()):
            shares = [total * (weight / whole) for weight in by]
            assert all(abs(part - share) <= 1 + total * 1e-14 for part, share in zip(parts, shares, strict=True))


@settings(deadline=None)
@given(totals, weights, st.randoms(use_true_random=False))
def test_order_moves_at_most_the_last_microjoule(total: int, by: list[float], random):
    order = list(range(len(by)))
    random.shuffle(order)
    straight, shuffled = split_exactly(total, by), split_exactly(total, [by[i] for i in order])
    assert all(abs(straight[i] - shuffled[at]) <= 1 for at, i in enumerate(order))


@settings(deadline=None)
@given(st.integers(0, 2**50), weights)
def test_arrays_and_lists_are_split_alike(total: int, by: list[float]):
    lists, arrays = split_exactly(total, by), split_array(total, np.array(by)).tolist()
    assert all(abs(one - other) <= 1 + total * 1e-14 for one, other in zip(lists, arrays, strict=True))


@settings(deadline=None)
@given(st.integers(0, 10_000_000), st.integers(1, 10**13))
def test_power_and_energy_are_inverse_to_half_a_microjoule(power_mw: int, duration_ns: int):
    energy_uj = energy_of_power(power_mw, duration_ns)
    assert abs(power_of_energy(energy_uj, duration_ns) - power_mw) <= 0.51 * 1_000_000 / duration_ns + power_mw * 1e-9


@settings(deadline=None)
@given(st.integers(0, 2**50), st.floats(0, 2000))
def test_carbon_is_never_negative_and_grows_with_energy(energy_uj: int, intensity: float):
    assert 0 <= carbon_ug(energy_uj, intensity) <= carbon_ug(energy_uj + 1_000_000, intensity)
