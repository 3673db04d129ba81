"""Compressed bodies: gzip, deflate and zstd, by the names that HTTP's content-encoding has for them.

Knows nothing of headers beyond `accept-encoding`, and nothing of what a body holds. Expanding stops at a bound, so that
a few bytes cannot become gigabytes: at no time is more than the bound held.

    body = expand("zstd", sent, max_bytes)
    coding = preferred("gzip, zstd;q=0.5")          # "gzip"
    sent = shrink(coding, body)

Raises InvalidInput for what is not compressed as it says, TooLarge beyond the bound.
"""

import functools
import zlib
from typing import Protocol

from app.errors import InvalidInput, TooLarge

CODINGS = ("zstd", "gzip", "deflate")
"""What is understood and spoken, the best first."""

_LEVEL = 1
"""The fastest of each: what is left to gain by more is less than what it costs on a server."""

_MAX_WINDOW_LOG = 23
"""8 MiB, the largest window that a zstd body may ask of its reader: RFC 9659 (read 2026-11-22)."""

_WBITS = {"gzip": 31, "deflate": 15}
"""zlib's code for the format around the same compressed data."""


class _Expander(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | bytearray, max_length: int, /) -> bytes: ...


def expand(coding: str, body: bytes | bytearray, max_bytes: int) -> bytes:
    """`body` without its `coding`, which must be one of CODINGS."""
    expander, damaged = _expander(coding)
    try:
        # One more than is allowed tells the largest body from one that is too large.
        plain = expander.decompress(body, max_bytes + 1)
    except damaged as error:
        raise InvalidInput(f"the body is not {coding}: {error}") from error
    if len(plain) > max_bytes:
        raise TooLarge(
            f"the body has more than {max_bytes} bytes when decompressed, at most {max_bytes} are read; "
            "send fewer rows per request"
        )
    if not expander.eof:
        raise InvalidInput(f"the body ends inside its {coding} data; send it whole")
    if expander.unused_data:
        raise InvalidInput(f"{len(expander.unused_data)} bytes follow the body's {coding} data; send one stream")
    return plain


def shrink(coding: str, body: bytes) -> bytes:
    """`body` in `coding`, which must be one of CODINGS."""
    if coding == "zstd":
        from backports import zstd

        return zstd.compress(body, _LEVEL)
    return zlib.compress(body, _LEVEL, wbits=_WBITS[coding])


@functools.lru_cache(maxsize=256)
def preferred(accept_encoding: str) -> str:
    """The coding to answer in: the caller's best by weight, ours among equals. Empty: as it is."""
    weights = dict(_weight(item) for item in accept_encoding.lower().split(","))
    wanted = [(weights.get(coding, weights.get("*", 0.0)), coding) for coding in CODINGS]
    weight, coding = max(wanted, key=lambda pair: pair[0])
    return coding if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def _weight(item: str) -> tuple[str, float]:
    coding, _, rest = item.partition(";")
    name, _, value = rest.strip().partition("=")
    try:
        weight = float(value) if name.strip() == "q" else 1.0
    except ValueError:
        weight = 0.0
    return coding.strip(), weight


def _expander(coding: str) -> tuple[_Expander, type[Exception]]:
    if coding == "zstd":
        from backports import zstd

        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        return zstd.ZstdDecompressor(options=options), zstd.ZstdError
    return zlib.decompressobj(_WBITS[coding]), zlib.error
