"""Texts whose vectors somebody waits for, done a few at a time.

Knows nothing of models. Filled by one thread, read by another.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future


class EmbeddingJob:
    """The texts of one call, each a sequence of tokens."""

    def __init__(self, prompt_id: str, texts: Sequence[Sequence[int]]) -> None:
        self.prompt_id = prompt_id
        self._left = deque(texts)
        self._vectors: list[list[float]] = []
        self._done: Future[list[list[float]]] = Future()
        if not texts:
            self._done.set_result([])

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self._done.done()

    def next(self, max_tokens: int) -> list[Sequence[int]]:
        """The next texts of `max_tokens` together, one at least."""
        taken, tokens = [self._left.popleft()], 0
        tokens = len(taken[0])
        while self._left and tokens + len(self._left[0]) <= max_tokens:
            taken.append(self._left.popleft())
            tokens += len(taken[-1])
        return taken

    def add(self, vectors: Sequence[list[float]]) -> None:
        """The vectors of the texts that were taken."""
        self._vectors += vectors
        if not self._left:
            self._done.set_result(self._vectors)

    def fail(self, error: Exception) -> None:
        """What `result` raises."""
        if not self._done.done():
            self._done.set_exception(error)

    def result(self) -> list[list[float]]:
        """Blocks until every text is done."""
        return self._done.result()
