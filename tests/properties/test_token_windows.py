"""Windows over any stream: scoring counts every token once, packing never reaches past the end."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.training.windows import PackedWindows, scoring_windows


@given(st.integers(2, 400), st.integers(1, 50))
def test_scoring_counts_every_token_but_the_first_once(tokens: int, context: int) -> None:
    windows = scoring_windows(tokens, context)
    counted = np.zeros(tokens, dtype=int)
    for start, fresh in zip(windows.starts, windows.fresh, strict=True):
        predicted = np.arange(start + 1, start + windows.context + 1)
        counted[predicted[predicted >= fresh]] += 1
    assert counted[0] == 0
    assert (counted[1:] == 1).all()


@given(st.integers(2, 40), st.integers(16, 500), st.integers(0, 1000), st.integers(0, 100), st.integers(1, 40))
def test_packed_windows_lie_within_the_stream(context: int, extra: int, seed: int, first: int, count: int) -> None:
    tokens = 2 * context + extra
    starts = PackedWindows(tokens, context, seed).starts(first, count)
    assert len(starts) == count
    assert starts.min() >= 0
    assert starts.max() + context < tokens
