"""Slices of which steps are told share a process's energy by what their steps drew, worked by hand."""

import numpy as np
import pytest

from app.domain.account import request_account, warm_account
from app.domain.reading import Delta, DeltaKind, Device, DeviceKind, Grade
from app.ledger.attribution import Claim, Others, Steps, attribute
from app.ledger.division import Profile, divide

GPU = Device("m", "b", "GPU-1", DeviceKind.GPU, "H100", Grade.COUNTER)
WARM, REQUEST = warm_account("a", "1"), request_account("t", "a", "1")


def delta(energy_uj: int, start_ns: int = 0, end_ns: int = 100) -> Delta:
    return Delta(GPU, start_ns, end_ns, energy_uj, DeltaKind.NORMAL)


def steps(*rows: tuple[int, int, float, int]) -> Steps:
    starts, ends, powers, slices = zip(*rows, strict=True)
    return Steps(np.array(starts), np.array(ends), np.array(powers, np.float64), np.array(slices))


def claim(told: Steps | None, *spans: tuple[int, int], share: float = 1.0) -> Claim:
    starts, ends = (np.array(side, np.int64) for side in zip(*spans, strict=True))
    owners = np.arange(len(spans))
    return Claim(WARM, share, None, starts, ends, np.ones(len(spans)), owners, steps=told)


# a draws 600 in 0..30, b 300 in 30..100: 18,000 and 21,000; c is open and does nothing
TOLD = steps((0, 30, 600, 0), (30, 100, 300, 1))
SPANS = ((0, 100), (0, 100), (0, 100))


def test_energy_goes_by_power_and_time_of_the_steps():
    result = attribute(delta(39_000), [claim(TOLD, *SPANS)], Others(), 0.0)
    assert result.by_slice[0].tolist() == [18_000, 21_000, 0]


def test_steps_count_as_far_as_they_are_inside():
    """Of 15..65 a has 15 x 600, b 35 x 300."""
    result = attribute(delta(1_950, 15, 65), [claim(TOLD, *SPANS)], Others(), 0.0)
    assert result.by_slice[0].tolist() == [900, 1_050, 0]


def test_where_no_step_tells_slices_share_by_their_weights():
    result = attribute(delta(300, 200, 300), [claim(TOLD, (0, 300), (0, 300), (0, 300))], Others(), 0.0)
    assert result.by_slice[0].tolist() == [100, 100, 100]


def test_uncovered_time_is_the_residents_whatever_steps_say():
    result = attribute(delta(1_000, 0, 200), [claim(TOLD, *SPANS)], Others(), 2e6)
    assert result.by_account == {WARM: 200}
    assert sum(result.by_slice[0].tolist()) == 800


def test_steps_divide_what_cells_give_their_process():
    """Two cells of 10 and 30 uJ; another process, not told apart, has half of each."""
    other = claim(None, (0, 100), share=0.0)
    profile = Profile(np.array([0, 50, 100]), np.array([200_000.0, 600_000.0]))
    result = divide(delta(40), profile, [claim(TOLD, *SPANS, share=0.0), other], Others())
    assert result.by_slice[1].tolist() == [20]
    assert result.by_slice[0].tolist() == [9, 11, 0]  # 18/39 and 21/39 of 20


def test_the_doubt_of_accounts_follows_the_steps():
    """The third slice's account has nothing, and no doubt of its part of this process either."""
    profile = Profile(
        np.array([0, 50, 100]),
        np.array([2e9, 6e9]),
        0.0,
        np.array([1e9, 1e9]),
        np.array([7e9, 7e9]),
    )
    partly = claim(steps((0, 50, 600, 0), (0, 50, 300, 1)), (0, 50), (0, 50), (0, 50))
    result = divide(delta(400_000), profile, [partly], Others())
    assert result.doubt_uj is not None
    assert result.doubt_uj[0, 0] == pytest.approx(2 * result.doubt_uj[0, 1], rel=1e-4)
    assert (0, 2) not in result.doubt_uj
