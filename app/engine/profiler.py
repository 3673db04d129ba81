"""The profile of one accelerator's intervals: how its power went in between two readings, from what lies around them.

Follows one device: the power just before, the readings already taken after, and what its processes draw. Knows
nothing of rings or accounts; slices come in as claims by the name of their process.

    profile = profiler.profile(interval, upcoming, claims_in)
    profiler.learn(profile, names, ...)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.domain.reading import Delta
from app.ledger.attribution import Claim
from app.ledger.cells import Cells, Expected, Floats, cut, solve
from app.ledger.division import Profile
from app.ledger.draws import Draws
from app.units import power_of_energy

LOOK_AHEAD = 4
"""Later intervals that may help to tell the power within one."""
_NEWS, _JITTER = 0.75, 0.05  # a lesson is what the readings told, not what was expected anyway
_LESSON_NS, _MIN_LESSON_NS = 50_000_000, 5_000_000
# Powers somewhat beyond those that were seen are taken to be possible: of work, of work that was short, of the floor.
_ABOVE, _BUSY_DOWN, _FLOOR_DOWN, _FLOOR_UP = 1.1, 0.5, 0.75, 1.4

NamedClaims = Sequence[tuple[str, Claim]]
ClaimsIn = Callable[[Delta], NamedClaims]


@dataclass(frozen=True, slots=True)
class _Tail:
    """The last cell of the interval before."""

    end_ns: int
    power_mw: float
    working: frozenset[str]


class Profiler:
    """Of one accelerator."""

    def __init__(self) -> None:
        self.draws = Draws()
        self._tail: _Tail | None = None

    def with_draws(self, claims: NamedClaims) -> list[Claim]:
        """The claims, each with what its process was found to draw."""
        means, spreads = self.draws.known([name for name, _ in claims])
        return [
            claim if np.isnan(mean) else replace(claim, draw_mw=float(mean), draw_spread_mw=float(spread))
            for (_, claim), mean, spread in zip(claims, means, spreads, strict=True)
        ]

    def profile(
        self,
        delta: Delta,
        claims: NamedClaims,
        upcoming: Sequence[Delta],
        claims_in: ClaimsIn,
        floor_mw: float,
        ceiling_mw: float,
    ) -> Profile | None:
        """How the power went within `delta`; None where that is no matter (one process worked all the time, in the same
        slices) or too much began and ended in it to tell.

        `claims` are those on it, `upcoming` the deltas that follow it without a hole; `claims_in` gives the claims on
        any time.
        """
        if (name := _sole_worker(delta, claims)) is not None:
            self._note_whole(delta, name, floor_mw)
            return None
        found = _cut(delta, claims, upcoming, claims_in)
        if found is None:
            self._tail = None
            return None
        cells, names = found
        tail = self._tail
        first = frozenset(name for name, at in zip(names, cells.working[:, 0], strict=True) if at)
        fits = tail is not None and tail.end_ns == delta.start_ns and tail.working == first
        expected = Expected(
            floor_mw, tail.power_mw if tail and fits else None, *self.draws.together(names, cells.working)
        )
        power_mw, told = solve(cells, expected)
        self._learn(cells, power_mw, told, names, floor_mw)
        limits = _limits(cells, power_mw, floor_mw, ceiling_mw)
        count = cells.of_first()
        lowest_mw, highest_mw = (limit[:count] for limit in limits)
        return Profile(cells.edges_ns[: count + 1], power_mw[:count], floor_mw, lowest_mw, highest_mw)

    def _note_whole(self, delta: Delta, name: str, floor_mw: float) -> None:
        power_mw = power_of_energy(delta.energy_uj, delta.duration_ns)
        self._tail = _Tail(delta.end_ns, power_mw, frozenset((name,)))
        if floor_mw:
            self.draws.observe([name], max(0.0, power_mw - floor_mw))

    def quiet(self, end_ns: int, power_mw: float) -> None:
        """Nobody worked until `end_ns`, and the last reading showed `power_mw`."""
        self._tail = _Tail(end_ns, power_mw, frozenset())

    def _learn(self, cells: Cells, power_mw: Floats, told: Floats, names: Sequence[str], floor_mw: float) -> None:
        """Note the power with which the interval ends, and what those drew of whom it told something new."""
        count = cells.of_first()
        for cell in range(count):
            working = frozenset(name for name, at in zip(names, cells.working[:, cell], strict=True) if at)
            length_ns = float(cells.lengths_ns[cell])
            if working and floor_mw and told[cell] > _NEWS and length_ns >= _MIN_LESSON_NS:
                doubt_mw = (1 - told[cell]) ** 0.5 * power_mw[cell] + _LESSON_NS / length_ns * _JITTER * power_mw[cell]
                self.draws.observe(sorted(working), max(0.0, float(power_mw[cell]) - floor_mw), float(doubt_mw) ** 2)
        self._tail = _Tail(int(cells.edges_ns[count]), float(power_mw[count - 1]), working)


def _sole_worker(delta: Delta, claims: NamedClaims) -> str | None:
    """The process that worked for all of `delta` in slices that all cover it, if nobody else did."""
    at_work = [(name, claim) for name, claim in claims if len(claim.starts_ns)]
    if len(at_work) != 1:
        return None
    name, claim = at_work[0]
    spans = claim.starts_ns.max() <= delta.start_ns and claim.ends_ns.min() >= delta.end_ns
    return name if spans else None


def _limits(cells: Cells, power_mw: Floats, floor_mw: float, ceiling_mw: float) -> tuple[Floats, Floats]:
    """Between which powers each cell may have been: what cells of its kind showed around it, and some more."""
    covered = cells.covered
    busy, free = power_mw[covered], np.append(power_mw[~covered], floor_mw)
    highest_mw = max(float(power_mw.max()), ceiling_mw) * _ABOVE
    if not floor_mw:
        return np.zeros(len(power_mw)), np.full(len(power_mw), highest_mw)
    least_busy_mw = max(_FLOOR_DOWN * floor_mw, _BUSY_DOWN * float(busy.min(initial=highest_mw)))
    lowest = np.where(covered, least_busy_mw, _FLOOR_DOWN * float(free.min()))
    return lowest, np.where(covered, highest_mw, min(highest_mw, _FLOOR_UP * float(free.max())))


def _cut(
    delta: Delta, own: NamedClaims, upcoming: Sequence[Delta], claims_in: ClaimsIn
) -> tuple[Cells, list[str]] | None:
    """Cells of `delta` and, where it has more than one, of what follows as far as that helps."""
    alone = _cells([delta], own)
    if alone is None:
        return None
    if alone.of_first() == 1:
        return alone, [name for name, _ in own]
    for deltas in ([delta, *upcoming], [delta, *upcoming[:1]]):
        claims = claims_in(replace(delta, end_ns=deltas[-1].end_ns))
        cells = _cells(deltas, claims)
        if cells is not None:
            return cells.through_first_whole(), [name for name, _ in claims]
    return alone, [name for name, _ in own]


def _cells(deltas: Sequence[Delta], claims: NamedClaims) -> Cells | None:
    if not claims:
        empty = np.empty(0, np.int64)
        return cut(deltas, empty, empty, empty, 0)
    starts = np.concatenate([claim.starts_ns for _, claim in claims])
    ends = np.concatenate([claim.ends_ns for _, claim in claims])
    claim_of = np.repeat(np.arange(len(claims)), [len(claim.starts_ns) for _, claim in claims])
    return cut(deltas, starts, ends, claim_of, len(claims))
