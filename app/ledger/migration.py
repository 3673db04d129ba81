"""Bringing a store's schema to the newest revision when it is opened.

The scripts are in migrations/versions, run by Alembic in the transaction of the caller: an upgrade is done whole or
not at all, and of several processes that open a store at once one upgrades while the others wait.
"""

from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from app.errors import InvalidInput
from app.ledger.schema import REVISION, metadata

_SCRIPTS = Path(__file__).with_name("migrations")
_FIRST = "0001"


def is_current(connection: Connection) -> bool:
    """Whether the schema is at the newest revision. Raises InvalidInput for one that this program does not know."""
    revision = _revision(connection)
    if revision is not None and revision > REVISION:
        raise InvalidInput(
            f"the ledger's store has revision {revision} of its schema, this program knows revisions up to {REVISION}: "
            "it was upgraded by a newer joulekeeper; install that version, or name another store"
        )
    return revision == REVISION


def upgrade(connection: Connection, until: str = REVISION) -> None:
    """Make the schema, or bring it to the revision `until` with all that it holds. Needs a writing transaction."""
    if until == REVISION and is_current(connection):
        return
    revision = _revision(connection)
    if revision is None and until == REVISION:
        metadata.create_all(connection)
    # Alembic takes a while to import, and only here it is needed.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_SCRIPTS))
    if revision is None and until == REVISION:
        MigrationContext.configure(connection).stamp(scripts, REVISION)
        return
    if revision is not None:
        MigrationContext.configure(connection).stamp(scripts, revision)  # version 0.1 did not write its revision down
    context = MigrationContext.configure(
        connection,
        opts={"fn": lambda current, _: scripts._upgrade_revs(until, current), "script": scripts},
    )
    with Operations.context(context):
        context.run_migrations()


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None of an empty database."""
    tables = inspect(connection)
    if tables.has_table("alembic_version"):
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return _FIRST if tables.has_table("batches") else None
