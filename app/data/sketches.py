"""Keys by which equal and similar records meet: digests, and MinHash bands of runs of words.

Knows nothing of tables or Ray. MinHash after A. Broder, "On the resemblance and containment of documents" (SEQUENCES
1997, doi 10.1109/SEQUEN.1997.666900): two texts share each value of their signatures with the probability of the
Jaccard similarity of their runs. Bands after Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets" (2014), 3.4.

    bands = Bands(Near(similarity=0.8))
    bands.keys(text)                                  # UINT64 [bands]: one equal key makes two texts a candidate pair
    similarity(runs(one, 5), runs(other, 5))          # 0.0 .. 1.0
"""

import hashlib
import re
import zlib

import numpy as np
import numpy.typing as npt

from app.data.spec import Near

Keys = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+|[^\w\s]")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MISSED = 1e-3
"""A pair that is just similar enough is missed by all bands with this probability at most."""


def digest_keys(content: bytes) -> tuple[int, int]:
    """128 bits of BLAKE2b as two unsigned integers: records that share them are equal."""
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def runs(text: str, words: int) -> Keys:
    """Hashes of all runs of `words` words and signs in `text`, sorted, each once; of a shorter text one."""
    hashes = np.fromiter((zlib.crc32(word.encode()) for word in _WORD.findall(text)), dtype=np.uint64)
    if not len(hashes):
        return hashes
    words = min(words, len(hashes))
    rolled = np.zeros(len(hashes) - words + 1, dtype=np.uint64)
    for place in range(words):
        rolled = rolled * _FACTOR + hashes[place : place + len(rolled)]
    return np.unique(_mixed(rolled))


def similarity(one: Keys, other: Keys) -> float:
    """Jaccard similarity of two sets of runs, 0..1; of two empty ones 0."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    either = len(one) + len(other) - shared
    return shared / either if either else 0.0


class Bands:
    """Keys of texts, so that those of `near.similarity` or more share one."""

    def __init__(self, near: Near) -> None:
        self._words = near.words
        self._rows = band_rows(near.similarity, near.hashes)
        self.count = near.hashes // self._rows
        rng = np.random.default_rng(near.seed)
        drawn = rng.integers(0, 2**64, size=(2, self.count * self._rows), dtype=np.uint64)
        self._factors, self._offsets = drawn[0] | np.uint64(1), drawn[1]

    def keys(self, text: str) -> Keys | None:
        """UINT64 [count]; None for a text without words."""
        found = runs(text, self._words)
        if not len(found):
            return None
        signature = np.array(
            [
                (_mixed(found * factor + offset)).min()
                for factor, offset in zip(self._factors, self._offsets, strict=True)
            ]
        ).reshape(self.count, self._rows)
        keys = np.arange(self.count, dtype=np.uint64)
        for place in range(self._rows):
            keys = _mixed(keys * _FACTOR + signature[:, place])
        return keys


def band_rows(least: float, hashes: int) -> int:
    """Values in a band: as many as leave a pair of similarity `least` a chance of 1 - 0.001 to share a band."""
    fitting = [rows for rows in range(1, hashes + 1) if (1 - least**rows) ** (hashes // rows) <= _MISSED]
    return max(fitting, default=1)


def _mixed(values: Keys) -> Keys:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014): every bit depends on every other."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
