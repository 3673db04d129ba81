"""How many tokens a second come, busy or not, of late.

Pure: time comes in. Knows nothing of limits.
"""

import math

_FLOW_S = 30.0


class TokenFlow:
    """Older seconds count for less."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._tokens = self._seconds = 0.0

    def add(self, at_s: float, tokens: int) -> None:
        """So many since the last time."""
        passed_s = at_s - self._at_s if self._at_s is not None else 0.0
        keep = math.exp(-max(passed_s, 0.0) / _FLOW_S)
        self._at_s = at_s
        self._tokens = self._tokens * keep + tokens
        self._seconds = self._seconds * keep + passed_s

    @property
    def tokens_per_s(self) -> float:
        """0 while it cannot be told."""
        return self._tokens / self._seconds if self._seconds > 1 else 0.0
