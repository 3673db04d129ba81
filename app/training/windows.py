"""How a stream of tokens is cut: into packed windows to learn from, and into windows that score every token once.

Knows nothing of torch or text. A stream is all texts one after the other, an end token between them; a window takes
whatever follows in the stream, so that none of it is padding.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.errors import InvalidInput

Starts = npt.NDArray[np.int64]


class PackedWindows:
    """Windows of `context` tokens in an endless order that `seed` decides: pass after pass over the stream.

    Each pass cuts the stream at other places and shuffles the pieces; window n is the same whoever asks, and whenever.
    """

    def __init__(self, stream_tokens: int, context: int, seed: int) -> None:
        """Raises InvalidInput for a stream that is too short for two windows."""
        self.per_pass = stream_tokens // context - 1
        if self.per_pass < 1:
            raise InvalidInput(
                f"{stream_tokens} tokens to learn from are less than two windows of model.context={context}; "
                "lower model.context or data.test_share"
            )
        self._context = context
        self._order = functools.lru_cache(maxsize=2)(functools.partial(self._starts_of, seed))

    def starts(self, first: int, count: int) -> Starts:
        """Where windows `first` to `first + count - 1` begin; each has the token after its last, too."""
        numbers = np.arange(first, first + count)
        passes, places = np.divmod(numbers, self.per_pass)
        return np.array([self._order(int(turn))[place] for turn, place in zip(passes, places, strict=True)])

    def _starts_of(self, seed: int, turn: int) -> Starts:
        rng = np.random.default_rng((seed, turn))
        starts: Starts = rng.integers(self._context) + self._context * rng.permutation(self.per_pass)
        return starts


@dataclass(frozen=True, slots=True)
class ScoringWindows:
    """Windows over a whole stream; of each the predictions from `fresh` on count, so every token counts once."""

    context: int
    """Tokens that a window reads."""
    starts: Starts
    fresh: Starts
    """For each window the place in the stream of its first token that no earlier window predicts."""

    def part(self, at_most: int) -> "ScoringWindows":
        """`at_most` of the windows, evenly spread."""
        every = max(1, -(-len(self.starts) // at_most))
        return ScoringWindows(self.context, self.starts[::every], self.fresh[::every])


def scoring_windows(stream_tokens: int, context: int) -> ScoringWindows:
    """Windows three quarters of a context apart: but at the beginning, a token is predicted from a quarter or more."""
    context = min(context, stream_tokens - 1)
    last = stream_tokens - 1 - context
    starts = np.array([*range(0, last, max(1, 3 * context // 4)), last], dtype=np.int64)
    fresh = np.concatenate([[1], starts[:-1] + context + 1])
    return ScoringWindows(context, starts, fresh)
