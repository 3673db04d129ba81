"""The store: every batch exactly once, and the balances derived from them.

SQLAlchemy Core; SQLite by default. A batch and what it adds to the balances are one transaction, keyed by
(meter, epoch, sequence): delivering it twice changes nothing. Knows nothing of carbon, Ray or who asks.

    store = Store("sqlite:///books.sqlite")
    store.book(batch)
    store.balances(since_s=..., until_s=...)
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app.domain.account import Account
from app.domain.reading import Grade
from app.errors import BooksDamaged, InvalidInput, Unavailable
from app.ledger.journal import Batch
from app.ledger.ring import account_of_labels, node_tag
from app.units import NS_PER_S

BUCKET_S = 60
"""Width of a balance's time bucket, seconds."""

_metadata = MetaData()
_batches = Table(
    "batches",
    _metadata,
    Column("meter", String(200), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
_devices = Table(
    "devices",
    _metadata,
    Column("key", String(300), primary_key=True),
    Column("tag", String(8), nullable=False, index=True),
    Column("node", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("grade", String(16), nullable=False),
)
_accounts = Table(
    "accounts",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    *(Column(name, String(200), nullable=False) for name in ("name", "tenant", "model", "version", "job", "kind")),
    Column("attempt", Integer, nullable=False),
    UniqueConstraint("name", "tenant", "model", "version", "job", "kind", "attempt"),
)
_balances = Table(
    "balances",
    _metadata,
    Column("bucket_s", BigInteger, primary_key=True),
    Column("device", String(300), primary_key=True),
    Column("account", Integer, primary_key=True),
    Column("energy_uj", BigInteger, nullable=False),
    Column("uncertainty_uj", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Balance:
    """Energy of one device charged to one account in one time bucket (or a sum of buckets)."""

    bucket_s: int
    device: str
    node: str
    grade: Grade
    account: Account
    energy_uj: int
    uncertainty_uj: int


@dataclass(frozen=True, slots=True)
class StoredDevice:
    """A device that was ever booked."""

    key: str
    tag: str
    node: str
    kind: str
    name: str
    grade: str


class Store:
    """The accountant's store. Thread-safe as far as the database is."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._account_ids: dict[Account, int] = {}
        self._known_devices: set[str] = set()
        try:
            _metadata.create_all(self._engine)
        except SQLAlchemyError as error:
            raise Unavailable(f"the ledger's store cannot be opened: {error}") from error

    def book(self, batch: Batch) -> bool:
        """Store a batch and add it to the balances; False if it was there already.

        Raises Unavailable, and BooksDamaged where another batch stands in its place.
        """
        try:
            with self._engine.begin() as connection:
                if not self._insert_batch(connection, batch):
                    self._check_same(connection, batch)
                    return False
                self._insert_devices(connection, batch)
                self._add_balances(connection, batch)
                return True
        except Exception as error:
            self._account_ids.clear()  # what was looked up in a transaction that is undone may not be there
            self._known_devices.clear()
            if isinstance(error, SQLAlchemyError):
                raise Unavailable(f"the ledger's store did not take a batch: {error}") from error
            raise

    def balances(self, since_s: float | None = None, until_s: float | None = None) -> list[Balance]:
        """Balances by bucket, device and account, of the buckets that touch [since_s, until_s)."""
        query = _joined(_balances.c.bucket_s, _balances.c.energy_uj, _balances.c.uncertainty_uj)
        if since_s is not None:
            query = query.where(_balances.c.bucket_s > since_s - BUCKET_S)
        if until_s is not None:
            query = query.where(_balances.c.bucket_s < until_s)
        return self._read_balances(query)

    def totals(self) -> list[Balance]:
        """Balances by device and account since the books began; `bucket_s` is 0."""
        query = _joined(
            func.min(0).label("bucket_s"),
            func.sum(_balances.c.energy_uj).label("energy_uj"),
            func.sum(_balances.c.uncertainty_uj).label("uncertainty_uj"),
        ).group_by(_balances.c.device, _balances.c.account)
        return self._read_balances(query)

    def ends(self) -> dict[str, tuple[int, int]]:
        """Position of the last batch of every meter that ever delivered."""
        columns = _batches.c
        query = select(columns.meter, columns.epoch, func.max(columns.sequence)).group_by(columns.meter, columns.epoch)
        ends: dict[str, tuple[int, int]] = {}
        with self._engine.connect() as connection:
            for meter, epoch, sequence in connection.execute(query):
                ends[meter] = max(ends.get(meter, (0, -1)), (epoch, sequence))
        return ends

    def batches(self, meter: str, through: tuple[int, int] | None = None) -> Iterator[Batch]:
        """Every batch of a meter in order, up to the position `through`. Raises BooksDamaged at an unreadable one."""
        columns = _batches.c
        query = select(columns.epoch, columns.sequence, columns.previous, columns.digest, columns.body)
        query = query.where(columns.meter == meter).order_by(columns.epoch, columns.sequence)
        with self._engine.connect() as connection:
            for epoch, sequence, previous, digest, body in connection.execute(query):
                if through is not None and (epoch, sequence) > through:
                    return
                try:
                    contents = orjson.loads(zlib.decompress(body))
                except (zlib.error, ValueError) as error:
                    raise BooksDamaged(f"meter {meter}, batch {epoch}.{sequence}: unreadable: {error}") from error
                yield Batch(meter, epoch, sequence, previous, digest, contents)

    def devices(self) -> list[StoredDevice]:
        """Every device that was ever booked."""
        with self._engine.connect() as connection:
            return [StoredDevice(*row) for row in connection.execute(select(_devices).order_by(_devices.c.key))]

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def _insert_batch(self, connection: Connection, batch: Batch) -> bool:
        body = zlib.compress(orjson.dumps(batch.body), 1)
        values = {
            "meter": batch.meter,
            "epoch": batch.epoch,
            "sequence": batch.sequence,
            "previous": batch.previous,
            "digest": batch.digest,
            "wall_ns": batch.body["wall_ns"],
            "body": body,
        }
        return connection.execute(self._insert(_batches).values(values).on_conflict_do_nothing()).rowcount > 0

    def _check_same(self, connection: Connection, batch: Batch) -> None:
        columns = _batches.c
        key = (columns.meter == batch.meter, columns.epoch == batch.epoch, columns.sequence == batch.sequence)
        stored = connection.execute(select(columns.digest).where(*key)).scalar_one()
        if stored != batch.digest:
            raise BooksDamaged(
                f"meter {batch.meter}, batch {batch.epoch}.{batch.sequence}: the store holds another one, digest "
                f"{stored[:12]}, got {batch.digest[:12]}; a meter whose journal was lost must begin under a new name"
            )

    def _insert_devices(self, connection: Connection, batch: Batch) -> None:
        body = batch.body
        for device in body["devices"]:
            if device["key"] in self._known_devices:
                continue
            row = {name: device[name] for name in ("key", "kind", "name", "grade")}
            row |= {"node": body["node"], "tag": node_tag(body["machine"], body["boot"])}
            connection.execute(self._insert(_devices).values(row).on_conflict_do_nothing())
            self._known_devices.add(device["key"])

    def _add_balances(self, connection: Connection, batch: Batch) -> None:
        bucket_s = batch.body["wall_ns"] // NS_PER_S // BUCKET_S * BUCKET_S
        rows = [
            {
                "bucket_s": bucket_s,
                "device": posting["device"],
                "account": self._account_id(connection, account_of_labels(posting["account"])),
                "energy_uj": posting["energy_uj"],
                "uncertainty_uj": posting["uncertainty_uj"],
            }
            for posting in batch.body["postings"]
        ]
        if not rows:
            return
        insert = self._insert(_balances)
        added = {name: _balances.c[name] + insert.excluded[name] for name in ("energy_uj", "uncertainty_uj")}
        keys = [_balances.c.bucket_s, _balances.c.device, _balances.c.account]
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=added), rows)

    def _account_id(self, connection: Connection, account: Account) -> int:
        known = self._account_ids.get(account)
        if known is None:
            labels = account.labels()
            connection.execute(self._insert(_accounts).values(labels).on_conflict_do_nothing())
            query = select(_accounts.c.id).where(*(_accounts.c[name] == value for name, value in labels.items()))
            known = self._account_ids[account] = connection.execute(query).scalar_one()
        return known

    def _insert(self, table: Table) -> Any:
        """The dialect's INSERT, which knows ON CONFLICT."""
        return postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)

    def _read_balances(self, query: Any) -> list[Balance]:
        try:
            with self._engine.connect() as connection:
                rows: Sequence[Any] = connection.execute(query).all()
        except SQLAlchemyError as error:
            raise Unavailable(f"the ledger's store cannot be read: {error}") from error
        return [_balance(row) for row in rows]


def _joined(*figures: Any) -> Any:
    return (
        select(_balances.c.device, *figures, _devices.c.node, _devices.c.grade, _accounts)
        .join(_devices, _devices.c.key == _balances.c.device)
        .join(_accounts, _accounts.c.id == _balances.c.account)
    )


def _balance(row: Any) -> Balance:
    labels = {name: getattr(row, name) for name in ("name", "tenant", "model", "version", "job", "kind", "attempt")}
    account = account_of_labels(labels)
    energy_uj, uncertainty_uj = int(row.energy_uj), int(row.uncertainty_uj)
    return Balance(row.bucket_s, row.device, row.node, Grade(row.grade), account, energy_uj, uncertainty_uj)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(
            f"database_url must be an SQLAlchemy URL such as sqlite:///books.sqlite, got {url!r}"
        ) from error
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        path = Path(parsed.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.name != ":memory:":
            path.touch(mode=0o600)
    engine = create_engine(parsed, connect_args={"timeout": 30})
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Write-ahead log: readers do not wait for the writer, and a killed process loses nothing committed."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
