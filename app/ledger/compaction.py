"""Compaction: old minutes become hours, old hours days, old batches seals. Energy stays, to the microjoule.

In small steps, each a transaction of its own, so that booking never waits long; to be killed in between loses nothing.
Batches are dropped only once everything they say has been proven and sealed: what has a fault stays as evidence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import ColumnElement, and_, delete, func, insert, literal, or_, select
from sqlalchemy.engine import Connection

from app.ledger.database import Database
from app.ledger.reader import START, Position, Reader
from app.ledger.schema import balances, batches, seals
from app.ledger.seals import Seal, tally_seals
from app.ledger.tally import ChainTally, tally_chain
from app.units import NS_PER_S

HOUR_S, DAY_S = 3_600, 86_400

BATCHES_A_SEAL = 20_000
BATCHES_A_STEP = 2_000


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the store keeps what, seconds. Days and running totals stay for ever."""

    batches_s: float = 30 * DAY_S
    minutes_s: float = 7 * DAY_S
    hours_s: float = 400 * DAY_S


@dataclass(frozen=True, slots=True)
class Compaction:
    """What one call did."""

    buckets: int = 0
    """Minutes and hours that were added to the wider bucket around them."""
    sealed: int = 0
    """Batches that a seal stands for now."""
    dropped: int = 0
    """Batches that were removed."""
    kept: tuple[str, ...] = ()
    """Why batches that are old enough were not sealed, by meter."""
    more: bool = False
    """There was more to do than the call was allowed."""


class Compactor:
    """Compacts one store. Not thread-safe."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database, self._retention = database, retention

    def compact(self, now_s: float, steps: int) -> Compaction:
        """Take up to `steps` small steps. Raises Unavailable."""
        kept: list[str] = []
        buckets = sealed = dropped = taken = 0
        for what, count in islice(self._steps(now_s, kept), steps):
            taken += 1
            buckets += count if what == "bucket" else 0
            sealed += count if what == "seal" else 0
            dropped += count if what == "drop" else 0
        return Compaction(buckets, sealed, dropped, tuple(kept), more=taken == steps)

    def _steps(self, now_s: float, kept: list[str]) -> Iterator[tuple[str, int]]:
        yield from self._widen(range(1, HOUR_S), HOUR_S, now_s - self._retention.minutes_s)
        yield from self._widen(range(HOUR_S, HOUR_S + 1), DAY_S, now_s - self._retention.hours_s)
        # Whole days: a seal a day is little, a seal an hour would be a lot.
        before_s = (now_s - self._retention.batches_s) // DAY_S * DAY_S
        before_ns = int(before_s) * NS_PER_S
        meter = ""
        while found := self._next_meter(meter, before_ns):
            meter = found
            yield from self._seal_meter(meter, before_ns, kept)

    def _next_meter(self, after: str, before_ns: int) -> str | None:
        """The next meter that has something to seal or to drop."""
        with self._database.reading() as connection:
            reader = Reader(connection)
            meter = reader.next_meter(after)
            while meter is not None:
                oldest = reader.oldest(meter)
                if oldest and (oldest[1] < before_ns or oldest[0] <= reader.sealed_end(meter)):
                    return meter
                meter = reader.next_meter(meter)
        return None

    # Balances

    def _widen(self, narrow_s: range, wide_s: int, before_s: float) -> Iterator[tuple[str, int]]:
        """One bucket a step, of the widths in `narrow_s`: a store may have had several.

        A wide bucket takes what lies in it only when all of it is old enough.
        """
        before_s = before_s // wide_s * wide_s
        while (bucket_s := self._oldest_bucket(narrow_s)) is not None and bucket_s < before_s:
            with self._database.writing("join balances") as connection:
                _join(self._database, connection, narrow_s, wide_s, bucket_s)
            yield "bucket", 1

    def _oldest_bucket(self, widths_s: range) -> int | None:
        with self._database.reading() as connection:
            query = select(func.min(balances.c.bucket_s)).where(_of_width(widths_s))
            return connection.execute(query).scalar()

    # Batches

    def _seal_meter(self, meter: str, before_ns: int, kept: list[str]) -> Iterator[tuple[str, int]]:
        """Seal what is old enough, then drop what is sealed, also what an earlier call did not get to."""
        while True:
            yield from self._drop(meter)
            with self._database.reading() as connection:
                tally, previous = _provable(Reader(connection), meter, before_ns, kept)
            if tally is None:
                return
            if self._write(Seal.of(tally, previous)):
                yield "seal", tally.batches

    def _write(self, seal: Seal) -> bool:
        """Store a seal; False where another process sealed the meter meanwhile."""
        with self._database.writing("seal batches") as connection:
            if Reader(connection).last_seal(seal.meter) != seal.previous:
                return False
            values = {"meter": seal.meter, "epoch": seal.epoch, "sequence": seal.sequence}
            values |= {"previous": seal.previous, "digest": seal.digest, "body": seal.packed}
            connection.execute(insert(seals).values(values))
            return True

    def _drop(self, meter: str) -> Iterator[tuple[str, int]]:
        while True:
            with self._database.writing("drop batches") as connection:
                sealed = Reader(connection).sealed_end(meter)
                count = _delete_some(connection, meter, sealed)
            if not count:
                return
            yield "drop", count


def _join(database: Database, connection: Connection, narrow_s: range, wide_s: int, bucket_s: int) -> None:
    """Add one bucket's balances to those of the wider bucket around it, and remove them."""
    columns = balances.c
    here = and_(_of_width(narrow_s), columns.bucket_s == bucket_s)
    source = select(
        literal(wide_s), literal(bucket_s // wide_s * wide_s), columns.line, columns.energy_uj, columns.uncertainty_uj
    ).where(here)
    statement = database.insert(balances).from_select(list(columns.keys()), source)
    added = {name: columns[name] + statement.excluded[name] for name in ("energy_uj", "uncertainty_uj")}
    connection.execute(statement.on_conflict_do_update(index_elements=list(balances.primary_key), set_=added))
    connection.execute(delete(balances).where(here))


def _of_width(widths_s: range) -> ColumnElement[bool]:
    return balances.c.width_s.between(widths_s.start, widths_s.stop - 1)


def _provable(reader: Reader, meter: str, before_ns: int, kept: list[str]) -> tuple[ChainTally | None, str]:
    """A tally of the oldest batches that may go, and the seal it follows; None where there are none."""
    before = tally_seals(meter, reader.seals(meter))
    if before.faults:
        kept.append(f"meter {meter}: its batches are kept: {before.faults[0]}")
        return None, ""
    previous, limit = reader.last_seal(meter), BATCHES_A_SEAL
    tally = _tally_old(reader, meter, before, before_ns, limit)
    if tally.faults:
        kept.append(f"meter {meter}: batches are kept: {tally.faults[0]}")
        tally = _tally_old(reader, meter, before, before_ns, tally.batches - 1)
    return (tally, previous) if tally.batches and not tally.faults else (None, "")


def _tally_old(reader: Reader, meter: str, before: ChainTally, before_ns: int, limit: int) -> ChainTally:
    """Only what the batches after `before` say, up to the first fault, the first that is too young, or `limit`."""
    tally = before.following()
    for batch in islice(reader.batches(meter, before.end), max(0, limit)):
        if batch.body["wall_ns"] >= before_ns:
            break
        tally_chain(meter, [batch], sealed=tally)
        if tally.faults:
            break
    tally.digests.clear()
    return tally


def _delete_some(connection: Connection, meter: str, sealed: Position) -> int:
    """Remove up to BATCHES_A_STEP of the oldest sealed batches; how many."""
    if sealed == START:
        return 0
    columns = batches.c
    up_to = _not_later_than(sealed)
    ordered = select(columns.epoch, columns.sequence).where(columns.meter == meter, up_to)
    ordered = ordered.order_by(columns.epoch, columns.sequence)
    last = connection.execute(ordered.offset(BATCHES_A_STEP - 1).limit(1)).first()
    through = (last.epoch, last.sequence) if last else sealed
    return connection.execute(delete(batches).where(columns.meter == meter, _not_later_than(through))).rowcount


def _not_later_than(position: Position) -> ColumnElement[bool]:
    epoch, sequence = position
    return or_(batches.c.epoch < epoch, and_(batches.c.epoch == epoch, batches.c.sequence <= sequence))
