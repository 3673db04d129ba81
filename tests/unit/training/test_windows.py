"""How streams are cut: by hand in the small."""

import itertools

import pytest

from app.errors import InvalidInput
from app.training.windows import PackedWindows, scoring_windows


def test_a_pass_cuts_the_stream_into_pieces_without_gap_or_overlap() -> None:
    windows = PackedWindows(50, 8, seed=1)
    assert windows.per_pass == 5  # 50 // 8 - 1: room for the offset
    starts = sorted(windows.starts(0, 5))
    assert [after - before for before, after in itertools.pairwise(starts)] == [8, 8, 8, 8]
    assert 0 <= starts[0] < 8
    assert starts[-1] + 8 < 50  # the token after the last is there, too


def test_window_n_is_the_same_whoever_asks_and_in_whatever_pieces() -> None:
    whole = PackedWindows(200, 8, seed=1).starts(0, 60)
    again = PackedWindows(200, 8, seed=1)
    pieces = [start for first in range(0, 60, 7) for start in again.starts(first, min(7, 60 - first))]
    assert list(whole) == pieces
    assert list(PackedWindows(200, 8, seed=2).starts(0, 60)) != pieces


def test_a_stream_shorter_than_two_windows_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"15 tokens .* lower model.context"):
        PackedWindows(15, 8, seed=0)


def test_scoring_windows_overlap_by_a_quarter_and_count_what_is_new() -> None:
    windows = scoring_windows(12, 4)
    # Tokens 1..11 are predicted; the last window ends with the stream.
    assert windows.starts.tolist() == [0, 3, 6, 7]
    assert windows.fresh.tolist() == [1, 5, 8, 11]


def test_a_stream_shorter_than_the_context_is_one_window() -> None:
    windows = scoring_windows(3, 100)
    assert (windows.context, windows.starts.tolist(), windows.fresh.tolist()) == (2, [0], [1])


def test_a_part_is_spread_over_the_whole() -> None:
    windows = scoring_windows(10_000, 10)
    part = windows.part(64)
    assert 32 <= len(part.starts) <= 64
    assert part.starts[-1] > 9_000
