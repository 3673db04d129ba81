"""The audit: recompute everything from raw readings and compare.

Pure: batches, balances and the meters' own evidence in, faults out. Knows nothing of databases or Ray.

Per device three independent figures must agree to the microjoule: the movement of its counter recomputed from raw
readings (of the node's journal where it is at hand, else of the delivered batches), the sum of its postings, and the
sum of its balances. The chain of digests must be unbroken, and consecutive batches must join without a hole.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from app.domain.reading import CounterReading, DeltaKind, Device, DeviceKind, Grade, PowerReading, Reading
from app.ledger.delta import delta_between
from app.ledger.journal import GENESIS, Batch, digest_of

MAX_FAULTS = 100


@dataclass(slots=True)
class DeviceTally:
    """What batches say of one device."""

    movement_uj: int = 0
    posted_uj: int = 0
    gap_uj: int = 0
    batches: int = 0
    last: tuple[int, int] | None = None
    """(at_ns, value) of the last raw reading."""

    def add(self, other: "DeviceTally") -> None:
        """Take in what another meter's batches say of the same device."""
        self.movement_uj += other.movement_uj
        self.posted_uj += other.posted_uj
        self.gap_uj += other.gap_uj
        self.batches += other.batches


@dataclass(slots=True)
class ChainTally:
    """What the batches of one meter say."""

    meter: str
    devices: dict[str, DeviceTally] = field(default_factory=lambda: defaultdict(DeviceTally))
    digests: dict[tuple[int, int], str] = field(default_factory=dict)
    movements: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)
    """Movement of each device by position of the batch."""
    postings: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """Energy by (device, account as JSON-like text)."""
    faults: list[str] = field(default_factory=list)


def tally_chain(meter: str, batches: Iterable[Batch], from_genesis: bool = True) -> ChainTally:
    """Recompute what `batches` (in order) say. `from_genesis`: the first must be the first ever."""
    tally = ChainTally(meter)
    previous = GENESIS if from_genesis else None
    for batch in batches:
        where = f"meter {meter}, batch {batch.epoch}.{batch.sequence}"
        if previous is not None and batch.previous != previous:
            tally.faults.append(f"{where}: the chain is broken; a batch before it was removed, added or altered")
        if digest_of(batch.previous, batch.body) != batch.digest:
            tally.faults.append(f"{where}: its digest does not match its contents; the batch was altered")
        previous = batch.digest
        tally.digests[batch.position] = batch.digest
        _tally_batch(tally, batch, where)
    return tally


def _tally_batch(tally: ChainTally, batch: Batch, where: str) -> None:
    posted: dict[str, int] = defaultdict(int)
    for posting in batch.body["postings"]:
        if posting["energy_uj"] < 0:
            tally.faults.append(f"{where}: a posting of {posting['energy_uj']} uJ; postings are never negative")
        posted[posting["device"]] += posting["energy_uj"]
        tally.postings[posting["device"], account_text(posting["account"])] += posting["energy_uj"]
        if posting["account"]["name"] == "gap":
            tally.devices[posting["device"]].gap_uj += posting["energy_uj"]
    moved = {record["key"]: movement_of(record) for record in batch.body["devices"]}
    tally.movements[batch.position] = moved
    for record in batch.body["devices"]:
        device = tally.devices[record["key"]]
        first = (record["raw"][0][0], record["raw"][0][1])
        if device.last is not None and device.last != first:
            tally.faults.append(
                f"{where}: {record['key']} begins at reading {first}, the last one ended at {device.last}"
            )
        device.last = (record["raw"][-1][0], record["raw"][-1][1])
        device.movement_uj += moved[record["key"]]
        device.batches += 1
    for key in posted.keys() | moved.keys():
        tally.devices[key].posted_uj += posted[key]
        if posted[key] != moved.get(key, 0):
            difference_uj = posted[key] - moved.get(key, 0)
            tally.faults.append(
                f"{where}: {key} moved {moved.get(key, 0)} uJ, posted {posted[key]} ({difference_uj:+} uJ)"
            )


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


def compare_balances(chains: Iterable[ChainTally], balances: Mapping[tuple[str, str], int]) -> list[str]:
    """Faults where the balances (energy by device and account text) are not the sum of the batches' postings."""
    posted: dict[tuple[str, str], int] = defaultdict(int)
    for chain in chains:
        for key, energy_uj in chain.postings.items():
            posted[key] += energy_uj
    return [
        f"{device}: account {account} has a balance of {balances.get((device, account), 0)} uJ, "
        f"its postings add up to {posted.get((device, account), 0)} uJ; the balances were altered"
        for device, account in sorted(posted.keys() | balances.keys())
        if balances.get((device, account), 0) != posted.get((device, account), 0)
    ]


def compare_journal(stored: ChainTally, journal: ChainTally, acknowledged: tuple[int, int]) -> list[str]:
    """Faults where the node's own journal and what the store holds of the same batches differ.

    Batches up to the position `acknowledged` must be in the store, and none that the journal's own range does not know.
    """
    kept = sorted(journal.digests)
    faults = [
        f"meter {stored.meter}, batch {position[0]}.{position[1]}: in the store, not in the node's journal"
        for position in sorted(stored.digests)
        if kept and kept[0] < position < kept[-1] and position not in journal.digests
    ]
    for position, digest in sorted(journal.digests.items()):
        where = f"meter {stored.meter}, batch {position[0]}.{position[1]}"
        if position not in stored.digests:
            if position <= acknowledged:
                faults.append(f"{where}: in the node's journal and acknowledged, but not in the store")
        elif stored.digests[position] != digest:
            faults.append(f"{where}: the store's digest differs from the node's journal")
    return faults
