"""Waits for first tokens by limit: what is inferred, what is passed over, what is forgotten."""

from app.policy.first_tokens import FirstTokens

LATE_S, SOON_S = 2.0, 0.1


def told(limit, waits_s, *, queued, at_s=100.0):
    first_tokens = FirstTokens(1.0, 0.05)
    first_tokens.add(limit, at_s, waits_s, queued=queued)
    return first_tokens


def test_a_limit_under_which_prompts_queue_too_long_makes_smaller_ones_miss_too():
    first_tokens = told(8, [LATE_S] * 10, queued=True)
    assert first_tokens.misses(8)
    assert first_tokens.misses(4)
    assert not first_tokens.misses(16)


def test_prompts_that_are_late_without_a_queue_tell_nothing_of_smaller_limits():
    first_tokens = told(8, [LATE_S] * 10, queued=False)
    assert first_tokens.misses(8)
    assert not first_tokens.misses(4)


def test_one_late_prompt_is_no_miss():
    assert not told(8, [LATE_S], queued=True).misses(8)
    assert not told(8, [LATE_S] + [SOON_S] * 30, queued=True).misses(8)


def test_it_is_forgotten_within_minutes():
    first_tokens = told(8, [LATE_S] * 10, queued=True, at_s=0.0)
    first_tokens.add(16, 600.0, [SOON_S], queued=False)  # five half-lives: 10 answers are a third of one
    assert not first_tokens.misses(8)
    assert first_tokens.late_share(8) is None


def test_prompts_from_before_a_change_of_the_limit_do_not_count_against_it():
    first_tokens = FirstTokens(1.0, 0.05)
    first_tokens.limit_changed(100.0)
    first_tokens.add(16, 101.0, [LATE_S] * 10, queued=True)
    assert first_tokens.late_share(16) is None
    first_tokens.add(16, 101.5, [SOON_S] * 10, queued=False)
    assert first_tokens.late_share(16) == 0


def test_unless_the_queue_never_clears():
    first_tokens = FirstTokens(1.0, 0.05)
    first_tokens.limit_changed(100.0)
    first_tokens.add(16, 101.0, [50.0] * 100, queued=True)
    assert first_tokens.misses(16)


def test_there_is_room_only_after_prompts_in_time():
    first_tokens = FirstTokens(1.0, 0.05)
    assert not first_tokens.has_room
    first_tokens.add(8, 1.0, [SOON_S] * 60, queued=False)
    assert first_tokens.has_room
    first_tokens.add(8, 2.0, [LATE_S] * 5, queued=False)
    assert not first_tokens.has_room


def test_without_an_objective_nothing_is_late():
    first_tokens = FirstTokens(None, 0.05)
    assert not first_tokens.add(8, 1.0, [1e6] * 100, queued=True)
    assert first_tokens.has_room
    assert first_tokens.late_share(8) is None
