"""The tables of the store, as they are at the newest revision. Knows nothing of who fills them.

Batches are what was delivered; all else is derived from them. A *line* is one account of one device in one grade, with
its running total; balances are the same energy by line and time bucket; a span says from where to where one meter has
booked one device; a seal stands for batches that were dropped because of their age.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

batches = Table(
    "batches",
    metadata,
    Column("meter", String(200), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
devices = Table(
    "devices",
    metadata,
    Column("key", String(300), primary_key=True),
    Column("tag", String(8), nullable=False, index=True),
    Column("node", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("grade", String(16), nullable=False),
)
accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    *(Column(name, String(200), nullable=False) for name in ("name", "tenant", "model", "version", "job", "kind")),
    Column("attempt", Integer, nullable=False),
    UniqueConstraint("name", "tenant", "model", "version", "job", "kind", "attempt"),
)
lines = Table(
    "lines",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device", String(300), nullable=False),
    Column("account", Integer, nullable=False),
    Column("grade", String(16), nullable=False),
    Column("energy_uj", BigInteger, nullable=False),
    Column("uncertainty_uj", BigInteger, nullable=False),
    UniqueConstraint("device", "account", "grade"),
)
balances = Table(
    "balances",
    metadata,
    Column("width_s", Integer, primary_key=True),
    Column("bucket_s", BigInteger, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("energy_uj", BigInteger, nullable=False),
    Column("uncertainty_uj", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
spans = Table(
    "spans",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device", String(300), nullable=False),
    Column("meter", String(200), nullable=False),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    UniqueConstraint("device", "meter"),
)
job_parts = Table(
    "job_parts",
    metadata,
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("worker", Integer, primary_key=True, autoincrement=False),
    Column("part", BigInteger, primary_key=True, autoincrement=False),
    Column("energy_uj", BigInteger, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
)
seals = Table(
    "seals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("meter", String(200), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("seals_by_meter", "meter", "id"),
)

ACCOUNT_LABELS = ("name", "tenant", "model", "version", "job", "attempt", "kind")
"""Columns of an account, in the order of the tuples that stand for one while a batch is booked."""

REVISION = "0002"
"""Revision of these tables: the newest script in migrations/versions ends here. Revisions sort like text."""
