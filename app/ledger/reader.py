"""What the store holds, read inside one transaction: everything a reader returns is of the same moment.

with store.moment() as books:
    for meter in books.ends():
        for batch in books.batches(meter): ...
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select
from sqlalchemy.engine import Connection

from app.domain.account import Account
from app.domain.reading import Grade
from app.ledger.account_tables import account_of_labels
from app.ledger.audit import TOLERANCE_NS
from app.ledger.batch import GENESIS, Batch
from app.ledger.database import stream
from app.ledger.schema import ACCOUNT_LABELS, accounts, balances, batches, devices, job_parts, lines, seals, spans
from app.ledger.seals import Seal

Position = tuple[int, int]
"""Epoch and sequence number of a batch."""

START: Position = (0, -1)
"""Before the first batch of any meter."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Energy of one device charged to one account in one grade and time bucket (or a sum of buckets)."""

    bucket_s: int
    device: str
    node: str
    grade: Grade
    account: Account
    energy_uj: int
    uncertainty_uj: int
    width_s: int = 60
    """Seconds of the bucket: 60 (or what the store was told), 3600 or 86400; 0 for a sum since the books began."""


@dataclass(frozen=True, slots=True)
class JobPart:
    """What one part (from 1) of a job used on one worker (rank), over all devices."""

    account: Account
    worker: int
    part: int
    energy_uj: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class StoredDevice:
    """A device that was ever booked."""

    key: str
    tag: str
    node: str
    kind: str
    name: str
    grade: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two meters booked one device over [from_ns, until_ns), its host's monotonic clock: that energy counts twice."""

    device: str
    meters: tuple[str, str]
    from_ns: int
    until_ns: int


class Reader:
    """Reads on one connection. Raises what the database raises: the store translates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def balances(self, since_s: float | None, until_s: float | None) -> Iterator[Balance]:
        """Of the buckets that touch [since_s, until_s)."""
        figures = balances.c
        query = _joined(figures.bucket_s, figures.width_s, figures.energy_uj, figures.uncertainty_uj)
        query = query.join(balances, figures.line == lines.c.id)
        if since_s is not None:
            query = query.where(figures.bucket_s + figures.width_s > since_s)
        if until_s is not None:
            query = query.where(figures.bucket_s < until_s)
        return map(_balance, self._connection.execute(query))

    def by_tenant(self, since_s: float) -> Iterator[tuple[str, int, int, int]]:
        """Tenant, begin and width (s) of a bucket, and energy, of the buckets from `since_s` on."""
        figures = balances.c
        query = (
            select(accounts.c.tenant, figures.bucket_s, figures.width_s, func.sum(figures.energy_uj))
            .select_from(balances)
            .join(lines, lines.c.id == figures.line)
            .join(accounts, accounts.c.id == lines.c.account)
            .where(accounts.c.tenant != "", figures.bucket_s >= since_s)
            .group_by(accounts.c.tenant, figures.bucket_s, figures.width_s)
        )
        for tenant, bucket_s, width_s, energy_uj in self._connection.execute(query):
            yield tenant, bucket_s, width_s, int(energy_uj)

    def by_model(self, model: str, since_s: float) -> Iterator[tuple[str, str, int, int, int]]:
        """Name of the account, version, begin and width (s) of a bucket, and energy, of the buckets from `since_s` on:
        all that was charged to a model."""
        figures = balances.c
        query = (
            select(accounts.c.name, accounts.c.version, figures.bucket_s, figures.width_s, func.sum(figures.energy_uj))
            .select_from(balances)
            .join(lines, lines.c.id == figures.line)
            .join(accounts, accounts.c.id == lines.c.account)
            .where(accounts.c.model == model, figures.bucket_s >= since_s)
            .group_by(accounts.c.name, accounts.c.version, figures.bucket_s, figures.width_s)
        )
        for name, version, bucket_s, width_s, energy_uj in self._connection.execute(query):
            yield name, version, bucket_s, width_s, int(energy_uj)

    def by_job(self, job: str) -> Iterator[tuple[int, int, int]]:
        """Begin and width (s) of each bucket, and energy, of all attempts of a job, by time."""
        figures = balances.c
        query = (
            select(figures.bucket_s, figures.width_s, func.sum(figures.energy_uj))
            .select_from(balances)
            .join(lines, lines.c.id == figures.line)
            .join(accounts, accounts.c.id == lines.c.account)
            .where(accounts.c.job == job)
            .group_by(figures.bucket_s, figures.width_s)
            .order_by(figures.bucket_s, figures.width_s)
        )
        for bucket_s, width_s, energy_uj in self._connection.execute(query):
            yield bucket_s, width_s, int(energy_uj)

    def totals(self) -> Iterator[Balance]:
        """Running totals."""
        zero = literal(0)
        query = _joined(zero.label("bucket_s"), zero.label("width_s"), lines.c.energy_uj, lines.c.uncertainty_uj)
        return map(_balance, self._connection.execute(query))

    def sums_of_balances(self) -> Iterator[Balance]:
        """The balances of each line added up, all of them: for the audit."""
        zero, figures = literal(0), balances.c
        sums = select(
            figures.line,
            func.sum(figures.energy_uj).label("energy_uj"),
            func.sum(figures.uncertainty_uj).label("uncertainty_uj"),
        )
        added = sums.group_by(figures.line).subquery()
        query = _joined(zero.label("bucket_s"), zero.label("width_s"), added.c.energy_uj, added.c.uncertainty_uj)
        return map(_balance, self._connection.execute(query.join(added, added.c.line == lines.c.id)))

    def job_parts(self, job: str = "") -> Iterator[JobPart]:
        """By account, worker and part; of all jobs if none is named."""
        columns = [accounts.c[name] for name in ACCOUNT_LABELS]
        figures = (job_parts.c.worker, job_parts.c.part, job_parts.c.energy_uj, job_parts.c.time_ns)
        query = select(*columns, *figures).join(accounts, accounts.c.id == job_parts.c.account)
        query = query.order_by(job_parts.c.account, job_parts.c.worker, job_parts.c.part)
        if job:
            query = query.where(accounts.c.job == job)
        for row in self._connection.execute(query):
            yield JobPart(_account(tuple(row[: len(columns)])), *row[len(columns) :])

    def devices(self) -> list[StoredDevice]:
        """Every device that was ever booked."""
        return [StoredDevice(*row) for row in self._connection.execute(select(devices).order_by(devices.c.key))]

    def ends(self) -> dict[str, Position]:
        """Position of the last batch of every meter that ever delivered, dropped ones included."""
        found = self.sealed()
        meter = self.next_meter("")
        while meter is not None:
            epoch, sequence = batches.c.epoch, batches.c.sequence
            query = select(epoch, sequence).where(batches.c.meter == meter)
            row = self._connection.execute(query.order_by(epoch.desc(), sequence.desc()).limit(1)).one()
            found[meter] = max(found.get(meter, START), (row.epoch, row.sequence))
            meter = self.next_meter(meter)
        return found

    def next_meter(self, after: str) -> str | None:
        """The meter with batches that comes next by name: a jump in the index, however many batches each has."""
        query = select(batches.c.meter).where(batches.c.meter > after).order_by(batches.c.meter).limit(1)
        return self._connection.execute(query).scalar()

    def batches(self, meter: str, after: Position = START) -> Iterator[Batch]:
        """The batches of a meter after a position, in order, a few at a time."""
        columns = batches.c
        query = select(columns.epoch, columns.sequence, columns.previous, columns.digest, columns.body)
        query = query.where(columns.meter == meter, later_than(after)).order_by(columns.epoch, columns.sequence)
        for row in stream(self._connection, query):
            yield Batch(meter, *row)

    def oldest(self, meter: str) -> tuple[Position, int] | None:
        """Position and wall time (ns) of the first batch that is still there; None where none is."""
        columns = batches.c
        query = select(columns.epoch, columns.sequence, columns.wall_ns).where(columns.meter == meter)
        row = self._connection.execute(query.order_by(columns.epoch, columns.sequence).limit(1)).first()
        return ((row.epoch, row.sequence), row.wall_ns) if row else None

    def wall_ns(self, meter: str, position: Position) -> int | None:
        """Wall time of the batch at a position; None if it was dropped."""
        columns = batches.c
        query = select(columns.wall_ns).where(columns.meter == meter, columns.epoch == position[0])
        return self._connection.execute(query.where(columns.sequence == position[1])).scalar()

    def seals(self, meter: str) -> Iterator[Seal]:
        """The seals of a meter in order."""
        columns = seals.c
        query = select(columns.epoch, columns.sequence, columns.previous, columns.digest, columns.body)
        query = query.where(columns.meter == meter).order_by(columns.id)
        for row in self._connection.execute(query):
            yield Seal(meter, *row)

    def last_seal(self, meter: str) -> str:
        """Digest of the newest seal of a meter; GENESIS without one."""
        query = select(seals.c.digest).where(seals.c.meter == meter).order_by(seals.c.id.desc()).limit(1)
        return self._connection.execute(query).scalar() or GENESIS

    def sealed_end(self, meter: str) -> Position:
        """Up to where the batches of a meter are sealed; START if none are."""
        columns = seals.c
        query = select(columns.epoch, columns.sequence).where(columns.meter == meter).order_by(columns.id.desc())
        row = self._connection.execute(query.limit(1)).first()
        return (row.epoch, row.sequence) if row else START

    def sealed(self) -> dict[str, Position]:
        """Up to where the batches of each meter are sealed."""
        newest = select(func.max(seals.c.id)).group_by(seals.c.meter)
        query = select(seals.c.meter, seals.c.epoch, seals.c.sequence).where(seals.c.id.in_(newest))
        return {meter: (epoch, sequence) for meter, epoch, sequence in self._connection.execute(query)}

    def spans(self) -> dict[tuple[str, str], tuple[int, int]]:
        """First and last instant (ns) that a meter has booked of a device, by device and meter."""
        query = select(spans.c.device, spans.c.meter, spans.c.first_ns, spans.c.last_ns)
        return {(device, meter): (first, last) for device, meter, first, last in self._connection.execute(query)}

    def overlaps(self) -> list[Overlap]:
        """Where two meters have booked the same device over the same time."""
        one, other = spans.alias(), spans.alias()
        query = select(
            one.c.device, one.c.meter, other.c.meter, one.c.first_ns, other.c.first_ns, one.c.last_ns, other.c.last_ns
        ).join(other, and_(one.c.device == other.c.device, one.c.meter < other.c.meter))
        query = query.where(
            one.c.first_ns + TOLERANCE_NS < other.c.last_ns, other.c.first_ns + TOLERANCE_NS < one.c.last_ns
        )
        return [
            Overlap(device, (meter, second), max(begin, begin_2), min(end, end_2))
            for device, meter, second, begin, begin_2, end, end_2 in self._connection.execute(query)
            if min(end, end_2) - max(begin, begin_2) > TOLERANCE_NS
        ]


def later_than(position: Position) -> ColumnElement[bool]:
    """Batches after a position."""
    epoch, sequence = position
    return or_(batches.c.epoch > epoch, and_(batches.c.epoch == epoch, batches.c.sequence > sequence))


def _joined(*figures: Any) -> Any:
    labels = (accounts.c[name] for name in ACCOUNT_LABELS)
    return (
        select(lines.c.device, lines.c.grade, *figures, devices.c.node, *labels)
        .select_from(lines)
        .join(devices, devices.c.key == lines.c.device)
        .join(accounts, accounts.c.id == lines.c.account)
    )


@functools.lru_cache(maxsize=10_000)
def _account(labels: tuple[Any, ...]) -> Account:
    return account_of_labels(dict(zip(ACCOUNT_LABELS, labels, strict=True)))


def _balance(row: Any) -> Balance:
    device, grade, bucket_s, width_s, energy_uj, uncertainty_uj, node, *labels = row
    return Balance(
        bucket_s=bucket_s,
        device=device,
        node=node,
        grade=Grade(grade),
        account=_account(tuple(labels)),
        energy_uj=int(energy_uj),  # PostgreSQL's sums are decimals
        uncertainty_uj=int(uncertainty_uj),
        width_s=width_s,
    )
