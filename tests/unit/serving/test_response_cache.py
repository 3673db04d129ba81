"""Exact, bounded in bytes and age, apart by tenant."""

import tracemalloc

import numpy as np
import pytest

from app.clock import ManualClock
from app.serving.response_cache import ResponseCache, key_of

SECOND = 1_000_000_000


def texts(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def outputs(kilobytes, fill=0):
    return {"y": np.full(kilobytes * 125, fill, np.float64)}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def cache(clock):
    return ResponseCache(max_bytes=100_000, ttl_s=60, clock=clock)


def test_what_was_put_is_found_again_with_where_it_came_from(cache):
    cache.put(b"k", outputs(1, 7), "origin")
    kept = cache.get(b"k")
    assert kept.origin == "origin"
    np.testing.assert_array_equal(kept.outputs["y"], np.full(125, 7.0))
    assert cache.get(b"other") is None


def test_an_answer_is_forgotten_after_its_time(cache, clock):
    cache.put(b"k", outputs(1), None)
    clock.advance(60 * SECOND - 1)
    assert cache.get(b"k")
    clock.advance(1)
    assert cache.get(b"k") is None
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_the_bound_is_never_exceeded_and_the_least_recently_used_leaves_first(cache):
    for number in range(1000):
        cache.put(str(number).encode(), outputs(10, number), None)
        cache.get(b"0")
        assert cache.size_bytes <= 100_000
    assert cache.get(b"0")
    assert cache.get(b"999")
    assert cache.get(b"1") is None
    assert len(cache) == 9  # of 10 kB and an entry's own kilobyte each


def test_an_answer_larger_than_the_bound_is_not_kept_and_drives_nobody_out(cache):
    cache.put(b"small", outputs(1), None)
    cache.put(b"large", outputs(100), None)
    assert cache.get(b"small")
    assert cache.get(b"large") is None


def test_putting_again_replaces_and_counts_once(cache):
    cache.put(b"k", outputs(50), 1)
    cache.put(b"k", outputs(60), 2)
    assert (len(cache), cache.get(b"k").origin) == (1, 2)
    assert cache.size_bytes < 70_000


def test_the_size_of_bytes_counts_their_content(cache):
    cache.put(b"k", {"t": texts(b"x" * 90_000)}, None)
    assert cache.size_bytes > 90_000
    cache.put(b"l", {"t": texts(b"x" * 90_000)}, None)
    assert len(cache) == 1


def test_a_kept_answer_does_not_hold_its_batch_and_cannot_be_changed(cache):
    batch = np.zeros((1000, 10))
    cache.put(b"k", {"y": batch[3:4]}, None)
    batch[3] = 1
    kept = cache.get(b"k").outputs["y"]
    assert kept.base is None
    assert not kept.any()
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1


def test_what_is_really_held_stays_within_the_bound(clock):
    """As Python and numpy allocate it, for answers from tiny to large, numbers and BYTES."""
    tracemalloc.start()
    try:
        cache = ResponseCache(max_bytes=2_000_000, ttl_s=60, clock=clock)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(6_000):
            size = 1 + number * 7919 % 3_000
            few = {"y": np.full((size % 50, 4), number, np.float32), "t": texts(*[b"%d" % n for n in range(size % 9)])}
            cache.put(b"%032d" % number, few if number % 3 else {"t": texts(b"x" * size * 5)}, None)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) > 100
    assert held < 2_000_000


BASE = {"x": np.array([1, 2], np.int64)}
DIFFERENT = [
    ("other", BASE, ()),
    ("acme", {"x": np.array([1, 3], np.int64)}, ()),
    ("acme", {"x": np.array([1, 2], np.uint64)}, ()),
    ("acme", {"x": np.array([[1, 2]], np.int64)}, ()),
    ("acme", {"z": np.array([1, 2], np.int64)}, ()),
    ("acme", BASE, ("y",)),
    ("acme", BASE, ("y", "z")),
    ("acme", BASE, ("z", "y")),
    ("acme", {"x": texts(b"ab", b"c")}, ()),
    ("acme", {"x": texts(b"a", b"bc")}, ()),
    ("acme", {"x": texts(b"abc")}, ()),
    ("acme", {"x": np.zeros((0, 3), np.int64)}, ()),
    ("acme", {"x": np.zeros((0, 4), np.int64)}, ()),
    ("acme", {"x": np.array(1, np.int64)}, ()),
]


def test_everything_that_may_change_an_answer_changes_the_key():
    keys = {key_of(*case) for case in DIFFERENT}
    assert len(keys | {key_of("acme", BASE, ())}) == len(DIFFERENT) + 1


def test_equal_requests_have_one_key_however_they_lie_in_memory():
    both = {"x": np.array([1, 2], np.int64), "a": np.ones((2, 3), np.float32)}
    again = {"a": np.ones((3, 2), np.float32).T, "x": np.array([1, 9, 2, 9], np.int64)[::2]}
    assert key_of("acme", both, ()) == key_of("acme", again, ())
