"""What general compressors make of a text: the measure that a language model's bits per byte stands beside.

Knows nothing of models. Both see the whole text as one piece and nothing else, whereas a model has learned from texts
of the same kind and is not counted itself: the comparison says what was learned, not which packs better.
"""

import gzip

from backports import zstd

GZIP_LEVEL, ZSTD_LEVEL = 9, 19


def compressed_bits_per_byte(text: bytes) -> dict[str, float]:
    """Bits per byte of `text` packed by `gzip -9` and by `zstd -19`, headers included."""
    packed = {
        f"gzip_{GZIP_LEVEL}": gzip.compress(text, GZIP_LEVEL, mtime=0),
        f"zstd_{ZSTD_LEVEL}": zstd.compress(text, ZSTD_LEVEL),
    }
    return {name: 8 * len(content) / len(text) for name, content in packed.items()}
