"""Division: one delta of an accelerator, cut into cells of known power, divided among those who were there.

Pure. The rules are those of attribution.py; here they hold cell by cell instead of for the whole interval at once:
what a cell used goes to the processes with a slice open in it, by utilisation where NVML tells it of all of them, else
by what they draw where that is known of all, else equally; within a process by weight. A cell without a slice is the
residents' and idle, what lies above its floor a foreign process's if there is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from app.domain.account import FOREIGN, IDLE_WATCHED
from app.domain.reading import Delta
from app.ledger.attribution import NOBODY, Attribution, Claim, Others, split_array
from app.ledger.cells import Floats, Times, any_of

Presences = npt.NDArray[np.bool_]
"""[process, cell]: whether the process has a slice open."""
_SPREADS = 3.0
"""Standard deviations that a process's draw is taken to be off by at most."""


@dataclass(frozen=True)
class Profile:
    """The power of one delta over its time, and the limits within which it may have gone otherwise."""

    edges_ns: Times
    power_mw: Floats
    floor_mw: float = 0.0
    lowest_mw: Floats | None = None
    highest_mw: Floats | None = None
    """Between which powers each cell may have been; they bound the uncertainty. None: nothing is worked out."""
    blur_ns: int = 0
    """How far the instants of the readings are unsure: 0 where they are those of the counter's own updates."""

    @cached_property
    def lengths_ms(self) -> Floats:
        return np.diff(self.edges_ns) / 1e6

    @cached_property
    def energy_uj(self) -> Floats:
        energy: Floats = self.power_mw * self.lengths_ms
        return energy


@dataclass(frozen=True, slots=True)
class _Presence:
    """One process's slices on the cells."""

    first: Times
    last: Times
    """Cells [first, last) in which each slice is open."""
    weight: Floats
    """Sum of the weights open in each cell; 0 where none is."""

    def shares(self, claim: Claim, energy_uj: Floats, delta: Delta) -> Floats:
        """Energy of each slice, of the process's `energy_uj` in each cell of `delta`."""
        drawn = claim.by_steps(delta.start_ns, delta.end_ns)
        if drawn is not None:
            by_steps: Floats = float(energy_uj.sum()) * drawn / drawn.sum()
            return by_steps
        per_weight = np.divide(energy_uj, self.weight, out=np.zeros(len(energy_uj)), where=self.weight > 0)
        reached = np.concatenate(([0.0], np.cumsum(per_weight)))
        shares: Floats = claim.weights * (reached[self.last] - reached[self.first])
        return shares.clip(min=0.0)


def _presence(claim: Claim, edges_ns: Times) -> _Presence:
    count = len(edges_ns) - 1
    starts = np.clip(claim.starts_ns, edges_ns[0], edges_ns[-1])
    ends = np.maximum(np.clip(claim.ends_ns, edges_ns[0], edges_ns[-1]), starts)
    first, last = np.searchsorted(edges_ns, starts), np.searchsorted(edges_ns, ends)
    opened, weight = np.zeros(count + 1, np.int64), np.zeros(count + 1)
    np.add.at(opened, first, 1)
    np.subtract.at(opened, last, 1)
    np.add.at(weight, first, claim.weights)
    np.subtract.at(weight, last, claim.weights)
    least = claim.weights.min() / 2 if len(claim.weights) else 1.0  # what cancels badly is not taken for nothing
    open_weight = np.where(np.cumsum(opened)[:-1] > 0, np.maximum(np.cumsum(weight)[:-1], least), 0.0)
    return _Presence(first, last, open_weight)


def divide(delta: Delta, profile: Profile, claims: Sequence[Claim], others: Others) -> Attribution:
    """Divide `delta` by its profile; the parts add up to its energy."""
    present = [_presence(claim, profile.edges_ns) for claim in claims]
    working = np.array([presence.weight > 0 for presence in present]).reshape(len(claims), len(profile.power_mw))
    covered = any_of(working)
    parts, foreign = _by_process(profile, claims, working, others)
    share = parts * profile.energy_uj
    above_uj = np.maximum(0.0, profile.energy_uj - profile.floor_mw * profile.lengths_ms)
    foreign_uj = np.where(
        covered, foreign * profile.energy_uj, above_uj if _has_foreign(claims, working, others) else 0
    )
    rest_uj = float(np.where(covered, 0.0, profile.energy_uj - foreign_uj).sum())
    slices = [presence.shares(claim, own, delta) for presence, claim, own in zip(present, claims, share, strict=True)]
    floors = _floor_shares(claims)
    exact = split_array(delta.energy_uj, np.concatenate((*slices, rest_uj * floors, [float(foreign_uj.sum())])))
    result = Attribution(covered_ns=round(float(profile.lengths_ms[covered].sum()) * 1e6))
    at = 0
    for own in slices:
        result.by_slice.append(exact[at : at + len(own)])
        at += len(own)
    for index, (claim, part) in enumerate(zip(claims, exact[at:], strict=False)):
        result.charge_resident(index, claim, int(part))
    result.charge(IDLE_WATCHED, int(exact[-2]))
    result.charge(FOREIGN, int(exact[-1]))
    if profile.lowest_mw is not None and profile.highest_mw is not None:
        result.doubt_uj = {}
        if len(covered) > 1 or working.sum(axis=0).max(initial=0) > 1:
            room = _Room(profile, profile.lowest_mw * profile.lengths_ms, profile.highest_mw * profile.lengths_ms)
            _note_doubt(result, room, claims, present, parts, floors)
    return result


def _has_foreign(claims: Sequence[Claim], working: Presences, others: Others) -> bool:
    """Foreign work counts where every working process of ours has a figure to compare it with."""
    told = all(claim.used is not None for claim, at in zip(claims, working, strict=True) if at.any())
    return others.foreign > 0 and told


def _by_process(profile: Profile, claims: Sequence[Claim], working: Presences, others: Others) -> tuple[Floats, Floats]:
    """Parts of each cell: [process, cell], and those of foreign processes in covered cells."""
    active = [claim for claim, at in zip(claims, working, strict=True) if at.any()]
    foreign = 0.0
    if active and all(claim.used is not None for claim in active):
        uses = np.array([claim.used or 0.0 for claim in claims])
        foreign = others.foreign
    elif active and all(claim.draw_mw is not None for claim in active):
        uses = np.array([claim.draw_mw or 0.0 for claim in claims])
    else:
        uses = np.array([claim.compute_share for claim in claims])
    weight = uses[:, None] * working if len(claims) else np.zeros((0, len(profile.power_mw)))
    total = weight.sum(axis=0) + foreign
    equal = working / np.maximum(1, working.sum(axis=0))  # who works and was never seen busy
    parts = np.where(total > 0, weight / np.where(total > 0, total, 1.0), equal)
    return parts, np.where((total > 0) & working.any(axis=0), foreign / np.where(total > 0, total, 1.0), 0.0)


def _floor_shares(claims: Sequence[Claim]) -> Floats:
    """Parts of uncovered time: the residents' shares, scaled down if they exceed the device, and idle last."""
    shares = np.array([*(claim.share for claim in claims), 0.0])
    shares[-1] = max(0.0, 1.0 - float(shares.sum()))
    scaled: Floats = shares / shares.sum()
    return scaled


# -- doubt -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Room:
    """Within which energies the cells of a delta may be, all adding up to the delta's."""

    profile: Profile
    least_uj: Floats
    most_uj: Floats

    def extreme(self, fractions: Floats, sign: int) -> Floats:
        """Largest (`sign` 1) or smallest (-1) energy of each row of `fractions` of the cells.

        Every cell has at least its lowest power; what remains fills the cells up to their highest, best ones first.
        """
        least_uj = np.minimum(self.least_uj, self.profile.energy_uj)
        order = np.argsort(-sign * fractions, axis=1, kind="stable")
        room = np.maximum(self.most_uj, self.profile.energy_uj)[order] - least_uj[order]
        spare = float(self.profile.energy_uj.sum() - least_uj.sum())
        filled = np.clip(spare - (np.cumsum(room, axis=1) - room), 0.0, room)
        extreme: Floats = fractions @ least_uj + (np.take_along_axis(fractions, order, axis=1) * filled).sum(axis=1)
        return extreme

    @property
    def blur_uj(self) -> float:
        """What readings at unsure instants may have put on the wrong side."""
        lengths_ms = self.profile.lengths_ms
        power_mw = (self.most_uj / lengths_ms).max() - (self.least_uj / lengths_ms).min()
        return float(power_mw) * self.profile.blur_ns / 1e6


def _note_doubt(
    result: Attribution,
    room: _Room,
    claims: Sequence[Claim],
    present: Sequence[_Presence],
    parts: Floats,
    floors: Floats,
) -> None:
    """How far each account's part may be off, as the power within the interval is not seen."""
    profile = room.profile
    free = np.where(parts.any(axis=0), 0.0, 1.0)
    mixed = _sharing_doubt(profile, claims, parts)
    rows, targets, shared_uj = [], [], []
    for index, (claim, presence) in enumerate(zip(claims, present, strict=True)):
        for owner, within in _owner_parts(claim, presence, profile.edges_ns):
            rows.append(parts[index] * within)
            targets.append((index, owner))
            shared_uj.append(float(within @ mixed[index]))
    for index, floor in enumerate(floors):
        rows.append(free * floor)
        targets.append((index if index < len(claims) else NOBODY, NOBODY))
        shared_uj.append(0.0)
    fractions = np.array(rows)
    estimate = fractions @ profile.energy_uj
    doubts = np.maximum(estimate - room.extreme(fractions, -1), room.extreme(fractions, 1) - estimate)
    doubts += room.blur_uj * (np.ptp(fractions, axis=1) > 0) + np.array(shared_uj)
    doubt_by: dict[tuple[int, int], int] = {}
    for target, doubt_uj in zip(targets, doubts, strict=True):
        if doubt_uj >= 1:
            doubt_by[target] = doubt_by.get(target, 0) + round(float(doubt_uj))
    result.doubt_uj = doubt_by


def _owner_parts(claim: Claim, presence: _Presence, edges_ns: Times) -> list[tuple[int, Floats]]:
    """Part of the process's cells that belongs to each account its slices are for."""
    numbers = np.zeros(len(claim.weights), np.int64) if claim.owners is None else claim.owners
    owners, which = np.unique(numbers, return_inverse=True)
    drawn = claim.by_steps(int(edges_ns[0]), int(edges_ns[-1]))
    if drawn is not None:
        there = np.where(presence.weight > 0, 1 / drawn.sum(), 0.0)
        return [(int(owner), there * float(drawn[which == n].sum())) for n, owner in enumerate(owners)]
    weight = np.zeros((len(owners), len(presence.weight) + 1))
    np.add.at(weight, (which, presence.first), claim.weights)
    np.subtract.at(weight, (which, presence.last), claim.weights)
    total = np.where(presence.weight > 0, presence.weight, 1.0)
    parts = (np.cumsum(weight, axis=1)[:, :-1] / total).clip(0.0, 1.0)
    return [(int(owner), part) for owner, part in zip(owners, parts, strict=True)]


def _sharing_doubt(profile: Profile, claims: Sequence[Claim], parts: Floats) -> Floats:
    """[process, cell]: energy that could be another process's where several worked and no utilisation tells."""
    own_uj = parts * profile.energy_uj
    if all(claim.used is not None for claim in claims):
        return np.zeros_like(own_uj)
    most_uj = np.minimum(own_uj, np.where(parts.any(axis=0), profile.energy_uj, 0.0) - own_uj)
    spreads = np.array([[np.inf if claim.draw_mw is None else claim.draw_spread_mw] for claim in claims])
    doubt: Floats = np.minimum(most_uj, _SPREADS * spreads * profile.lengths_ms)
    return doubt
