"""From an engine's steps to what the governor is told."""

import pytest

from app.domain.generation import Step, Work
from app.policy.steps_seen import SeenSum, StepSeen, TokenTimes

MS = 1_000_000


def step(start_ms, end_ms, *prompts):
    return Step(start_ms * MS, end_ms * MS, tuple(Work(one, 0, 1, 9, 0) for one in prompts))


def test_first_tokens_and_gaps_come_from_the_ends_of_steps():
    times = TokenTimes()
    times.asked("a", 0)
    times.asked("b", 10 * MS)
    times.stepped(step(5, 30, "a"))
    times.came("a", 1)
    times.stepped(step(32, 60, "a", "b"))
    times.came("a", 1)
    times.came("b", 1)
    seen = times.take(energy_uj=7000, waiting=3)
    assert seen is not None
    assert seen.first_tokens_s == pytest.approx((0.030, 0.050))
    assert seen.gaps == ((0.030, 1),)  # the 2 ms between the steps count, too
    # 25 ms with one sequence, 28 ms with two: (25 + 56) / 53
    assert seen.sequences == pytest.approx(81 / 53)
    assert (seen.at_s, seen.seconds) == (0.06, pytest.approx(0.053))
    assert (seen.tokens, seen.energy_uj, seen.waiting) == (3, 7000, 3)


def test_a_chunk_of_a_prompt_brings_no_token_and_lets_the_others_wait():
    times = TokenTimes()
    times.asked("a", 0)
    times.asked("b", 0)
    times.stepped(step(0, 10, "a"))
    times.came("a", 1)
    times.take(1, 0)
    times.stepped(step(10, 90, "b"))  # a chunk of b alone
    times.stepped(step(90, 100, "a", "b"))
    times.came("a", 1)
    times.came("b", 1)
    seen = times.take(1, 0)
    assert seen is not None
    assert seen.gaps == ((0.09, 1),)
    assert seen.first_tokens_s == (0.1,)


def test_taking_empties_it_and_the_ended_are_forgotten():
    times = TokenTimes()
    times.asked("a", 0)
    times.stepped(step(0, 10, "a"))
    times.came("a", 1)
    times.ended("a")
    assert times.take(1, 0) is not None
    assert times.take(1, 0) is None
    times.asked("a", 50 * MS)  # the same name again: a first token, no gap
    times.stepped(step(60, 70, "a"))
    times.came("a", 1)
    seen = times.take(1, 0)
    assert seen is not None
    assert (seen.gaps, seen.first_tokens_s) == ((), (0.02,))


def test_steps_of_prompts_that_were_never_asked_are_left_out():
    times = TokenTimes()
    times.stepped(step(0, 50, "embedding"))
    assert times.take(1, 0) is None
    times.asked("a", 50 * MS)
    times.stepped(step(60, 70, "a", "embedding"))
    seen = times.take(1, 0)
    assert seen is not None
    assert (seen.sequences, seen.seconds) == (1, pytest.approx(0.01))


def test_tokens_of_one_step_tell_as_much_as_one_answer():
    def seen(*gaps):
        return StepSeen(0.0, 0.1, 8, 0, 8, 100, gaps)

    one = SeenSum().add(seen((0.02, 8)), gap_s=0.05)
    assert (one.answers, one.late) == (1, 0)
    one.add(seen((0.08, 8)), gap_s=0.05)
    assert (one.answers, one.late) == (2, 1)
    assert one.mean_gap_s == pytest.approx(0.05)
    # 24 tokens, 8 of them late: (8 + 8 + 8)^2 / (64 + 64 + 64) = 3 answers
    one.add(seen((0.03, 8)), gap_s=0.05)
    assert (one.answers, one.late) == (3, 1)
    assert one.gap_quantile_s(0.5) == 0.03
    assert one.gap_quantile_s(0.9) == 0.08
    assert SeenSum().gap_quantile_s(0.9) == 0
