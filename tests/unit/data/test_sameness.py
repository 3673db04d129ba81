"""Keys, pairs and what goes: equal records all, similar ones as their runs of words say."""

import numpy as np
import pytest

from app.data.matching import dealt, keyed, later_ones, pairs_of
from app.data.sketches import Bands, band_rows, digest_keys, runs, similarity
from app.data.spec import Near

WORDS = [f"word{i}" for i in range(400)]


def altered(changes):
    """The words with `changes` of them replaced, evenly spread."""
    words = list(WORDS)
    for i in range(changes):
        words[i * len(words) // changes + 10] = f"other{i}"
    return " ".join(words)


def test_runs_are_sets_of_hashes_that_do_not_depend_on_blanks():
    assert np.array_equal(runs("a b  c\n d", 2), runs("a b c d", 2))
    assert len(runs("a b c d", 2)) == 3
    assert len(runs("a b", 5)) == 1
    assert len(runs("", 5)) == 0
    assert len(runs("a a a a a", 2)) == 1


def test_similarity_is_jaccard_of_runs():
    # a b|b c|c d against a b|b c|c e: two of four
    assert similarity(runs("a b c d", 2), runs("a b c e", 2)) == pytest.approx(0.5)
    assert similarity(runs("a b c", 2), runs("a b c", 2)) == 1
    assert similarity(runs("", 2), runs("", 2)) == 0


def test_bands_are_as_wide_as_a_missed_pair_in_a_thousand_allows():
    for least in (0.5, 0.7, 0.8, 0.9):
        rows = band_rows(least, 128)
        assert (1 - least**rows) ** (128 // rows) <= 1e-3
        assert (1 - least ** (rows + 1)) ** (128 // (rows + 1)) > 1e-3


def test_similar_texts_share_a_band_and_others_do_not():
    bands = Bands(Near(similarity=0.8))
    whole = bands.keys(" ".join(WORDS))
    near = bands.keys(altered(8))  # 8 changes spoil 40 of 396 runs: similarity 356 / 436 = 0.82
    far = bands.keys(" ".join(f"else{i}" for i in range(400)))
    assert whole.shape == (bands.count,)
    assert (whole == near).any()
    assert not (whole == far).any()
    assert bands.keys(" \n") is None
    assert len(np.unique(whole)) == bands.count


def test_equal_contents_have_equal_digests():
    assert digest_keys(b"a") == digest_keys(b"a") != digest_keys(b"b")


def test_pairs_are_found_within_a_key_whatever_part_it_comes_to():
    rows = np.array([7, 3, 9, 5], dtype=np.int64)
    keys = np.array([[1, 1], [1, 1], [2, 1], [1, 1]], dtype=np.uint64)
    whole = pairs_of(keyed(rows, keys))
    assert whole.tolist() == [[5, 3], [7, 3], [7, 5]]
    parts = [pairs_of(part) for part in dealt(keyed(rows, keys), 3)]
    assert sorted(np.concatenate(parts).tolist()) == whole.tolist()
    assert pairs_of(keyed(rows[:0], keys[:0])).shape == (0, 2)


def test_a_crowd_is_bound_together_by_few_pairs():
    rows = np.arange(1000, dtype=np.int64)
    pairs = pairs_of(keyed(rows, np.ones((1000, 1), dtype=np.uint64)), neighbours=2)
    assert len(pairs) < 3000
    gone = later_ones(pairs)
    assert gone[:, 0].tolist() == list(range(1, 1000))
    assert set(gone[:, 1].tolist()) == {0}


def test_of_records_that_pairs_bind_the_first_stays():
    gone = later_ones(np.array([[5, 3], [9, 5], [8, 2]], dtype=np.int64))
    assert gone.tolist() == [[5, 3], [8, 2], [9, 3]]
    assert later_ones(np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)
