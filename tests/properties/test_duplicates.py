"""Whatever the records and however their keys are dealt out: of equal ones the first stays; what is clean stays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.data.cleaning import clean_text
from app.data.matching import dealt, keyed, later_ones, pairs_of
from app.data.sketches import digest_keys, runs, similarity
from app.data.spec import Clean

texts = st.lists(st.text("ab \n", max_size=4), min_size=1, max_size=60)
cleanings = st.builds(
    Clean,
    unicode=st.sampled_from(["NFC", "NFKC", "none"]),
    line_ends=st.booleans(),
    control=st.booleans(),
    trailing_space=st.booleans(),
)


@given(texts, st.integers(1, 7), st.randoms(use_true_random=False))
def test_of_equal_records_just_the_first_stays(records, parts, chance):
    rows = np.array(sorted(chance.sample(range(10_000), len(records))), dtype=np.int64)
    keys = np.array([digest_keys(text.encode()) for text in records], dtype=np.uint64)
    pairs = np.concatenate([pairs_of(part, neighbours=2) for part in dealt(keyed(rows, keys), parts)])
    gone = {int(row): int(of) for row, of in later_ones(pairs)}
    first = {text: int(row) for text, row in reversed(list(zip(records, rows, strict=True)))}
    assert gone == {int(row): first[text] for text, row in zip(records, rows, strict=True) if first[text] != int(row)}


@given(st.text(), cleanings)
def test_what_is_clean_stays_as_it_is(text, how):
    once = clean_text(text, how)
    assert clean_text(once, how) == once


@given(st.text("abc ", max_size=60), st.text("abc ", max_size=60), st.integers(1, 6))
def test_similarity_is_symmetric_and_one_only_of_equal_sets(one, other, words):
    left, right = runs(one, words), runs(other, words)
    alike = similarity(left, right)
    assert 0 <= alike <= 1
    assert alike == similarity(right, left)
    assert (alike == 1) == (len(left) > 0 and np.array_equal(left, right))
