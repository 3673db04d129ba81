"""Compressed bodies: what is damaged, what is preferred."""

import pytest

from app.errors import InvalidInput, TooLarge
from app.protocol.coding import CODINGS, expand, preferred, shrink


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_not_one_whole_stream_is_refused(coding):
    sent = shrink(coding, b"abc" * 1000)
    assert expand(coding, sent, 3000) == b"abc" * 1000
    for damaged, says in (
        (sent[:-3], "ends inside"),
        (b"", "ends inside"),
        (sent + b"x", "1 bytes follow"),
        (b"hello", "is not"),
    ):
        with pytest.raises(InvalidInput, match=says):
            expand(coding, damaged, 3000)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_stops_at_the_bound(coding):
    bomb = shrink(coding, bytes(50_000_000))
    with pytest.raises(TooLarge, match="more than 1000 bytes"):
        expand(coding, bomb, 1000)


def test_a_zstd_window_beyond_eight_mebibytes_is_refused():
    from backports import zstd

    options = {zstd.CompressionParameter.window_log: 24, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    sent = compressor.compress(bytes(100)) + compressor.flush()
    with pytest.raises(InvalidInput, match="is not zstd"):
        expand("zstd", sent, 1000)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, zstd;q=0.5", "gzip"),
        ("*", "zstd"),
        ("*, zstd;q=0", "gzip"),
        ("identity, gzip;q=0.5", ""),
        ("br", ""),
        ("", ""),
        ("gzip;q=zero", ""),
        (" GZIP ; Q=1 ", "gzip"),
    ],
)
def test_the_best_coding_that_the_caller_accepts_is_chosen(accepted, coding):
    assert preferred(accepted) == coding
