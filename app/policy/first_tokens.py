"""How long prompts wait for their first token under each limit of sequences at once, and whether that is too long.

Pure: time comes in with what was seen. Knows nothing of energy. What is seen tells of the load of the moment too, so it
is forgotten by half every `_HALF_LIFE_S`. Where prompts are late while others queue, every smaller limit makes them
later still; that is inferred, not tried.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.policy.setting_search import Room
from app.policy.setting_table import Tally

_HALF_LIFE_S = 120.0
_FORGOTTEN = 1.0  # answers
_FEWEST = 5.0  # answers that tell anything
_EPOCH_ALLOWANCE = 1  # late answers; exploring needs some in store


@dataclass(slots=True)
class _Waits:
    tally: Tally
    queued: bool
    """Whether prompts were waiting when it was added to last."""


class FirstTokens:
    """`first_token_s` None: never late."""

    def __init__(self, first_token_s: float | None, allowed_late: float) -> None:
        self._first_token_s, self._allowed_late = first_token_s, allowed_late
        self._epoch_answers = math.ceil(_EPOCH_ALLOWANCE / allowed_late)
        self._room = Room(allowed_late, self._epoch_answers)
        self._waits: dict[int, _Waits] = {}
        self._at_s: float | None = None
        self._changed_at_s = -math.inf
        self._passed_over = 0

    @property
    def has_room(self) -> bool:
        """Whether a limit that makes prompts wait too long can be afforded for a while."""
        return self._first_token_s is None or self._room.enough

    def add(self, limit: int, at_s: float, waits_s: Sequence[float], *, queued: bool) -> bool:
        """Count first tokens that came at about `at_s` under `limit`; True if that is now known to miss."""
        if self._first_token_s is None or not waits_s:
            return False
        self._fade(at_s)
        self._room.add(sum(wait_s > self._first_token_s for wait_s in waits_s), len(waits_s))
        counted = [wait_s for wait_s in waits_s if self._is_of_this_limit(at_s - wait_s)]
        if counted:
            waits = self._waits.setdefault(limit, _Waits(Tally(0, 0), queued))
            waits.tally.add(sum(wait_s > self._first_token_s for wait_s in counted), len(counted))
            waits.queued = queued
        return self.misses(limit)

    def limit_changed(self, at_s: float) -> None:
        """Prompts that came before `at_s` waited under another limit."""
        self._changed_at_s, self._passed_over = at_s, 0

    def misses(self, limit: int) -> bool:
        """Whether the objective is missed under `limit`, with the doubt in its favour."""
        return any(
            waits.tally.answers >= _FEWEST and waits.tally.beyond(self._allowed_late)
            for known, waits in self._waits.items()
            if known == limit or (known > limit and waits.queued)
        )

    def excess(self, limit: int) -> float:
        """Share of prompts over what is allowed; 0 where nothing is known."""
        return max(0.0, (self.late_share(limit) or 0.0) - self._allowed_late)

    def late_share(self, limit: int) -> float | None:
        """None: nothing is known of `limit` under the present load."""
        waits = self._waits.get(limit)
        return waits.tally.share if waits else None

    def _is_of_this_limit(self, arrived_s: float) -> bool:
        # Under overload the queue never clears: those that came before then tell enough of the limit.
        if arrived_s >= self._changed_at_s or self._passed_over >= 2 * self._epoch_answers:
            return True
        self._passed_over += 1
        return False

    def _fade(self, at_s: float) -> None:
        keep = 0.5 ** ((at_s - self._at_s) / _HALF_LIFE_S) if self._at_s is not None else 1.0
        self._at_s = at_s
        for waits in self._waits.values():
            waits.tally.add(0, 0, keep)
        self._waits = {limit: waits for limit, waits in self._waits.items() if waits.tally.answers >= _FORGOTTEN}
