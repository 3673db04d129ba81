"""Properties of attribution: conservation whatever happens, and no dependence on order."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.account import warm_account
from app.domain.reading import Delta, DeltaKind, Device, DeviceKind, Grade
from app.ledger.attribution import Attribution, Claim, Others, attribute

START_NS, END_NS = 1_000, 101_000

times = st.integers(0, 110_000)
weights = st.one_of(st.floats(1e-9, 1e9), st.integers(1, 4096).map(float))
slices = st.lists(st.tuples(times, times, weights), max_size=6)
kinds = st.sampled_from([DeviceKind.GPU, DeviceKind.CPU])
powers = st.one_of(st.just(0.0), st.floats(0, 1e7))
energies = st.one_of(st.integers(0, 1000), st.integers(0, 2**50))


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    drawn = draw(slices)
    # Ends may lie before starts: what a torn record can look like must not break the books.
    return Claim(
        warm_account(draw(st.sampled_from("abcdefgh")), "1"),
        draw(st.floats(0, 1)),
        draw(st.none() | st.floats(0, 1e9)),
        np.array([s[0] for s in drawn], np.int64),
        np.array([s[1] for s in drawn], np.int64),
        np.array([s[2] for s in drawn], np.float64),
    )


others = st.builds(Others, st.floats(0, 1e9), st.floats(0, 1e9))


def delta(
    kind: DeviceKind, energy_uj: int, absence: DeltaKind, start_ns: int = START_NS, end_ns: int = END_NS
) -> Delta:
    return Delta(Device("m", "b", "u", kind, "", Grade.COUNTER), start_ns, end_ns, energy_uj, absence)


def figures(result: Attribution) -> list[int]:
    return [*result.by_account.values(), *(int(part) for parts in result.by_slice for part in parts)]


@settings(max_examples=150, deadline=None)
@given(st.lists(claims(), max_size=5), others, kinds, st.sampled_from(DeltaKind), energies, powers, powers)
def test_every_microjoule_is_charged_once_and_none_is_negative(
    those: list[Claim], rest: Others, kind: DeviceKind, absence: DeltaKind, energy_uj: int, floor: float, ceiling: float
):
    result = attribute(delta(kind, energy_uj, absence), those, rest, floor, ceiling)
    assert result.total_uj == energy_uj
    assert min(figures(result), default=0) >= 0
    assert 0 <= result.covered_ns <= END_NS - START_NS


@settings(deadline=None)
@given(st.lists(claims(), max_size=5), others, kinds, st.sampled_from(DeltaKind), energies, powers, st.randoms())
def test_the_order_of_processes_moves_at_most_microjoules_of_rounding(
    those: list[Claim], rest: Others, kind: DeviceKind, absence: DeltaKind, energy_uj: int, floor: float, random
):
    order = list(range(len(those)))
    random.shuffle(order)
    whole = delta(kind, energy_uj, absence)
    straight = attribute(whole, those, rest, floor)
    shuffled = attribute(whole, [those[i] for i in order], rest, floor)
    for at, i in enumerate(order):
        assert abs(straight.by_slice[i] - shuffled.by_slice[at]).max(initial=0) <= 1 + energy_uj * 1e-15
    for account in straight.by_account.keys() | shuffled.by_account.keys():
        one, other = straight.by_account.get(account, 0), shuffled.by_account.get(account, 0)
        assert abs(one - other) <= 3 * len(those) + 3  # a microjoule for each part of each of three divisions


@settings(deadline=None)
@given(slices, st.integers(0, 10**9), st.integers(START_NS + 1, END_NS - 1), kinds)
@example([(0, 0, 294611191.2), (0, 0, 484519441.17), (0, 15878, 294611191.2)], 479_001_599, 4856, DeviceKind.GPU)
def test_cutting_an_interval_in_two_changes_nothing_but_rounding(
    drawn: list[tuple[int, int, float]], energy_uj: int, cut_ns: int, kind: DeviceKind
):
    """One process, no floor, constant power, slices without a pause: energy goes by time, however it is sampled."""
    drawn = [*drawn, (0, 110_000, 1.0)]
    one = Claim(warm_account("a", "1"), 1.0, 1.0, *(np.array(column) for column in zip(*drawn, strict=True)))
    first_uj = energy_uj * (cut_ns - START_NS) // (END_NS - START_NS)
    whole = attribute(delta(kind, energy_uj, DeltaKind.NORMAL), [one], Others(), 0.0).by_slice[0]
    first = attribute(delta(kind, first_uj, DeltaKind.NORMAL, START_NS, cut_ns), [one], Others(), 0.0)
    second = attribute(delta(kind, energy_uj - first_uj, DeltaKind.NORMAL, cut_ns, END_NS), [one], Others(), 0.0)
    assert abs(whole - first.by_slice[0] - second.by_slice[0]).max() <= 3 + energy_uj * 1e-12


@settings(deadline=None)
@given(slices, energies, powers, kinds)
def test_more_floor_never_means_more_for_slices(
    drawn: list[tuple[int, int, float]], energy_uj: int, floor: float, kind: DeviceKind
):
    columns = [np.array([s[i] for s in drawn]) for i in range(3)]
    one = Claim(warm_account("a", "1"), 1.0, None, columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2])
    of = delta(kind, energy_uj, DeltaKind.NORMAL)
    low, high = attribute(of, [one], Others(), floor), attribute(of, [one], Others(), floor * 2 + 1)
    assert high.by_slice[0].sum() <= low.by_slice[0].sum()
