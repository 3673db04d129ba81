"""What is known of each limit of sequences at once: what a token costs, how long gaps are, how many tokens come.

Pure. Learnt by epochs of steps with about the same sequences, whatever limit was in force. Knows nothing of what is to
be tried next, nor of first tokens. That a limit missed the objective is forgotten when it may no longer: when all gaps
are shorter than they were, when those of fewer sequences are and leave room for it (gaps grow no faster than the
sequences), and when it is not late as soon as it is tried again.

    known = KnownLimits(gap_s=0.05, gap_quantile=0.9)
    known.learn(16, epoch)                         # SeenSum of steps with about 16 sequences
    known.table.meets(16), known.gap_quantile_s[16], known.tokens_per_s[16]
"""

from app.policy.setting_search import Doubts
from app.policy.setting_table import SettingTable, Tally
from app.policy.steps_seen import SeenSum

_GAP_CHANGE = 1.4
_SHORTER = 0.9
_GAP_FADE = 0.97  # the cheapest setting is often the last to meet the objective: its share must be known well


class KnownLimits:
    """By limit. `gap_s` and `gap_quantile` are the objective."""

    def __init__(self, gap_s: float, gap_quantile: float) -> None:
        self._gap_s, self._gap_quantile = gap_s, gap_quantile
        self.table: SettingTable[int] = SettingTable(1 - gap_quantile, _GAP_FADE)
        self.gap_quantile_s: dict[int, float] = {}
        """Of the last few epochs."""
        self.tokens_per_s: dict[int, float] = {}
        """Of the last few epochs."""
        self.epochs = 0
        """Learnt so far."""
        self._doubts = Doubts(self.table, _GAP_CHANGE)
        self._when_missed: dict[int, dict[int, float]] = {}
        """Of each limit that missed, all gap quantiles as they were then."""

    def learn(self, ran: int, epoch: SeenSum) -> None:
        """One epoch of steps with about `ran` sequences."""
        self.epochs += 1
        cost_uj = epoch.energy_uj / max(epoch.tokens, 1)
        gaps_by = self._doubts.weigh(ran, cost_uj, max(epoch.mean_gap_s, 1e-9))
        if gaps_by is not None and gaps_by <= _SHORTER:
            for limit in self._missing():
                self._forget(limit)
        if self.table.misses(ran) and Tally(epoch.late, epoch.answers).within(1 - self._gap_quantile):
            self._forget(ran)
        self.table.learn(ran, self.epochs, cost_uj, epoch.late, epoch.answers)
        _average(self.tokens_per_s, ran, epoch.tokens / max(epoch.seconds, 1e-9))
        _average(self.gap_quantile_s, ran, epoch.gap_quantile_s(self._gap_quantile))
        if self.table.misses(ran):
            self._when_missed[ran] = dict(self.gap_quantile_s)
        for limit in self._missing():
            if limit > ran and self._leaves_room(ran, limit):
                self._forget(limit)

    def gaps_exceed(self, limit: int, by: float) -> bool:
        """Whether gaps at a known `limit` are longer than the objective by that factor."""
        return self.gap_quantile_s[limit] > by * self._gap_s

    def _missing(self) -> list[int]:
        return [limit for limit in self.table if self.table.misses(limit)]

    def _leaves_room(self, ran: int, limit: int) -> bool:
        """Whether gaps at `ran` are shorter than when `limit` missed, and so short that those at `limit` may meet."""
        now_s, then_s = self.gap_quantile_s[ran], self._when_missed.get(limit, {}).get(ran, 0.0)
        return now_s <= _SHORTER * then_s and now_s * limit <= self._gap_s * ran

    def _forget(self, limit: int) -> None:
        self.table.forget(limit)
        del self.gap_quantile_s[limit], self.tokens_per_s[limit]
        self._when_missed.pop(limit, None)


def _average(known: dict[int, float], limit: int, value: float) -> None:
    """Of the last few."""
    known[limit] = known.get(limit, value) / 2 + value / 2
