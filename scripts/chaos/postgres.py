"""The PostgreSQL of a chaos run: started here, killed whole, started again on the same data."""

import contextlib
import signal
import tempfile
from pathlib import Path
from typing import Self

import psutil

from tests.fixtures.postgres import PostgresServer, postgres_programs


class Postgres:
    """A server of its own below a directory that its user may enter. Ends on leaving."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="jk-chaos-pg-", ignore_cleanup_errors=True)
        self.url = ""

    def __enter__(self) -> Self:
        programs = postgres_programs()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed (Debian: postgresql); --store sqlite does without")
        self._server = PostgresServer(programs, Path(self._directory.name))
        self._server.start()
        self.url = self._server.new_database()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._server.stop(signal.SIGINT)
        self._directory.cleanup()

    def kill(self) -> None:
        """SIGKILL of the server and of every process it started: as after the out-of-memory killer, nobody tidies."""
        servers = [child for child in psutil.Process().children() if child.name().startswith("postgres")]
        family = [process for server in servers for process in (server, *server.children(recursive=True))]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._server.stop(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)

    def start(self) -> None:
        """Start it on the data it left; returns when it answers."""
        self._server.start()
