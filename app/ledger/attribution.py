"""Attribution: one delta of one device, divided among those who used it.

Pure: a delta and claims in, integers out that add up to the delta's energy, whatever the input. Knows nothing of rings,
journals, sensors or time's passing.

The order (docs/metering.md explains each rule):
1. time that no slice covers gets min(E, floor power x that time): the residents' by share, the rest idle;
2. what remains is active. A host device divides it by the CPU time of processes, an accelerator by NVML's process
   utilisation where every working process has one, else by slice time;
3. within a process its slices share by time and, where they overlap, by their weights (rows, tokens, FLOPs); slices
   of which steps are told share by what their steps drew;
4. a dead meter's interval explains only what slices, the floor and, on the host, the kernel's CPU clocks explain: the
   rest is `gap`; of a cleanly unwatched one it is `idle`, kind unwatched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from app.domain.account import FOREIGN, GAP, IDLE_UNWATCHED, IDLE_WATCHED, SYSTEM, Account
from app.domain.reading import Delta, DeltaKind
from app.units import energy_of_power, split_exactly

Times = npt.NDArray[np.int64]
_NO_TIMES: Times = np.empty(0, np.int64)
_FLOOR_MOVES = 0.1
NOBODY = -1
"""Stands for no claim, or for no slice, among the keys of doubts."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What slices of a process drew and when, by its own price list: a row for each slice of each step."""

    starts_ns: Times
    ends_ns: Times
    powers_mw: npt.NDArray[np.float64]
    slices: npt.NDArray[np.int64]
    """Which slice of the claim each row is of."""

    def within(self, start_ns: int, end_ns: int, slices: int) -> npt.NDArray[np.float64]:
        """What each of so many slices drew in that time, in picojoules."""
        lengths = np.minimum(self.ends_ns, end_ns) - np.maximum(self.starts_ns, start_ns)
        return np.bincount(self.slices, self.powers_mw * lengths.clip(min=0), slices).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one process of ours did on the device around a delta."""

    resident: Account
    """Charged for the process's share of uncovered time, and for CPU time outside its slices."""
    share: float = 1.0
    """Part of the device that the process reserved, 0..1."""
    used: float | None = None
    """Host: its CPU nanoseconds in the interval. Accelerator: its utilisation 0..1; None: the device does not tell."""
    starts_ns: Times = field(default_factory=lambda: _NO_TIMES)
    ends_ns: Times = field(default_factory=lambda: _NO_TIMES)
    """Ends of its slices; a slice still open ends after the delta."""
    weights: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))
    owners: npt.NDArray[np.int64] | None = None
    """Number of the account of each slice, as the process numbers them, to keep doubts by; None: all of one account."""
    draw_mw: float | None = None
    """What the process was found to draw on an accelerator above its floor; None: not known."""
    draw_spread_mw: float = 0.0
    """Standard deviation of that."""
    compute_share: float = 1.0
    """Part of the accelerator that it can use at most: less than 1 for instances of a partitioned one (MIG)."""
    apportioned: bool = False
    """Holds instances of a partitioned accelerator, whose energy is a part of the whole's."""
    steps: Steps | None = None
    """How the process's energy goes to its slices, instead of their weights; None: by their weights."""

    def by_steps(self, start_ns: int, end_ns: int) -> npt.NDArray[np.float64] | None:
        """In which proportion its slices share the time; None where none of its steps tells."""
        drawn = self.steps.within(start_ns, end_ns, len(self.starts_ns)) if self.steps else None
        return drawn if drawn is not None and drawn.any() else None


@dataclass(frozen=True, slots=True)
class Others:
    """Work on the device that no claim covers, in the unit of `Claim.used`."""

    system: float = 0.0
    """Ray's own processes."""
    foreign: float = 0.0
    """Processes that are not ours."""
    accounted: bool = False
    """Host: these and the claims are all CPU time of the interval, by clocks that ran on while nobody watched."""


@dataclass(slots=True)
class Attribution:
    """The parts of one delta. `by_account` and all `by_slice` add up to the delta's energy."""

    by_account: dict[Account, int] = field(default_factory=dict)
    """Energy that belongs to no single slice."""
    by_slice: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """For every claim, the microjoules of each of its slices."""
    apportioned: dict[Account, int] = field(default_factory=dict)
    """As `by_account`, of processes that hold instances of a partitioned accelerator."""
    by_resident: dict[int, int] = field(default_factory=dict)
    """Of that what each claim's resident account got, by the number of the claim."""
    covered_ns: int = 0
    """Time in which at least one slice was open."""
    doubt_uj: dict[tuple[int, int], int] | None = None
    """How far parts may be off, by (claim, owner number), (claim, NOBODY) for its resident account, (NOBODY, NOBODY)
    for idle. None: not worked out; no part can be off by more than all the others together."""

    def charge(self, account: Account, energy_uj: int, apportioned: bool = False) -> None:
        """Add to what `account` gets beside slices."""
        if energy_uj:
            book = self.apportioned if apportioned else self.by_account
            book[account] = book.get(account, 0) + energy_uj

    def charge_resident(self, index: int, claim: Claim, energy_uj: int) -> None:
        """Add to what the resident account of claim number `index` gets."""
        self.charge(claim.resident, energy_uj, claim.apportioned)
        self.by_resident[index] = self.by_resident.get(index, 0) + energy_uj

    @property
    def total_uj(self) -> int:
        """Everything given out; equals the delta's energy."""
        beside_uj = sum(self.by_account.values()) + sum(self.apportioned.values())
        return beside_uj + sum(int(parts.sum()) for parts in self.by_slice)


def attribute(
    delta: Delta, claims: Sequence[Claim], others: Others, floor_mw: float, ceiling_mw: float = 0.0
) -> Attribution:
    """Divide `delta` among `claims` and `others`.

    `floor_mw` is the device's power when nobody works on it; `ceiling_mw` the highest power seen on it, which bounds
    what slices may explain of an interval that nobody watched (0: not known, their time's share then).
    """
    covers = [_open_time(claim, delta) for claim in claims]
    result = Attribution(by_slice=[np.zeros(len(claim.starts_ns), np.int64) for claim in claims])
    result.covered_ns = _union_ns([cover for cover in covers if cover.length_ns], delta)
    floor_uj = min(delta.energy_uj, energy_of_power(floor_mw, delta.duration_ns - result.covered_ns))
    active_uj = delta.energy_uj - floor_uj
    explained_uj = active_uj
    watched = delta.kind is DeltaKind.NORMAL or _is_accounted(delta, claims, others)
    if not watched:
        explained_uj = _explicable(active_uj, result.covered_ns, delta, ceiling_mw)
    left_uj = _share_active(result, explained_uj, delta, claims, covers, others, watched)
    _charge_floor(result, floor_uj, delta, claims)
    _charge_rest(result, active_uj - explained_uj + left_uj, floor_uj, delta, claims)
    return result


def _is_accounted(delta: Delta, claims: Sequence[Claim], others: Others) -> bool:
    """Whether the kernel's clocks tell who worked on the host in a dead meter's time."""
    if delta.kind is not DeltaKind.DEAD or not delta.device.kind.is_host or not others.accounted:
        return False
    return others.system + others.foreign + sum(claim.used or 0.0 for claim in claims) > 0


def _explicable(active_uj: int, covered_ns: int, delta: Delta, ceiling_mw: float) -> int:
    """How much of an unwatched interval's active energy its slices can have used."""
    if ceiling_mw > 0:
        return min(active_uj, energy_of_power(ceiling_mw, covered_ns))
    return active_uj * min(covered_ns, delta.duration_ns) // delta.duration_ns


def _share_active(
    result: Attribution,
    active_uj: int,
    delta: Delta,
    claims: Sequence[Claim],
    covers: Sequence["_Cover"],
    others: Others,
    watched: bool,
) -> int:
    """Give `active_uj` to slices, system and foreign; returns what nobody could be found for.

    Where nobody `watched`, only slices are evidence.
    """
    on_host = delta.device.kind.is_host
    uses = [_use_of(claim, cover, on_host) for claim, cover in zip(claims, covers, strict=True)]
    if not on_host and (not watched or any(use is None for use in uses)):
        uses = [*_slice_times(claims, covers)]  # one process without a figure: slice time for all
        others = Others()
    known = [use or 0.0 for use in uses]
    tail = [others.system, others.foreign]
    if not watched:  # only the slices are evidence
        tail = [0.0, 0.0]
        known = [use if cover.length_ns else 0.0 for use, cover in zip(known, covers, strict=True)]
    if sum(known) + sum(tail) <= 0:
        if not any(cover.length_ns for cover in covers):
            return active_uj
        known = _slice_times(claims, covers)
    parts = split_exactly(active_uj, [*known, *tail])
    for index, (claim, cover, part) in enumerate(zip(claims, covers, parts, strict=False)):
        if cover.length_ns:
            result.by_slice[index] = split_array(part, _shares_within(claim, delta))
        else:
            result.charge_resident(index, claim, part)
    result.charge(SYSTEM, parts[-2])
    result.charge(FOREIGN, parts[-1])
    return 0


def _slice_times(claims: Sequence[Claim], covers: Sequence["_Cover"]) -> list[float]:
    """Open time of each process, on the part of the device that it can use."""
    return [cover.length_ns * claim.compute_share for claim, cover in zip(claims, covers, strict=True)]


def _use_of(claim: Claim, cover: "_Cover", on_host: bool) -> float | None:
    if on_host:
        return claim.used or 0.0
    if not cover.length_ns:
        return 0.0
    return claim.used


def _charge_floor(result: Attribution, floor_uj: int, delta: Delta, claims: Sequence[Claim]) -> None:
    """Uncovered time: to the residents by their shares, scaled down if they exceed the device, the rest idle."""
    if delta.kind is DeltaKind.UNWATCHED:
        result.charge(IDLE_UNWATCHED, floor_uj)
        return
    shares = [claim.share for claim in claims]
    parts = split_exactly(floor_uj, [*shares, max(0.0, 1.0 - sum(shares))])
    for index, (claim, part) in enumerate(zip(claims, parts, strict=False)):
        result.charge_resident(index, claim, part)
    result.charge(IDLE_WATCHED, parts[-1])


def _charge_rest(result: Attribution, rest_uj: int, floor_uj: int, delta: Delta, claims: Sequence[Claim]) -> None:
    """Energy above the floor that no work explains: as uncovered time if watched, else unwatched or gap.

    A floor that moved a little is still the floor.
    """
    if delta.kind is DeltaKind.DEAD and (result.covered_ns or rest_uj > _FLOOR_MOVES * floor_uj):
        result.charge(GAP, rest_uj)
    else:
        _charge_floor(result, rest_uj, delta, claims)


@dataclass(frozen=True, slots=True)
class _Cover:
    """Merged open time of one process within a delta."""

    starts_ns: Times
    ends_ns: Times

    @property
    def length_ns(self) -> int:
        return int((self.ends_ns - self.starts_ns).sum())


def _open_time(claim: Claim, delta: Delta) -> _Cover:
    starts = np.maximum(claim.starts_ns, delta.start_ns)
    ends = np.minimum(claim.ends_ns, delta.end_ns)
    inside = starts < ends
    return _merge(starts[inside], ends[inside])


def _merge(starts: Times, ends: Times) -> _Cover:
    """Merge overlapping intervals."""
    if len(starts) < 2:
        return _Cover(starts, ends)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    fresh = np.concatenate(([True], starts[1:] > ends[:-1]))
    last = np.concatenate((np.flatnonzero(fresh)[1:] - 1, [len(starts) - 1]))
    return _Cover(starts[fresh], ends[last])


def _union_ns(covers: Sequence[_Cover], delta: Delta) -> int:
    if not covers:
        return 0
    if len(covers) == 1:
        return min(covers[0].length_ns, delta.duration_ns)
    merged = _merge(np.concatenate([c.starts_ns for c in covers]), np.concatenate([c.ends_ns for c in covers]))
    return merged.length_ns


def _shares_within(claim: Claim, delta: Delta) -> npt.NDArray[np.float64]:
    drawn = claim.by_steps(delta.start_ns, delta.end_ns)
    return _slice_time(claim, delta) if drawn is None else drawn


def _slice_time(claim: Claim, delta: Delta) -> npt.NDArray[np.float64]:
    """For each slice the open time it may call its own: where several are open, time is shared by weight."""
    starts = np.clip(claim.starts_ns, delta.start_ns, delta.end_ns)
    ends = np.clip(claim.ends_ns, delta.start_ns, delta.end_ns)
    if len(starts) == 1:
        return (ends - starts).astype(np.float64)
    ends = np.maximum(ends, starts)
    edges = np.unique(np.concatenate((starts, ends)))
    first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    # A heavy slice that has ended must leave nothing behind: in doubles its rest would distort a light one's share.
    weight = np.zeros(len(edges), np.longdouble)
    np.add.at(weight, first, claim.weights)
    np.subtract.at(weight, last, claim.weights)
    open_weight = np.cumsum(weight)[:-1].astype(np.float64)
    lengths = np.diff(edges).astype(np.float64)
    floor = claim.weights.min() / 2 if len(claim.weights) else 1.0
    per_weight = np.where(open_weight > floor, lengths / np.maximum(open_weight, floor), 0.0)
    reached = np.concatenate(([0.0], np.cumsum(per_weight)))
    shares: npt.NDArray[np.float64] = claim.weights * (reached[last] - reached[first])
    return shares.clip(min=0.0)


def split_array(total: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """`units.split_exactly` for arrays: parts of `total` in 0..2**62 by weight, adding up to it (largest remainder).

    Beyond 2**53 the largest part takes what floats cannot tell.
    """
    if len(weights) == 1:
        return np.array([total], np.int64)
    if not weights.any():
        weights = np.ones(len(weights))
    shares = total * (weights / weights.sum())
    parts: npt.NDArray[np.int64] = np.floor(shares).astype(np.int64)
    missing = total - int(parts.sum())
    if not 0 <= missing <= np.count_nonzero(weights):
        parts[np.argmax(parts)] += missing
    elif missing:
        lacking = np.where(weights > 0, shares - parts, -1.0)
        parts[np.argsort(-lacking, kind="stable")[:missing]] += 1
    return parts
