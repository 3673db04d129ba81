"""Revision 2: lines with running totals and a grade, balances by hour and day, spans, parts of jobs, seals.

Balances keep their energy; their grade is that of the device. Spans come from the batches. Frozen like every revision.
"""

import zlib
from collections.abc import Iterator
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_FIGURES = "energy_uj, uncertainty_uj"


def upgrade() -> None:
    """Make the new tables and fill them from the old ones."""
    _create()
    op.rename_table("balances", "balances_0001")
    _create_balances()
    op.execute(
        f"INSERT INTO lines (device, account, grade, {_FIGURES}) "
        "SELECT b.device, b.account, d.grade, SUM(b.energy_uj), SUM(b.uncertainty_uj) "
        "FROM balances_0001 b JOIN devices d ON d.key = b.device "
        "GROUP BY b.device, b.account, d.grade ORDER BY b.device, b.account"
    )
    op.execute(
        f"INSERT INTO balances (width_s, bucket_s, line, {_FIGURES}) "
        "SELECT 60, b.bucket_s, l.id, b.energy_uj, b.uncertainty_uj "
        "FROM balances_0001 b JOIN lines l ON l.device = b.device AND l.account = b.account"
    )
    op.drop_table("balances_0001")
    _fill_spans()


def _create() -> None:
    op.create_table(
        "lines",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("device", sa.String(300), nullable=False),
        sa.Column("account", sa.Integer, nullable=False),
        sa.Column("grade", sa.String(16), nullable=False),
        sa.Column("energy_uj", sa.BigInteger, nullable=False),
        sa.Column("uncertainty_uj", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("device", "account", "grade"),
    )
    op.create_table(
        "spans",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("device", sa.String(300), nullable=False),
        sa.Column("meter", sa.String(200), nullable=False),
        sa.Column("first_ns", sa.BigInteger, nullable=False),
        sa.Column("last_ns", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("device", "meter"),
    )
    op.create_table(
        "job_parts",
        sa.Column("account", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("part", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("energy_uj", sa.BigInteger, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "seals",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("meter", sa.String(200), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("seals_by_meter", "seals", ["meter", "id"])


def _create_balances() -> None:
    op.create_table(
        "balances",
        sa.Column("width_s", sa.Integer, primary_key=True),
        sa.Column("bucket_s", sa.BigInteger, primary_key=True),
        sa.Column("line", sa.Integer, primary_key=True),
        sa.Column("energy_uj", sa.BigInteger, nullable=False),
        sa.Column("uncertainty_uj", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _fill_spans() -> None:
    connection = op.get_bind()
    found: dict[tuple[str, str], list[int]] = {}
    batches = sa.table("batches", sa.column("meter"), sa.column("body", sa.LargeBinary))
    query = sa.select(batches.c.meter, batches.c.body).execution_options(yield_per=256)
    for meter, body in connection.execute(query):
        for device, first_ns, last_ns in _spans(body):
            span = found.setdefault((device, meter), [first_ns, last_ns])
            span[0], span[1] = min(span[0], first_ns), max(span[1], last_ns)
    rows: list[dict[str, Any]] = [
        {"device": device, "meter": meter, "first_ns": first_ns, "last_ns": last_ns}
        for (device, meter), (first_ns, last_ns) in sorted(found.items())
    ]
    if rows:
        names = ("device", "meter", "first_ns", "last_ns")
        connection.execute(sa.insert(sa.table("spans", *map(sa.column, names))), rows)


def _spans(body: bytes) -> Iterator[tuple[str, int, int]]:
    """First and last instant of every device of a batch; none of one that cannot be read: the audit names it."""
    try:
        devices = orjson.loads(zlib.decompress(body))["devices"]
    except (zlib.error, ValueError, KeyError):
        return
    for device in devices:
        yield device["key"], device["raw"][0][0], device["raw"][-1][0]
