"""What a chaos run left on the books, checked without the code that wrote them where that is possible.

The audit is asked too, but beside it the batches are read from the store: the ranges of readings of each device must
join without overlap (nothing twice) and without hole, what was posted must be the movement of the scripted counter, and
every microjoule in `gap` must lie in a time in which a kill left the node without a meter.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.ledger.journal import Batch, read_epoch
from app.ledger.store import Store
from app.units import NS_PER_S
from scripts.chaos.kills import Kill
from scripts.chaos.power import ScriptedGpu

_METERLESS = ("meter", "raylet")
"""Kills that leave a node without a meter."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Energy of one device that one batch charged to `gap`: where, how much, when, and the kills that explain it."""

    device: str
    node: str
    energy_uj: int
    from_ns: int
    until_ns: int
    kills: tuple[Kill, ...]

    @property
    def why(self) -> str:
        """Empty when no kill explains it."""
        causes = [kill for kill in self.kills if kill.kind in _METERLESS]
        if not causes:
            return ""
        others = sorted({kill.kind for kill in self.kills} - set(_METERLESS))
        beside = f"; {', '.join(others)} killed in the same time" if others else ""
        return f"{causes[0].kind} killed, no meter for {(self.until_ns - causes[0].at_ns) / NS_PER_S:.1f} s{beside}"


@dataclass(slots=True)
class DeviceCheck:
    """One device's batches, in the order of its readings."""

    node: str
    first: tuple[int, int]
    last: tuple[int, int]
    posted_uj: int = 0
    batches: int = 0
    overlaps: int = 0
    holes: int = 0


@dataclass(slots=True)
class BooksCheck:
    """Everything found in the store and the journals."""

    devices: dict[str, DeviceCheck] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    meters: int = 0
    batches: int = 0
    dead_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds without a meter that the books know of, by node."""
    undelivered: int = 0
    """Batches of a journal that the store does not have."""

    @property
    def posted_twice(self) -> int:
        """Ranges of readings that two batches claim."""
        return sum(device.overlaps for device in self.devices.values())

    @property
    def holes(self) -> int:
        """Ranges of readings that no batch claims."""
        return sum(device.holes for device in self.devices.values())

    @property
    def unexplained(self) -> list[Gap]:
        """Gaps without a kill."""
        return [gap for gap in self.gaps if not gap.why]


def check_books(store_url: str, journals: Sequence[Path], kills: Sequence[Kill]) -> BooksCheck:
    """Read every batch of the store, and every journal."""
    store = Store(store_url)
    try:
        ends = store.ends()
        batches = [batch for meter in sorted(ends) for batch in store.batches(meter)]
    finally:
        store.close()
    found = BooksCheck(meters=len(ends), batches=len(batches))
    _check_devices(found, batches)
    _check_gaps(found, batches, kills)
    stored = {(batch.meter, batch.position, batch.digest) for batch in batches}
    for journal in journals:
        for path in sorted(journal.glob("*.journal")):
            kept = read_epoch(path)
            found.undelivered += sum((batch.meter, batch.position, batch.digest) not in stored for batch in kept)
    return found


def counter_difference_uj(check: DeviceCheck, gpu: ScriptedGpu) -> tuple[int, int]:
    """Of a scripted GPU: postings against the movement of its counter between first and last reading, and how far
    the last reading's value is from what the script shows at that instant; both 0 where all is well (the second may
    be off by the ticks that lie within one call)."""
    moved_uj = check.last[1] - check.first[1]
    return check.posted_uj - moved_uj, check.last[1] - gpu.script.counter_mj(0, check.last[0]) * 1000


def _check_devices(found: BooksCheck, batches: Sequence[Batch]) -> None:
    ranges: dict[str, list[tuple[tuple[int, int], tuple[int, int], str]]] = defaultdict(list)
    posted: dict[str, int] = defaultdict(int)
    for batch in batches:
        for record in batch.body["devices"]:
            first, last = record["raw"][0], record["raw"][-1]
            ranges[record["key"]].append(((first[0], first[1]), (last[0], last[1]), batch.body["node"]))
        for posting in batch.body["postings"]:
            posted[posting["device"]] += posting["energy_uj"]
    for key, own in ranges.items():
        own.sort()
        check = DeviceCheck(own[0][2], own[0][0], own[0][1], posted[key], len(own))
        for first, last, _ in own[1:]:
            check.overlaps += first[0] < check.last[0]
            check.holes += first[0] > check.last[0] or (first[0] == check.last[0] and first != check.last)
            check.last = max(check.last, last)
        found.devices[key] = check


def _check_gaps(found: BooksCheck, batches: Sequence[Batch], kills: Sequence[Kill]) -> None:
    for batch in batches:
        node = batch.body["node"]
        in_gap = _gap_by_device(batch)
        for record in batch.body["devices"]:
            if record["absence"] != "dead":
                continue
            (from_ns, *_), (until_ns, *_) = record["raw"][:2]
            if record["kind"] == "gpu":
                found.dead_s[node] += (until_ns - from_ns) / NS_PER_S
            if energy_uj := in_gap.pop(record["key"], 0):
                inside = tuple(kill for kill in kills if kill.node == node and from_ns <= kill.at_ns <= until_ns)
                found.gaps.append(Gap(record["key"], node, energy_uj, from_ns, until_ns, inside))
        for key, energy_uj in in_gap.items():  # gap without an absence: nothing could explain it
            found.gaps.append(Gap(key, node, energy_uj, 0, 0, ()))


def _gap_by_device(batch: Batch) -> dict[str, int]:
    in_gap: dict[str, int] = defaultdict(int)
    for posting in batch.body["postings"]:
        if posting["account"]["name"] == "gap" and posting["energy_uj"]:
            in_gap[posting["device"]] += posting["energy_uj"]
    return dict(in_gap)


def gap_rows(gaps: Sequence[Gap], begun_ns: int) -> list[Mapping[str, Any]]:
    """The gaps for people and JSON, largest first."""
    return [
        {
            "device": gap.device.rpartition("/")[2],
            "node": gap.node,
            "energy_uj": gap.energy_uj,
            "from_s": round((gap.from_ns - begun_ns) / NS_PER_S, 1),
            "seconds": round((gap.until_ns - gap.from_ns) / NS_PER_S, 1),
            "why": gap.why,
        }
        for gap in sorted(gaps, key=lambda gap: -gap.energy_uj)
    ]
