"""A database behind a URL, SQLite or PostgreSQL: transactions with one meaning on both, and errors of ours.

At most one transaction writes at a time, whichever process asks; a reading transaction sees one moment, however long it
takes. Knows nothing of the tables.

    database = Database("sqlite:///books.sqlite")
    with database.writing("book a batch") as connection: ...
    with database.reading() as connection: ...
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from sqlite3 import SQLITE_BUSY
from typing import Any

from sqlalchemy import Engine, Table, create_engine, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DataError, NoSuchModuleError, SQLAlchemyError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from app.errors import BooksDamaged, InvalidInput, Unavailable

Figures = tuple[int, ...]

_WRITER_LOCK = 0x4A6F756C65  # "Joule": the name of our lock among PostgreSQL's advisory locks
_SQLITE_WAIT_S = 30
_SQLITE_CACHE_KIB = 32_768  # the lines and present minutes of a thousand nodes
_CONNECT_S = 5
_SILENT_MS = 30_000  # after this long without an answer a peer counts as gone
_ROWS_AT_ONCE = 256


class Database:
    """An engine with our transactions. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._writer = threading.Lock()

    @property
    def is_postgresql(self) -> bool:
        """True on PostgreSQL, False on SQLite."""
        return self._engine.dialect.name == "postgresql"

    @contextlib.contextmanager
    def writing(self, doing: str) -> Iterator[Connection]:
        """A transaction that waits for every other writer. Raises Unavailable; nothing of it is kept then."""
        with self._writer, _translated(doing):
            engine = self._engine.execution_options(writing=True)
            with engine.begin() as connection:
                if self.is_postgresql:
                    connection.execute(select(func.pg_advisory_xact_lock(_WRITER_LOCK)))
                yield connection

    @contextlib.contextmanager
    def reading(self, doing: str = "be read") -> Iterator[Connection]:
        """A transaction that sees the database as it is when it first reads. Raises Unavailable."""
        with _translated(doing), self._engine.connect() as connection:
            if self.is_postgresql:
                connection.execution_options(isolation_level="REPEATABLE READ")
                connection.execute(text("SET TRANSACTION READ ONLY"))
            yield connection

    def insert(self, table: Table) -> Any:
        """The dialect's INSERT, which knows ON CONFLICT."""
        return postgresql.insert(table) if self.is_postgresql else sqlite.insert(table)

    def add(self, connection: Connection, table: Table, rows: Sequence[Figures]) -> None:
        """Insert rows of integers, all columns in order; where a key is there already, add to what stands beside it."""
        if rows:
            self._run(connection, self._addition(table), rows)

    def change(self, connection: Connection, table: Table, changes: Mapping[str, str], rows: Sequence[Figures]) -> None:
        """Change the rows with certain ids: `rows` are (id, a figure for each of `changes`).

        `changes`: what becomes of each column, `old` and `new` standing for what it holds and for the figure.
        """
        if rows:
            self._run(connection, self._update(table, changes), rows)

    def _run(self, connection: Connection, statement: str, rows: Sequence[Figures]) -> None:
        # Past SQLAlchemy's handling of single values, which would cost more than the database does.
        if self.is_postgresql:
            connection.exec_driver_sql(statement, tuple(map(_array, zip(*rows, strict=True))))
        else:
            connection.exec_driver_sql(statement, list(rows))

    def _addition(self, table: Table) -> str:
        name, columns, keys = table.name, list(table.columns.keys()), list(table.primary_key.columns.keys())
        added = ", ".join(f"{one} = {name}.{one} + excluded.{one}" for one in columns if one not in keys)
        if self.is_postgresql:
            values = f"SELECT * FROM unnest({', '.join(['%s::bigint[]'] * len(columns))})"
        else:
            values = f"VALUES ({', '.join('?' * len(columns))})"
        into = f"INSERT INTO {name} ({', '.join(columns)}) {values}"
        return f"{into} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {added}"

    def _update(self, table: Table, changes: Mapping[str, str]) -> str:
        name = table.name
        new = "v.{}" if self.is_postgresql else ":{}"
        sets = ", ".join(
            f"{column} = {becomes.format(old=f'{name}.{column}', new=new.format(column))}"
            for column, becomes in changes.items()
        )
        if not self.is_postgresql:
            # Numbered by position: the first value is the id.
            for position, column in enumerate(changes, start=2):
                sets = sets.replace(f":{column}", f"?{position}")
            return f"UPDATE {name} SET {sets} WHERE id = ?1"
        arrays = ", ".join(["%s::bigint[]"] * (1 + len(changes)))
        return f"UPDATE {name} SET {sets} FROM unnest({arrays}) AS v(id, {', '.join(changes)}) WHERE {name}.id = v.id"

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()


def _array(column: Iterable[int]) -> str:
    """An array as PostgreSQL writes it."""
    return "{" + ",".join(map(str, column)) + "}"


def stream(connection: Connection, query: Any) -> Iterator[Any]:
    """The rows of a query, a few at a time: memory does not grow with their number."""
    yield from connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        # The statement and its values, which SQLAlchemy adds, are pages long for a group of batches.
        reason = getattr(error, "orig", None) or error
        # A value that no column takes will not be taken later either.
        kind = BooksDamaged if isinstance(error, DataError) else Unavailable
        raise kind(f"the ledger's store cannot {doing}: {reason}") from error


def _engine(url: str) -> Engine:
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    alive = {"connect_timeout": _CONNECT_S, "tcp_user_timeout": _SILENT_MS}
    arguments = {name: value for name, value in alive.items() if name not in parsed.query}
    try:
        return create_engine(parsed, pool_pre_ping=True, connect_args=arguments)
    except ImportError as error:
        raise InvalidInput(
            f"database_url names PostgreSQL, its driver is not installed ({error}): pip install 'joulekeeper[postgres]'"
        ) from error


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise InvalidInput(
            f"database_url must be an SQLAlchemy URL such as sqlite:///books.sqlite, got {url!r}"
        ) from error
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InvalidInput(f"database_url must name sqlite or postgresql, got {backend!r}")
    return parsed


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        path = Path(url.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    # isolation_level None: transactions begin where we say, not where the driver guesses.
    engine = create_engine(url, connect_args={"timeout": _SQLITE_WAIT_S, "isolation_level": None})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Write-ahead log: readers do not wait for the writer, and a killed process loses nothing committed."""
    _log_ahead(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA cache_size=-{_SQLITE_CACHE_KIB}")


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_BUSY


@retry(
    retry=retry_if_exception(_is_busy),
    wait=wait_random(0.002, 0.05),
    stop=stop_after_delay(_SQLITE_WAIT_S),
    reraise=True,
)
def _log_ahead(connection: Any) -> None:
    """Of two that change a new database's journal at once SQLite refuses one without its wait for locks."""
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    """A writer waits before it reads: one that turned into a writer later could not wait any more."""
    writes = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
