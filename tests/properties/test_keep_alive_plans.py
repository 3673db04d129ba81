"""What holds of keep-alive decisions for any history."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.policy.gaps import GapHistory
from app.policy.keepalive import KeepAlive, KeepAliveSettings, Visit

gaps = st.lists(st.floats(0.01, 1e5), min_size=1, max_size=60)


def after(gaps_s, load_j, warm_w, kept):
    keeper = KeepAlive(kept)
    keeper.measured_load(load_j, 22.0)
    keeper.measured_warm(warm_w)
    now_s, cold_starts_s = 1e6, []
    keeper.visited(Visit(now_s, now_s))
    for gap_s in gaps_s:
        plan = keeper.plan()
        assert plan.reason
        assert plan.sleep_at_s >= now_s
        assert plan.wake_at_s is None or plan.sleep_at_s < plan.wake_at_s < plan.sleep_again_s
        now_s += gap_s
        is_cold = not plan.awake(now_s)
        if is_cold:
            cold_starts_s.append(now_s)
        keeper.visited(Visit(now_s, now_s, cold=int(is_cold)))
    return keeper.plan(), cold_starts_s


@given(gaps, st.floats(0.1, 1e5), st.floats(0, 1e3), st.floats(0, 3))
@settings(deadline=None, max_examples=60)
def test_a_plan_never_lies_in_the_past_and_has_a_reason(gaps_s, load_j, warm_w, price):
    after(gaps_s, load_j, warm_w, KeepAliveSettings(cold_price=price))


@given(gaps, st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_no_hour_has_more_cold_starts_than_the_bound(gaps_s, bound):
    _, cold_s = after(gaps_s, 100.0, 70.0, KeepAliveSettings(cold_price=0, max_cold_starts_per_hour=bound))
    for late, early in zip(cold_s[bound:], cold_s, strict=False):
        assert late - early >= 3600 - 1e-6


@given(gaps, st.floats(0.5, 500), st.floats(1, 20), st.floats(0, 100))
@settings(deadline=None, max_examples=60)
def test_a_dearer_load_never_makes_it_sleep_sooner(gaps_s, load_s, times, price_s):
    history = GapHistory()
    for gap_s in gaps_s:
        history.add(gap_s, 1e9)
    # No prior: it moves with the break-even.
    less = history.best_delay_s(load_s, price_s, prior_gaps=0, pooled_gaps=20)
    assert history.best_delay_s(load_s * times, price_s, prior_gaps=0, pooled_gaps=20) >= less >= 0
