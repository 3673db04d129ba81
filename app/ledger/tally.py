"""A tally: what the batches of one meter say when everything is recomputed from their raw readings.

Pure: batches in, sums and faults out. A tally does not grow with the number of its batches, but for the digests of a
journal, which is bounded itself.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from app.domain.reading import CounterReading, DeltaKind, Device, DeviceKind, Grade, PowerReading, Reading
from app.ledger.batch import GENESIS, Batch
from app.ledger.delta import delta_between

MAX_FAULTS = 100
MAX_GAPS = 1_000

_DEAD = "the meter died without a closing reading; no slice explains this part of what the counter moved"
_REASONS = {"": _DEAD, "dead-meter": _DEAD}
"""By kind of the gap account. Batches of version 0.1 do not tell."""


@dataclass(slots=True)
class DeviceTally:
    """What batches say of one device."""

    movement_uj: int = 0
    posted_uj: int = 0
    gap_uj: int = 0
    batches: int = 0
    first_ns: int | None = None
    """Instant of the first raw reading."""
    last: tuple[int, int] | None = None
    """(at_ns, value) of the last raw reading."""

    def add(self, other: "DeviceTally") -> None:
        """Take in what other batches say of the same device; where readings end is then as they say."""
        self.movement_uj += other.movement_uj
        self.posted_uj += other.posted_uj
        self.gap_uj += other.gap_uj
        self.batches += other.batches
        self.first_ns = other.first_ns if self.first_ns is None else self.first_ns
        self.last = other.last or self.last


@dataclass(frozen=True, slots=True)
class Gap:
    """Energy that nobody can be charged with, and why."""

    meter: str
    device: str
    node: str
    energy_uj: int
    from_ns: int
    """Unix nanoseconds: when the counter was last read before."""
    duration_ns: int
    reason: str


PartKey = tuple[str, int, int]
"""Account as text, worker, part."""


@dataclass(slots=True)
class ChainTally:
    """What the batches of one meter say."""

    meter: str
    devices: dict[str, DeviceTally] = field(default_factory=lambda: defaultdict(DeviceTally))
    digests: dict[tuple[int, int], str] = field(default_factory=dict)
    """By position; of a journal only."""
    postings: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    """Energy by device, account as text, grade."""
    parts: dict[PartKey, tuple[int, int]] = field(default_factory=dict)
    """Energy and time of the parts of jobs."""
    gaps: list[Gap] = field(default_factory=list)
    gaps_left_out: int = 0
    faults: list[str] = field(default_factory=list)
    batches: int = 0
    end: tuple[int, int] = (0, -1)
    """Position of the last batch."""
    end_digest: str = GENESIS
    joins: bool = True
    """The next batch must follow the one at `end`, or be the first ever."""

    def following(self) -> "ChainTally":
        """An empty tally of what comes after: it joins here."""
        after = ChainTally(self.meter, end=self.end, end_digest=self.end_digest)
        for key, device in self.devices.items():
            after.devices[key].last = device.last
        return after

    def fault(self, sentence: str) -> None:
        """Note a fault; beyond MAX_FAULTS they are not listed."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(sentence)

    def add_part(self, key: PartKey, energy_uj: int, time_ns: int) -> None:
        """Add to a part of a job."""
        before_uj, before_ns = self.parts.get(key, (0, 0))
        self.parts[key] = (before_uj + energy_uj, before_ns + time_ns)

    def add_gap(self, gap: Gap) -> None:
        """List a gap; beyond MAX_GAPS they are counted only."""
        if len(self.gaps) < MAX_GAPS:
            self.gaps.append(gap)
        else:
            self.gaps_left_out += 1


class Witness:
    """A node's own journal, held against the batches of the store as they go by."""

    def __init__(self, digests: Mapping[tuple[int, int], str], acknowledged: tuple[int, int]) -> None:
        self._digests, self._acknowledged = dict(digests), acknowledged
        self._first, self._last = min(digests, default=None), max(digests, default=None)

    def see(self, tally: ChainTally, position: tuple[int, int], digest: str) -> None:
        """The store has this batch."""
        known = self._digests.pop(position, None)
        where = _name(tally.meter, position)
        if known is not None and known != digest:
            tally.fault(f"{where}: the store's digest differs from the node's journal")
        elif known is None and self._first and self._last and self._first < position < self._last:
            tally.fault(f"{where}: in the store, not in the node's journal")

    def miss(self, tally: ChainTally, sealed: tuple[int, int]) -> None:
        """The store has no more: every acknowledged batch of the journal must have been seen, sealed ones apart."""
        for position in sorted(self._digests):
            if sealed < position <= self._acknowledged:
                where = _name(tally.meter, position)
                tally.fault(f"{where}: in the node's journal and acknowledged, but not in the store")


def tally_chain(
    meter: str,
    batches: Iterable[Batch],
    from_genesis: bool = True,
    sealed: ChainTally | None = None,
    witness: Witness | None = None,
) -> ChainTally:
    """Recompute what `batches` (in order) say.

    `from_genesis`: the first must be the first ever. `sealed`: what goes before them, which the tally continues.
    `witness`: digests are held against it, and not kept.
    """
    tally = sealed or ChainTally(meter, joins=from_genesis)
    begin = tally.end
    if witness is not None and tally.batches:
        witness.see(tally, tally.end, tally.end_digest)
    for batch in batches:
        _tally_link(tally, batch)
        if witness is None:
            tally.digests[batch.position] = batch.digest
        else:
            witness.see(tally, batch.position, batch.digest)
    if witness is not None:
        witness.miss(tally, begin)
    return tally


def _tally_link(tally: ChainTally, batch: Batch) -> None:
    where = _name(tally.meter, batch.position)
    if tally.joins and batch.previous != tally.end_digest:
        tally.fault(f"{where}: the chain is broken; a batch before it was removed, added or altered")
    tally.batches, tally.joins = tally.batches + 1, True
    tally.end, tally.end_digest = batch.position, batch.digest
    try:
        if not batch.is_genuine:
            tally.fault(f"{where}: its digest does not match its contents; the batch was altered")
        _tally_body(tally, batch.body, where)
    except (zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
        tally.fault(f"{where}: unreadable: {type(error).__name__}: {error}")


def _tally_body(tally: ChainTally, body: Mapping[str, Any], where: str) -> None:
    records = {record["key"]: record for record in body["devices"]}
    posted: dict[str, int] = defaultdict(int)
    for posting in body["postings"]:
        key, energy_uj = posting["device"], posting["energy_uj"]
        if energy_uj < 0:
            tally.fault(f"{where}: a posting of {energy_uj} uJ; postings are never negative")
        posted[key] += energy_uj
        grade = posting.get("grade") or (records[key]["grade"] if key in records else "")
        tally.postings[key, account_text(posting["account"]), grade] += energy_uj
        if posting["account"]["name"] == "gap":
            tally.devices[key].gap_uj += energy_uj
            tally.add_gap(_gap(tally.meter, posting, body, records.get(key)))
    for part in body.get("parts", ()):
        key = (account_text(part["account"]), part["worker"], part["part"])
        tally.add_part(key, part["energy_uj"], part["time_ns"])
    moved = {key: _tally_record(tally, record, where) for key, record in records.items()}
    for key in posted.keys() | moved.keys():
        tally.devices[key].posted_uj += posted[key]
        difference_uj = posted[key] - moved.get(key, 0)
        if difference_uj:
            tally.fault(f"{where}: {key} moved {moved.get(key, 0)} uJ, posted {posted[key]} ({difference_uj:+} uJ)")


def _tally_record(tally: ChainTally, record: Mapping[str, Any], where: str) -> int:
    """Adds the movement of one device over a batch, and returns it."""
    device, raw = tally.devices[record["key"]], record["raw"]
    first = (raw[0][0], raw[0][1])
    if device.last is not None and device.last != first:
        tally.fault(f"{where}: {record['key']} begins at reading {first}, the last one ended at {device.last}")
    moved_uj = movement_of(record)
    device.first_ns = first[0] if device.first_ns is None else device.first_ns
    device.last = (raw[-1][0], raw[-1][1])
    device.movement_uj += moved_uj
    device.batches += 1
    return moved_uj


def _gap(meter: str, posting: Mapping[str, Any], body: Mapping[str, Any], record: Mapping[str, Any] | None) -> Gap:
    """An absence lies before the first reading that a batch adds to the one it begins with."""
    from_ns, until_ns = (body["wall_ns"], body["wall_ns"])
    known = posting["account"]["kind"]
    reason = _REASONS.get(known, known)
    if record is not None and len(record["raw"]) > 1:
        shift_ns = body["wall_minus_monotonic_ns"]
        from_ns, until_ns = record["raw"][0][0] + shift_ns, record["raw"][1][0] + shift_ns
    if known in _REASONS and (record is None or record["absence"] != DeltaKind.DEAD):
        reason = "no absence of a meter is on record here"
    return Gap(meter, posting["device"], body["node"], posting["energy_uj"], from_ns, until_ns - from_ns, reason)


def _name(meter: str, position: tuple[int, int]) -> str:
    return f"meter {meter}, batch {position[0]}.{position[1]}"


def account_text(labels: Mapping[str, Any]) -> str:
    """One text per account, whatever the order of its labels."""
    return "|".join(f"{name}={labels[name]}" for name in sorted(labels))


def movement_of(record: Mapping[str, Any]) -> int:
    """Microjoules a device moved over the raw readings of one batch, by the rules of delta.py."""
    device = Device(
        "", "", record["uuid"], DeviceKind(record["kind"]), "", Grade(record["grade"]), record["wraps_at_uj"]
    )
    readings = [_reading(device.grade, *raw) for raw in record["raw"]]
    kind = DeltaKind(record["absence"]) if record["absence"] else DeltaKind.NORMAL
    total_uj = 0
    for before, after in pairwise(readings):
        delta = delta_between(device, before, after, kind)
        total_uj += delta.energy_uj if delta else 0
        kind = DeltaKind.NORMAL  # an absence can only lie before the first reading of a batch
    return total_uj


def _reading(grade: Grade, at_ns: int, value: int) -> Reading:
    return PowerReading(at_ns, value) if grade is Grade.INTEGRATED else CounterReading(at_ns, value)
