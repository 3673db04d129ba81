"""Who leaves together, and when: by rows, by waiting, in order of falling due."""

import pytest

from app.errors import Unavailable
from app.policy.batching import BatchLimits
from app.serving.batch_queue import BatchQueue

LIMITS = BatchLimits(max_rows=4, max_wait_s=1.0)


@pytest.fixture
def queue():
    return BatchQueue(max_queued=100)


def items(batch):
    return [entry.item for entry in batch]


def test_nobody_waits_in_an_empty_queue(queue):
    assert queue.due_s(LIMITS) is None
    assert queue.take(LIMITS) == []


def test_a_batch_is_due_when_its_oldest_has_waited_long_enough(queue):
    queue.add("a", "kind", 1, 10.0)
    queue.add("b", "kind", 2, 10.5)
    assert queue.due_s(LIMITS) == 11.0
    assert items(queue.take(LIMITS)) == ["a", "b"]
    assert len(queue) == 0


def test_a_full_batch_is_due_at_once(queue):
    queue.add("a", "kind", 3, 10.0)
    queue.add("b", "kind", 1, 10.5)
    assert queue.due_s(LIMITS) == 10.0


def test_no_batch_has_more_rows_than_allowed_and_order_is_kept(queue):
    for name, rows in [("a", 2), ("b", 1), ("c", 2), ("d", 1)]:
        queue.add(name, "kind", rows, 10.0)
    assert items(queue.take(LIMITS)) == ["a", "b"]
    assert items(queue.take(LIMITS)) == ["c", "d"]


def test_a_request_larger_than_a_batch_leaves_alone(queue):
    queue.add("big", "kind", 9, 10.0)
    queue.add("small", "kind", 1, 10.0)
    assert items(queue.take(LIMITS)) == ["big"]


def test_kinds_do_not_mix_and_what_has_none_leaves_alone(queue):
    for name, kind in [("a", "x"), ("b", "y"), ("c", "x"), ("d", None), ("e", None)]:
        queue.add(name, kind, 1, 10.0)
    assert [items(queue.take(LIMITS)) for _ in range(4)] == [["a", "c"], ["b"], ["d"], ["e"]]


def test_a_lone_request_is_not_kept_waiting_by_a_stream_of_full_batches(queue):
    queue.add("lone", "rare", 1, 10.0)
    for second in range(10):
        queue.add(f"full-{second}", "common", 4, 10.5 + second)
    left = []
    while "lone" not in left:
        left += items(queue.take(LIMITS))
    assert left == ["full-0", "lone"]


def test_a_request_that_is_dropped_is_gone_and_dropping_again_does_nothing(queue):
    first = queue.add("a", "kind", 3, 10.0)
    queue.add("b", "kind", 2, 11.0)
    queue.drop(first)
    queue.drop(first)
    assert (len(queue), queue.due_s(LIMITS)) == (1, 12.0)
    assert items(queue.take(LIMITS)) == ["b"]
    queue.drop(first)
    assert len(queue) == 0


def test_one_too_many_is_refused_until_somebody_leaves():
    queue = BatchQueue(max_queued=2)
    queue.add("a", "kind", 1, 10.0)
    last = queue.add("b", None, 1, 10.0)
    with pytest.raises(Unavailable, match="2 requests wait already, at most 2 do"):
        queue.add("c", "kind", 1, 10.0)
    queue.drop(last)
    queue.add("c", "kind", 1, 10.0)


def test_take_all_leaves_nothing(queue):
    queue.add("a", "x", 1, 10.0)
    queue.add("b", None, 1, 10.0)
    assert items(queue.take_all()) == ["a", "b"]
    assert (len(queue), queue.due_s(LIMITS)) == (0, None)


AT_ONCE = BatchLimits(max_rows=8, max_wait_s=0.0)


def test_after_a_batch_the_next_waits_a_little_for_those_who_were_answered(queue):
    queue.add("waits already", "kind", 1, 10.0)
    queue.answered(requests=2, took_s=0.080, now_s=10.0)
    assert queue.due_s(AT_ONCE) == pytest.approx(10.005)  # a sixteenth
    queue.add("back", "kind", 1, 10.001)
    assert queue.due_s(AT_ONCE) == pytest.approx(10.005)
    queue.add("back, too", "kind", 1, 10.002)
    assert queue.due_s(AT_ONCE) == 10.0


def test_that_wait_is_bounded_and_there_is_none_for_whom_a_batch_has_no_room(queue):
    queue.answered(requests=64, took_s=5.0, now_s=10.0)
    queue.add(0, "kind", 1, 10.0)
    assert queue.due_s(AT_ONCE) == pytest.approx(10.01)
    for number in range(1, 8):
        queue.add(number, "kind", 1, 10.0)
    assert queue.due_s(AT_ONCE) == 10.0


def test_nobody_waits_for_a_lone_client_nor_where_the_wait_is_set(queue):
    queue.answered(requests=5, took_s=0.080, now_s=10.0)
    queue.add("a", "kind", 1, 10.0)
    assert queue.due_s(LIMITS) == 11.0
    queue.answered(requests=1, took_s=0.080, now_s=10.0)
    assert queue.due_s(AT_ONCE) == 10.0
