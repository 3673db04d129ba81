"""Properties of cells and their division: conservation whatever happens, no dependence on order, nothing negative."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.account import warm_account
from app.domain.reading import Delta, Device, DeviceKind, Grade
from app.engine.profiler import Profiler
from app.ledger.attribution import Attribution, Claim, Others, attribute
from app.ledger.division import Profile, divide

GPU = Device("m", "b", "u", DeviceKind.GPU, "", Grade.COUNTER)
START_NS, STEP_NS, STEPS = 1_000_000, 100_000_000, 5
END_NS = START_NS + STEPS * STEP_NS

times = st.integers(0, END_NS + STEP_NS)
weights = st.one_of(st.floats(1e-9, 1e9), st.integers(1, 4096).map(float))
powers = st.one_of(st.just(0.0), st.floats(1_000, 1e6))
energies = st.lists(st.one_of(st.integers(0, 1000), st.integers(0, 2**36)), min_size=STEPS, max_size=STEPS)


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    drawn = draw(st.lists(st.tuples(times, times, weights), max_size=6))
    return Claim(
        warm_account(draw(st.sampled_from("abcdefgh")), "1"),
        draw(st.floats(0, 1)),
        draw(st.none() | st.floats(0, 1)),
        np.array([s[0] for s in drawn], np.int64),
        np.array([s[1] for s in drawn], np.int64),
        np.array([s[2] for s in drawn], np.float64),
        np.array([n % 3 for n in range(len(drawn))], np.int64),
        compute_share=draw(st.sampled_from([0.25, 1.0])),
        apportioned=draw(st.booleans()),
    )


def deltas(drawn_uj: list[int]) -> list[Delta]:
    edges = [START_NS + n * STEP_NS for n in range(STEPS + 1)]
    return [Delta(GPU, a, b, uj) for (a, b), uj in zip(pairwise(edges), drawn_uj, strict=True)]


def attributions(of: list[Delta], those: list[Claim], rest: Others, floor_mw: float) -> list[tuple[Delta, Attribution]]:
    """Each delta in turn, as a meter does it."""
    profiler, found = Profiler(), []
    named = [(str(n), claim) for n, claim in enumerate(those)]
    for at, delta in enumerate(of):
        profile = profiler.profile(delta, named, of[at + 1 : at + 5], lambda _: named, floor_mw, 0.0)
        if profile is None:
            found.append((delta, attribute(delta, those, rest, floor_mw)))
        else:
            found.append((delta, divide(delta, profile, profiler.with_draws(named), rest)))
    return found


def figures(result: Attribution) -> list[int]:
    beside = [*result.by_account.values(), *result.apportioned.values()]
    return beside + [int(part) for parts in result.by_slice for part in parts]


@settings(max_examples=120, deadline=None)
@given(energies, st.lists(claims(), max_size=4), st.floats(0, 1), powers)
def test_every_microjoule_is_charged_once_and_none_is_negative(
    drawn_uj: list[int], those: list[Claim], foreign: float, floor_mw: float
):
    for delta, result in attributions(deltas(drawn_uj), those, Others(foreign=foreign), floor_mw):
        assert result.total_uj == delta.energy_uj
        assert min(figures(result), default=0) >= 0
        assert 0 <= result.covered_ns <= delta.duration_ns
        assert all(doubt_uj >= 0 for doubt_uj in (result.doubt_uj or {}).values())


@settings(max_examples=80, deadline=None)
@given(energies, st.lists(claims(), max_size=4), st.floats(0, 1), st.floats(1_000, 1e6), st.randoms())
def test_the_order_of_processes_moves_only_rounding(
    drawn_uj: list[int], those: list[Claim], foreign: float, floor_mw: float, random
):
    order = list(range(len(those)))
    random.shuffle(order)
    rest = Others(foreign=foreign)
    straight = attributions(deltas(drawn_uj), those, rest, floor_mw)
    shuffled = attributions(deltas(drawn_uj), [those[i] for i in order], rest, floor_mw)
    for (delta, one), (_, other) in zip(straight, shuffled, strict=True):
        for at, i in enumerate(order):
            assert abs(one.by_slice[i] - other.by_slice[at]).max(initial=0) <= 2 + delta.energy_uj * 1e-6


@settings(max_examples=60, deadline=None)
@given(st.lists(times, min_size=1, max_size=8), st.integers(1, 2**30), st.integers(1, STEP_NS - 1))
def test_cutting_an_interval_changes_nothing_where_the_power_is_known(cuts: list[int], power_uw: int, at_ns: int):
    """Slices without a pause at constant power: additive however it is sampled."""
    edges = np.array(sorted({0, *cuts, END_NS + STEP_NS}), np.int64)
    one = Claim(warm_account("a", "1"), 1.0, None, edges[:-1], edges[1:], np.ones(len(edges) - 1))
    cells = np.array([START_NS, *edges[(edges > START_NS) & (edges < START_NS + STEP_NS)], START_NS + STEP_NS])
    power_mw = power_uw / 1_000

    def parts(bounds: np.ndarray) -> np.ndarray:
        energy_uj = round(power_mw * int(bounds[-1] - bounds[0]) / 1e6)
        delta = Delta(GPU, int(bounds[0]), int(bounds[-1]), energy_uj)
        return divide(delta, Profile(bounds, np.full(len(bounds) - 1, power_mw)), [one], Others()).by_slice[0]

    middle = START_NS + at_ns
    first, second = np.unique([*cells[cells < middle], middle]), np.unique([middle, *cells[cells > middle]])
    assert abs(parts(cells) - parts(first) - parts(second)).max() <= 3


@settings(max_examples=60, deadline=None)
@given(energies, st.lists(claims(), min_size=1, max_size=3), st.floats(1_000, 1e6))
def test_no_doubt_is_larger_than_what_moved(drawn_uj: list[int], those: list[Claim], floor_mw: float):
    for delta, result in attributions(deltas(drawn_uj), those, Others(), floor_mw):
        for doubt_uj in (result.doubt_uj or {}).values():
            assert doubt_uj <= 2 * delta.energy_uj + 1


def test_an_energy_beyond_floats_is_still_divided_exactly():
    one = Claim(warm_account("a", "1"), 1.0, None, np.array([0, 5]), np.array([50, 90]), np.array([1.0, 2.0]))
    delta = Delta(GPU, 0, 100, 2**60 + 1)
    power = np.full(4, delta.energy_uj / 100 * 1e6)
    result = divide(delta, Profile(np.array([0, 5, 50, 90, 100]), power), [one], Others())
    assert result.total_uj == 2**60 + 1


@pytest.mark.parametrize("floor_mw", [0.0, 50_000.0])
def test_without_slices_there_is_one_cell(floor_mw: float):
    (delta, *_) = deltas([5, 5, 5, 5, 5])
    profile = Profiler().profile(delta, [], [], lambda _: [], floor_mw, 0.0)
    assert profile is not None
    assert len(profile.power_mw) == 1
