"""The queue before an engine: its bound, who is let in, who leaves, and what it says when it is full or closed."""

import pytest

from app.clock import ManualClock
from app.domain.generation import Prompt, Sampling
from app.errors import Busy, InvalidInput, Unavailable
from app.models.generation.embedding import EmbeddingJob
from app.models.generation.pending import Change, Pending
from app.units import NS_PER_S


def prompt(prompt_id: str) -> Prompt:
    return Prompt(prompt_id, (1,), Sampling(max_tokens=1))


def take(pending: Pending) -> Change:
    change = pending.take()
    assert change is not None
    return change


def test_prompts_are_let_in_in_the_order_they_came() -> None:
    pending = Pending(2, 8, ManualClock())
    for name in "abcd":
        pending.put(prompt(name))
    assert [each.id for each in take(pending).admitted] == ["a", "b"]
    assert pending.counts() == (2, 2)
    pending.left("a")
    assert [each.id for each in take(pending).admitted] == ["c"]


def test_the_queue_holds_so_many_beside_those_that_may_start() -> None:
    pending = Pending(2, 1, ManualClock())
    for name in "abc":
        pending.put(prompt(name))
    with pytest.raises(Busy):
        pending.put(prompt("d"))
    take(pending)
    with pytest.raises(Busy, match="2 sequences run and 1 wait, at most 1 may"):
        pending.put(prompt("d"))
    pending.left("a")
    pending.put(prompt("d"))


def test_without_a_queue_only_what_starts_at_once_is_taken() -> None:
    pending = Pending(1, 0, ManualClock())
    pending.put(prompt("a"))
    with pytest.raises(Busy):
        pending.put(prompt("b"))


def test_come_again_after_what_lies_between_two_endings() -> None:
    clock = ManualClock()
    pending = Pending(1, 0, clock)
    for number in range(60):
        pending.put(prompt(str(number)))
        take(pending)
        clock.advance(4 * NS_PER_S)
        pending.left(str(number))
    pending.put(prompt("last"))
    with pytest.raises(Busy) as refused:
        pending.put(prompt("more"))
    assert refused.value.retry_after_s == pytest.approx(4, abs=0.01)


def test_a_lower_limit_lets_nobody_in_until_enough_have_left() -> None:
    pending = Pending(3, 8, ManualClock())
    for name in "abcde":
        pending.put(prompt(name))
    take(pending)
    pending.limit(1)
    pending.left("a")
    pending.left("b")
    assert take(pending).admitted == ()
    pending.left("c")
    assert [each.id for each in take(pending).admitted] == ["d"]
    with pytest.raises(InvalidInput, match="max_sequences must be >= 1, got 0"):
        pending.limit(0)


def test_a_cancelled_prompt_leaves_once_and_its_place_is_free_in_the_same_turn() -> None:
    pending = Pending(1, 8, ManualClock())
    for name in "abc":
        pending.put(prompt(name))
    take(pending)
    for name in ("a", "a", "c", "nobody"):
        pending.cancel(name)
    change = take(pending)
    assert change.cancelled == ("a", "c")
    assert [each.id for each in change.admitted] == ["b"]


def test_a_prompt_that_ended_before_its_cancellation_was_seen_is_not_cancelled() -> None:
    pending = Pending(2, 8, ManualClock())
    pending.put(prompt("a"))
    pending.put(prompt("b"))
    take(pending)
    pending.cancel("a")
    pending.left("a")
    assert take(pending).cancelled == ()


def test_an_id_in_use_is_refused_and_free_again_afterwards() -> None:
    pending = Pending(1, 8, ManualClock())
    pending.put(prompt("a"))
    with pytest.raises(InvalidInput, match="'a' is in use"):
        pending.put(prompt("a"))
    take(pending)
    with pytest.raises(InvalidInput, match="'a' is in use"):
        pending.put(prompt("a"))
    pending.left("a")
    pending.put(prompt("a"))


def test_once_closed_nothing_comes_in_and_everything_is_handed_out_once() -> None:
    pending = Pending(1, 8, ManualClock())
    for name in "ab":
        pending.put(prompt(name))
    take(pending)
    job = EmbeddingJob("e", [[1]])
    pending.put_embedding(job)
    pending.close("over")
    pending.close("something else")
    assert pending.take() is None
    assert sorted(pending.drain()) == ["a", "b"]
    with pytest.raises(Unavailable, match="nothing can be generated: over"):
        pending.put(prompt("c"))
    with pytest.raises(Unavailable, match="over"):
        job.result()


def test_embeddings_come_one_job_after_the_other_and_are_bounded() -> None:
    pending = Pending(1, 1, ManualClock())
    first, second = EmbeddingJob("a", [[1, 2], [3], [4, 5, 6]]), EmbeddingJob("b", [[1]])
    pending.put_embedding(first)
    pending.put_embedding(second)
    with pytest.raises(Busy):
        pending.put_embedding(EmbeddingJob("c", [[1]]))
    assert take(pending).embedding is first
    assert first.next(3) == [[1, 2], [3]]
    first.add([[0.1], [0.2]])
    assert take(pending).embedding is first
    assert first.next(1) == [[4, 5, 6]]
    first.add([[0.3]])
    assert first.result() == [[0.1], [0.2], [0.3]]
    assert take(pending).embedding is second
