"""Receipts, read from the rings of one node by their ids. They are priced where the grid data are: by the accountant.

desk = ReceiptDesk(tag, open_ring, is_watched, wall_minus_monotonic_ns)
desk.receipt("1a2b3c4d-0123456789ab-1f")
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_

from app.domain.account import Account, AccountName
from app.engine.phases import per_token
from app.engine.shares import NO_SHARES, Shares, fair_shares
from app.engine.views import MeasuredReceipt, MeasuredReceipts
from app.errors import InvalidInput, NotFound
from app.ledger.ring import SETTLED, RingReader, grades_text, parse_receipt_id
from app.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class ReceiptDesk:
    """Hands out the receipts of one node as they are now: provisional while the meter still books their time."""

    tag: str
    """First part of this node's receipt ids."""
    open_ring: Callable[[str], RingReader]
    """Opens a ring by its id. Raises FileNotFoundError."""
    is_watched: Callable[[str], bool]
    """Whether the process of a ring still lives or has work that is not booked."""
    wall_minus_monotonic_ns: int

    def receipt(self, receipt_id: str) -> MeasuredReceipt:
        """One receipt. Raises InvalidInput for no receipt id, NotFound if it is not here, or no longer kept."""
        ring_id, sequence = self._located(receipt_id)
        with self._opened(receipt_id, ring_id) as reader:
            return self._read(receipt_id, reader, sequence)

    def receipts(self, receipt_ids: Iterable[str]) -> MeasuredReceipts:
        """Many receipts, each ring opened once; why one cannot be told stands in `missing`."""
        found: list[MeasuredReceipt] = []
        missing: dict[str, str] = {}
        by_ring: dict[str, list[tuple[str, int]]] = {}
        for receipt_id in receipt_ids:
            try:
                ring_id, sequence = self._located(receipt_id)
                by_ring.setdefault(ring_id, []).append((receipt_id, sequence))
            except (InvalidInput, NotFound) as error:
                missing[receipt_id] = str(error)
        for ring_id, wanted in by_ring.items():
            try:
                with self._opened(wanted[0][0], ring_id) as reader:
                    for receipt_id, sequence in wanted:
                        try:
                            found.append(self._read(receipt_id, reader, sequence))
                        except NotFound as error:
                            missing[receipt_id] = str(error)
            except NotFound as error:
                missing |= dict.fromkeys((receipt_id for receipt_id, _ in wanted), str(error))
        return MeasuredReceipts(receipts=tuple(found), missing=missing)

    def _located(self, receipt_id: str) -> tuple[str, int]:
        wanted_tag, ring_id, sequence = parse_receipt_id(receipt_id)
        if wanted_tag != self.tag:
            raise NotFound(f"receipt {receipt_id} is of node {wanted_tag}, this is {self.tag}")
        return ring_id, sequence

    @contextmanager
    def _opened(self, receipt_id: str, ring_id: str) -> Iterator[RingReader]:
        try:
            reader = self.open_ring(ring_id)
        except FileNotFoundError as error:
            raise NotFound(f"receipt {receipt_id}: process {ring_id} has left no receipts on this node") from error
        try:
            yield reader
        finally:
            reader.close()

    def _read(self, receipt_id: str, reader: RingReader, sequence: int) -> MeasuredReceipt:
        is_final = not self.is_watched(reader.ring_id)  # asked first: what is final may not be read before
        rows = reader.phases(sequence)
        account: Account = reader.account(int(rows[0]["owner"]))
        phases_uj = [int(row["energy_uj"]) for row in rows]
        start_ns, end_ns, energy_uj = int(rows[0]["start_ns"]), int(rows[-1]["end_ns"]), sum(phases_uj)
        tokens = int(rows[-1]["part"]) if len(rows) > 1 else 0
        shares = _shares(reader, account, energy_uj)
        return MeasuredReceipt(
            receipt_id=receipt_id,
            account=account.name.value,
            tenant=account.tenant,
            model=account.model,
            version=account.version,
            job=account.job,
            node=reader.header.node,
            energy_uj=energy_uj,
            grade=grades_text(reduce(or_, (int(row["grades"]) for row in rows))),
            provisional=not all(int(row["state"]) & SETTLED for row in rows),
            prefill_uj=phases_uj[0] if len(rows) > 1 else None,
            decode_uj=phases_uj[1] if len(rows) > 1 else None,
            uj_per_token=per_token(energy_uj, tokens),
            load_share_uj=shares.load_uj,
            warm_share_uj=shares.warm_uj,
            shares_final=is_final,
            duration_ns=max(0, end_ns - start_ns) if end_ns else 0,
            wall_time_s=(start_ns + self.wall_minus_monotonic_ns) / NS_PER_S,
        )


def _shares(reader: RingReader, account: Account, energy_uj: int) -> Shares:
    if account.name is not AccountName.REQUEST:
        return NO_SHARES
    charged = reader.charged
    return fair_shares(charged, energy_uj, charged.request_uj)
