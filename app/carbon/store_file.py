"""An SQLite file that threads and processes share: short transactions, one writer at a time, errors of ours.

Knows nothing of what its tables hold.

    file = StoreFile(path, "CREATE TABLE IF NOT EXISTS ...")
    with file.writing() as connection: ...
    with file.reading() as connection: ...

Both raise Unavailable where the file cannot be used.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from app.errors import Unavailable

_WAIT_S = 10.0


class StoreFile:
    """Opened when first used. Thread-safe."""

    def __init__(self, path: Path, tables: str, *, private: bool = False) -> None:
        """`private`: nobody but its owner reads it; SQLite makes its other files like the first."""
        self._path, self._tables, self._private = path, tables, private
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The file as it is."""
        with self._lock:
            try:
                yield self._opened()
            except sqlite3.Error as error:
                raise Unavailable(f"{self._path} cannot be read: {error}") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is kept, or nothing."""
        with self._lock:
            try:
                connection = self._opened()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise Unavailable(f"{self._path} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._private:
                    os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            except OSError as error:
                raise Unavailable(f"{self._path} cannot be made: {error}") from error
            connection = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(self._tables)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection
