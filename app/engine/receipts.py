"""Receipts, read from the rings of one node by their ids."""

from collections.abc import Callable

from app.domain.account import Account
from app.engine.views import Receipt
from app.errors import NotFound
from app.ledger.ring import SETTLED, RingReader, grades_text, parse_receipt_id
from app.units import NS_PER_S, carbon_ug


def read_receipt(
    receipt_id: str,
    open_ring: Callable[[str], RingReader],
    tag: str,
    intensity_g_per_kwh: float,
    wall_minus_monotonic_ns: int,
) -> Receipt:
    """The receipt `receipt_id`, provisional while the meter still books its time.

    `open_ring` opens a ring by its id, `tag` is this node's. Raises InvalidInput for no receipt id, NotFound
    for one of another node or boot, or no longer kept.
    """
    wanted_tag, ring_id, sequence = parse_receipt_id(receipt_id)
    if wanted_tag != tag:
        raise NotFound(f"receipt {receipt_id} is of node {wanted_tag}, this is {tag}")
    try:
        reader = open_ring(ring_id)
    except FileNotFoundError as error:
        raise NotFound(f"receipt {receipt_id}: process {ring_id} has left no receipts on this node") from error
    try:
        return _receipt(receipt_id, reader, sequence, intensity_g_per_kwh, wall_minus_monotonic_ns)
    finally:
        reader.close()


def _receipt(
    receipt_id: str, reader: RingReader, sequence: int, intensity_g_per_kwh: float, wall_minus_monotonic_ns: int
) -> Receipt:
    row = reader.record(sequence)
    account: Account = reader.account(int(row["owner"]))
    start_ns, end_ns, energy_uj = int(row["start_ns"]), int(row["end_ns"]), int(row["energy_uj"])
    return Receipt(
        receipt_id=receipt_id,
        account=account.name.value,
        tenant=account.tenant,
        model=account.model,
        version=account.version,
        job=account.job,
        node=reader.header.node,
        energy_uj=energy_uj,
        carbon_ugco2e=carbon_ug(energy_uj, intensity_g_per_kwh),
        grade=grades_text(int(row["grades"])),
        provisional=not int(row["state"]) & SETTLED,
        duration_ns=max(0, end_ns - start_ns) if end_ns else 0,
        wall_time_s=(start_ns + wall_minus_monotonic_ns) / NS_PER_S,
    )
