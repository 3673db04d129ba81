"""Whether a limit of sequences at once meets the objectives for gaps and for first tokens together.

Pure. What `SettingSearch` asks (its `Verdicts`). Knows nothing of what is tried when.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.policy.first_tokens import FirstTokens
from app.policy.known_limits import KnownLimits


@dataclass(frozen=True, slots=True)
class LimitVerdicts:
    """Of each limit; `gap_s` is the objective."""

    known: KnownLimits
    first_tokens: FirstTokens
    gap_s: float
    is_too_slow: Callable[[int], bool]
    """Whether prompts would come faster than they could be answered under a limit."""

    def meets(self, limit: int) -> bool:
        """With the doubt against it."""
        return self.known.table.meets(limit) and not self.first_tokens.misses(limit) and not self.is_too_slow(limit)

    def misses(self, limit: int) -> bool:
        """With the doubt in its favour."""
        return self.known.table.misses(limit) or self.first_tokens.misses(limit) or self.is_too_slow(limit)

    def lateness(self, limit: int) -> tuple[float, float]:
        """How far both are exceeded, in twentieths; where that is the same, the cheaper one."""
        gaps = self.known.table.excess(limit) + max(0.0, self.known.gap_quantile_s[limit] / self.gap_s - 1)
        return round(20 * (gaps + self.first_tokens.excess(limit))), self.known.table[limit].cost_uj
