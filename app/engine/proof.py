"""The proof of the books: every meter's batches recomputed and held against all that was derived from them.

Reads one moment of the store, a few batches at a time. Knows nothing of Ray or of how meters are asked.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from app.engine.evidence import Evidence
from app.engine.views import Audit, DeviceAudit, GapAudit
from app.ledger.audit import MAX_FAULTS, LineKey, Whole, Witness, account_text, tally_chain
from app.ledger.reader import Balance, Position, Reader
from app.ledger.seals import tally_seals
from app.units import NS_PER_S

_MAX_GAPS = 1_000


def prove(books: Reader, testimonies: Sequence[Evidence]) -> Audit:
    """Recompute the books from raw readings; `testimonies` are those of the meters that are alive."""
    by_meter = {evidence.meter: evidence for evidence in testimonies}
    ends = books.ends()
    whole = Whole()
    for meter in sorted({*ends, *by_meter}):
        _prove_meter(books, meter, by_meter.get(meter), whole)
    faults = whole.faults + whole.overlaps()
    faults += whole.compare_balances(_by_line(books.totals()), "running total")
    faults += whole.compare_balances(_by_line(books.sums_of_balances()))
    faults += whole.compare_spans(books.spans())
    parts = books.job_parts()
    faults += whole.compare_parts(
        {(account_text(p.account.labels()), p.worker, p.part): (p.energy_uj, p.time_ns) for p in parts}
    )
    devices = _device_audits(books, whole, testimonies)
    energy_uj = sum(device.movement_uj for device in devices)
    gap_uj = sum(device.gap_uj for device in devices)
    return Audit(
        ok=not faults and all(device.difference_uj == 0 for device in devices),
        devices=tuple(devices),
        faults=tuple(faults[:MAX_FAULTS]),
        energy_uj=energy_uj,
        gap_share=gap_uj / energy_uj if energy_uj else 0.0,
        notes=tuple(_notes(books, ends, by_meter, whole)),
        gaps=tuple(_gap_audits(whole)),
    )


def _prove_meter(books: Reader, meter: str, evidence: Evidence | None, whole: Whole) -> None:
    sealed = tally_seals(meter, books.seals(meter))
    witness = Witness(evidence.journal.digests, evidence.acknowledged) if evidence else Witness({}, (0, -1))
    tally = tally_chain(meter, books.batches(meter, sealed.end), sealed=sealed, witness=witness)
    whole.add(tally)
    if evidence:
        whole.faults += evidence.journal.faults


def _by_line(balances: Iterable[Balance]) -> dict[LineKey, int]:
    return {
        (balance.device, account_text(balance.account.labels()), balance.grade.value): balance.energy_uj
        for balance in balances
    }


def _device_audits(books: Reader, whole: Whole, testimonies: Iterable[Evidence]) -> list[DeviceAudit]:
    pending: dict[str, int] = {}
    for evidence in testimonies:
        pending |= evidence.pending_uj
    return [
        DeviceAudit(
            device_key=device.key,
            node=device.node,
            name=device.name,
            grade=device.grade,
            movement_uj=tally.movement_uj,
            posted_uj=tally.posted_uj,
            difference_uj=tally.posted_uj - tally.movement_uj,
            gap_uj=tally.gap_uj,
            pending_uj=pending.get(device.key, 0),
            batches=tally.batches,
        )
        for device in books.devices()
        if (tally := whole.devices.get(device.key)) is not None
    ]


def _notes(books: Reader, ends: Mapping[str, Position], heard: Mapping[str, Evidence], whole: Whole) -> Iterable[str]:
    unheard = sorted(ends.keys() - heard.keys())
    nodes = _nodes(books, whole)
    for meter in unheard[:MAX_FAULTS]:
        wall_ns = books.wall_ns(meter, ends[meter])
        when = f"its last batch is of {_utc(wall_ns)}" if wall_ns else "its batches are sealed"
        yield f"meter {meter} ({nodes.get(meter) or 'no device'}) was not heard, its journal is not compared; {when}"
    if len(unheard) > MAX_FAULTS:
        yield f"{len(unheard) - MAX_FAULTS} more meters were not heard"
    if whole.gaps_left_out:
        yield f"{whole.gaps_left_out} gaps are not listed one by one; they are in the sums"


def _nodes(books: Reader, whole: Whole) -> dict[str, str]:
    """The node that each meter has metered, by the devices it booked."""
    node_of = {device.key: device.node for device in books.devices()}
    found: dict[str, set[str]] = defaultdict(set)
    for device, meter in whole.booked_by():
        found[meter].add(node_of.get(device, device))
    return {meter: "node " + ", ".join(sorted(nodes)) for meter, nodes in found.items()}


def _gap_audits(whole: Whole) -> Iterable[GapAudit]:
    for gap in sorted(whole.gaps, key=lambda gap: -gap.energy_uj)[:_MAX_GAPS]:
        yield GapAudit(
            node=gap.node,
            device_key=gap.device,
            meter=gap.meter,
            energy_uj=gap.energy_uj,
            since_s=gap.from_ns / NS_PER_S,
            duration_s=gap.duration_ns / NS_PER_S,
            reason=gap.reason,
        )


def _utc(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
