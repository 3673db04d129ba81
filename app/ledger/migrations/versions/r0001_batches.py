"""Revision 1: batches, devices, accounts, balances by the minute. The schema of version 0.1, which had no revisions.

Frozen: it says what was, whatever schema.py says now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "batches",
        sa.Column("meter", sa.String(200), primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("wall_ns", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("key", sa.String(300), primary_key=True),
        sa.Column("tag", sa.String(8), nullable=False, index=True),
        sa.Column("node", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("grade", sa.String(16), nullable=False),
    )
    labels = ("name", "tenant", "model", "version", "job", "kind")
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.String(200), nullable=False) for name in labels),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.UniqueConstraint(*labels, "attempt"),
    )
    op.create_table(
        "balances",
        sa.Column("bucket_s", sa.BigInteger, primary_key=True),
        sa.Column("device", sa.String(300), primary_key=True),
        sa.Column("account", sa.Integer, primary_key=True),
        sa.Column("energy_uj", sa.BigInteger, nullable=False),
        sa.Column("uncertainty_uj", sa.BigInteger, nullable=False),
    )
