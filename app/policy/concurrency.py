"""The governor of concurrency: how many sequences at once need the least energy per token within latency objectives.

Pure: time comes in with what was seen, and there is no chance in it. Knows nothing of engines, queues and meters.

    governor = ConcurrencyGovernor(TokenObjective(gap_s=0.05, first_token_s=1.0), concurrency_grid(most=128))
    governor.observe(StepSeen(at_s, seconds, sequences, waiting, tokens, energy_uj, gaps, first_tokens_s))
    engine.limit(governor.limit())                 # after each step, or each fraction of a second
    governor.explain()                             # inputs, alternatives, expected saving

What a step costs and how long it takes depends on the sequences in it, whatever the limit: so both are learnt for the
number of sequences that ran, and stay known when the load changes. How long a prompt waits for its first token depends
on the limit and the load: it is learnt for the limit in force, and forgotten within minutes. A limit that the load does
not fill costs nothing and stays. Among larger limits, the next one is tried while prompts wait, or the one after it,
if gaps would meet the objective even were they to grow with the sequences; smaller limits while the first tokens leave
room. How epochs, doubt and exploring work: app/policy/setting_search.py.

Raises InvalidInput for a grid that is empty or has a setting below 1, or a first setting that is not in it.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput
from app.policy.first_tokens import FirstTokens
from app.policy.governed import Governed, Tried
from app.policy.known_limits import KnownLimits
from app.policy.limit_verdicts import LimitVerdicts
from app.policy.setting_search import TOLERANCE, Choice, Room, SettingSearch
from app.policy.steps_seen import SeenSum, StepSeen
from app.policy.token_flow import TokenFlow

_MIN_EPOCH_S = 0.5  # several readings of a meter
_CUT_SHORT = 3  # times the late gaps that an epoch may have
_SETTLE_S = 2.0
_FULL = 0.9  # of the limit: some are always just coming or going
_SPARE = 1.05  # of the tokens that come
_HOPELESS = 1.25  # times the objective; gaps that long do not get shorter with more sequences
_HOPELESS_EPOCHS = 200  # until such a limit may be tried again


class TokenObjective(BaseModel):
    """What clients of a stream feel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gap_s: float = Field(gt=0)
    """Between two tokens of a sequence, kept for `gap_quantile` of all tokens."""
    gap_quantile: float = Field(default=0.9, gt=0, lt=1)
    first_token_s: float | None = Field(default=None, gt=0)
    """From arrival to the first token, kept for `first_token_quantile` of prompts; None: does not matter."""
    first_token_quantile: float = Field(default=0.95, gt=0, lt=1)


@dataclass(frozen=True, slots=True)
class Alternative:
    """What is known of one limit."""

    limit: int
    uj_per_token: float
    late_gaps: float
    """Share of all gaps, faded."""
    late_first_tokens: float | None
    """Share; None: not known under the present load."""
    meets: bool
    misses: bool
    """Neither: not known well enough."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the limit is what it is, for people."""

    limit: int
    reason: str
    alternatives: tuple[Alternative, ...]
    expected_saving: float | None
    """By the best so far, of the energy per token at the limit it began with; negative: what the objectives cost.
    None: not known."""


def concurrency_grid(most: int, least: int = 1) -> tuple[int, ...]:
    """Limits worth trying: powers of two, one between each two, and the two ends."""
    steps = {1 << power for power in range(most.bit_length())} | {3 << power for power in range(most.bit_length())}
    return tuple(sorted({least, most} | {step for step in steps if least < step < most}))


class ConcurrencyGovernor:
    """Chooses among `grid`, beginning with `first`, else with the setting in the (geometric) middle of it."""

    def __init__(self, objective: TokenObjective, grid: Sequence[int], first: int | None = None) -> None:
        self._objective, self._grid = objective, sorted(set(grid))
        if not self._grid or self._grid[0] < 1:
            raise InvalidInput(f"the governor needs at least one limit of 1 sequence or more, got {list(grid)}")
        self._begun = self._limit = self._grid[(len(self._grid) - 1) // 2] if first is None else first
        if self._limit not in self._grid:
            raise InvalidInput(f"the first limit must be one of the grid, got {first}; the grid is {self._grid}")
        allowed = 1 - objective.gap_quantile
        self._epoch_answers = math.ceil(5 / allowed)
        self._known = KnownLimits(objective.gap_s, objective.gap_quantile)
        self._table = self._known.table
        self._room = Room(allowed, self._epoch_answers)
        self._first_tokens = FirstTokens(objective.first_token_s, 1 - objective.first_token_quantile)
        self._search = SettingSearch(self._table, _neighbours(self._grid), eagerness=lambda limit: (limit,))
        self._epochs: dict[int, SeenSum] = {}
        self._flow = TokenFlow()
        self._verdicts = LimitVerdicts(self._known, self._first_tokens, objective.gap_s, self._is_too_slow)
        self._ran, self._waited, self._best = self._limit, False, self._limit
        self._settling_s: float | None = None
        self._reason = "nothing measured yet"

    def limit(self) -> int:
        """Sequences at once, at most."""
        return self._limit

    def observe(self, seen: StepSeen) -> None:
        """Learn from what ran; may change the limit."""
        gaps = SeenSum().add(seen, self._objective.gap_s)
        # A late step of many sequences is late for more tokens than one of the best number in time.
        weight = seen.sequences / self._best
        self._room.add(gaps.late * weight, gaps.answers * weight)
        self._waited |= seen.waiting > 0
        self._flow.add(seen.at_s, seen.tokens)
        if self._first_tokens.add(self._limit, seen.at_s, seen.first_tokens_s, queued=seen.waiting > 0):
            self._give_way(seen.at_s)
        if self._is_settled(seen):
            self._learn(seen)

    def _give_way(self, at_s: float) -> None:
        """Prompts wait too long: elsewhere at once, unless that is no better and this limit is still to be measured."""
        if self._limit in self._table or not all(map(self._first_tokens.misses, self._table)):
            self._choose(at_s)

    def explain(self) -> Explanation:
        """Why this limit."""
        table, begun, best = self._table, self._begun, self._best
        known = begun in table and best in table and table[begun].cost_uj > 0
        saving = 1 - table[best].cost_uj / table[begun].cost_uj if known else None
        return Explanation(self._limit, self._reason, tuple(map(self._alternative, sorted(table))), saving)

    def governed(self) -> Governed:
        """The same in the words of every governor."""
        objective = self._objective
        first = "" if objective.first_token_s is None else f", first token {objective.first_token_s * 1e3:g} ms"
        return Governed(
            unit="token",
            objective=f"{objective.gap_s * 1e3:g} ms a token for {objective.gap_quantile:.0%}{first}",
            first=_named(self._begun),
            best=_named(self._best),
            tried=tuple(
                Tried(name=_named(each.limit), uj=each.uj_per_token, meets=each.meets)
                for each in map(self._alternative, sorted(self._table))
            ),
        )

    def _alternative(self, limit: int) -> Alternative:
        known, verdicts = self._table[limit], self._verdicts
        share = self._first_tokens.late_share(limit)
        return Alternative(
            limit, known.cost_uj, known.tally.share, share, verdicts.meets(limit), verdicts.misses(limit)
        )

    def _is_settled(self, seen: StepSeen) -> bool:
        """Whether steps are what the limit makes them: not while sequences over it finish, or new ones fill it up."""
        if self._settling_s is None:
            return True
        self._settling_s += seen.seconds
        full = seen.waiting == 0 or seen.sequences >= _FULL * self._limit or self._settling_s >= _SETTLE_S
        if seen.sequences <= self._limit and full:
            self._settling_s = None
        return False

    def _learn(self, seen: StepSeen) -> None:
        if not seen.tokens:
            return
        ran = self._grid[min(bisect_left(self._grid, seen.sequences), len(self._grid) - 1)]
        epoch = self._epochs.setdefault(ran, SeenSum()).add(seen, self._objective.gap_s)
        full = epoch.answers >= self._epoch_answers and epoch.seconds >= _MIN_EPOCH_S
        if full or epoch.late >= _CUT_SHORT * (1 - self._objective.gap_quantile) * self._epoch_answers:
            del self._epochs[ran]
            self._close(ran, epoch, seen.at_s)

    def _close(self, ran: int, epoch: SeenSum, at_s: float) -> None:
        self._known.learn(ran, epoch)
        self._ran = ran
        self._choose(at_s)
        self._waited = False

    def _choose(self, at_s: float) -> None:
        # A limit that the load does not fill is as good as the sequences that run: there is nothing to try.
        unfilled = self._limit not in self._table and self._limit > self._ran
        current = self._ran if unfilled else self._limit
        choice = self._search.choose(current, self._verdicts, has_room=True, closed=self._is_closed)
        if choice is None:
            return
        self._best, self._reason = choice.best, self._told(choice)
        if choice.setting == self._limit or (unfilled and self._is_well(choice.best)):
            return
        self._limit, self._settling_s = choice.setting, 0.0
        self._epochs.clear()
        self._first_tokens.limit_changed(at_s)

    def _is_well(self, best: int) -> bool:
        """Whether what runs by itself, below the limit, keeps the gaps short and is as good as the best known."""
        if self._table.misses(self._ran):
            return False
        cheaper = self._table[best].cost_uj < (1 - TOLERANCE) * self._table[self._ran].cost_uj
        return self._ran <= best <= self._limit or not cheaper

    def _is_too_slow(self, limit: int) -> bool:
        """Whether prompts would come faster than they could be answered, so that each waits longer than the one before.

        Known of smaller limits than that in force, and of no interest without an objective for first tokens.
        """
        if self._objective.first_token_s is None or limit >= self._limit:
            return False
        return self._known.tokens_per_s.get(limit, math.inf) < _SPARE * self._flow.tokens_per_s

    def _is_closed(self, limit: int) -> bool:
        """Whether `limit` is not to be tried now: to no purpose, too far from what is known, or not affordable."""
        if self._is_too_slow(limit) or self._first_tokens.misses(limit) or self._is_hopeless(limit):
            return True
        meets = self._verdicts.meets(self._best)
        if limit <= self._ran:
            return meets and limit < self._limit and not self._first_tokens.has_room
        return not self._waited or (meets and not self._room.enough) or self._is_too_far(limit, meets)

    def _is_too_far(self, limit: int, meets: bool) -> bool:
        """Whether gaps at a smaller limit tell that those at `limit` will be too long."""
        below = max((known for known in self._table if known < limit), default=None)
        if below is None:
            return False
        if meets and self._table.misses(below):
            return True
        near = self._grid.index(limit) - self._grid.index(below) == 1
        return self._known.gaps_exceed(below, _HOPELESS if near else below / limit)

    def _is_hopeless(self, limit: int) -> bool:
        """Whether `limit` missed the objective by far not long ago."""
        if limit not in self._table or not self._known.gaps_exceed(limit, _HOPELESS):
            return False
        return self._table.misses(limit) and self._known.epochs - self._table[limit].epoch < _HOPELESS_EPOCHS

    def _told(self, choice: Choice[int]) -> str:
        best, known, objective = choice.best, self._table[choice.best], self._objective
        if choice.setting != best:
            return f"trying {choice.setting} beside {best}, the best so far"
        verdict = "meets the objectives" if self._verdicts.meets(best) else "nothing meets the objectives; least late"
        return (
            f"{best} {verdict}: {known.cost_uj:.0f} uJ a token, {known.tally.share:.1%} of tokens more than "
            f"{objective.gap_s * 1e3:g} ms after the one before"
        )


def _named(limit: int) -> str:
    return f"{limit} sequence{'s' if limit > 1 else ''}"


def _neighbours(grid: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Up to two steps away; in this order they are tried while nothing meets the objectives."""
    return {
        limit: tuple(grid[at + by] for by in (-2, -1, 1, 2) if 0 <= at + by < len(grid))
        for at, limit in enumerate(grid)
    }
