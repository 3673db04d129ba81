"""Files, batches, requests and answers on disk: what was acknowledged is there after any end of the console.

One SQLite file below the state directory of the console's host; every call is one transaction, synced before it
returns. Knows nothing of models, HTTP or when anything runs. Thread-safe. Raises NotFound, TooLarge, Unavailable.

    store = BatchStore(path)
    store.add_file(record, content); store.add_batch(record, lines)
    store.pending(batch_id, 8); store.keep_answers(answers)
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from app.carbon.store_file import StoreFile
from app.console.batches.records import OPEN, Answered, BatchRecord, Counts, FileRecord, Pace, Pending, Used
from app.errors import NotFound, TooLarge
from app.protocol.openai_batches import Line

MAX_BYTES_OF_TENANT = 1024**3
MAX_OPEN_OF_TENANT = 64

_BATCH = tuple(each.name for each in fields(BatchRecord))
_TABLES = f"""
PRAGMA synchronous=FULL;
CREATE TABLE IF NOT EXISTS file (id TEXT PRIMARY KEY, tenant TEXT, name TEXT, purpose TEXT, size INTEGER,
  created_s REAL, content BLOB);
CREATE TABLE IF NOT EXISTS batch ({", ".join(_BATCH)}, PRIMARY KEY (id));
CREATE TABLE IF NOT EXISTS request (batch TEXT, number INTEGER, custom_id TEXT, url TEXT, model TEXT, body BLOB,
  status INTEGER, answer BLOB, receipt_id TEXT, energy_uj INTEGER, carbon_ugco2e INTEGER, grade TEXT,
  provisional INTEGER, ended_s REAL, took_s REAL, code TEXT, PRIMARY KEY (batch, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS request_left ON request (batch, number) WHERE status IS NULL;
CREATE INDEX IF NOT EXISTS request_unsettled ON request (batch) WHERE provisional = 1;
CREATE INDEX IF NOT EXISTS request_done ON request (batch, status, ended_s, energy_uj, provisional, took_s);
CREATE TABLE IF NOT EXISTS pace (model TEXT, url TEXT, requests INTEGER, seconds REAL, joules REAL, metered INTEGER,
  PRIMARY KEY (model, url)) WITHOUT ROWID;
"""


class BatchStore:
    """The file, opened when first used."""

    def __init__(self, path: Path) -> None:
        self._file = StoreFile(path, _TABLES, private=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # Files

    def add_file(self, record: FileRecord, content: bytes) -> None:
        """Keep a file. Raises TooLarge where its tenant keeps too much."""
        values = (record.id, record.tenant, record.name, record.purpose, record.size, record.created_s, content)
        with self._file.writing() as connection:
            kept = (
                connection.execute("SELECT SUM(size) FROM file WHERE tenant = ?", (record.tenant,)).fetchone()[0] or 0
            )
            if kept + record.size > MAX_BYTES_OF_TENANT:
                raise TooLarge(
                    f"tenant {record.tenant} keeps {kept} bytes of files, {record.size} more would be over "
                    f"{MAX_BYTES_OF_TENANT}; delete some"
                )
            connection.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def files(self, tenant: str | None) -> list[FileRecord]:
        """Newest first; of one tenant, or None: of all."""
        columns = "id, tenant, name, purpose, size, created_s"
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {columns} FROM file WHERE ?1 IS NULL OR tenant = ?1 ORDER BY created_s DESC, id", (tenant,)
            )
            return [FileRecord(*row) for row in rows]

    def file(self, file_id: str, tenant: str | None) -> FileRecord:
        """Raises NotFound, also for another tenant's."""
        found = [record for record in self.files(tenant) if record.id == file_id]
        if not found:
            raise NotFound(f"there is no file {file_id!r}; GET /v1/files lists those that there are")
        return found[0]

    def content(self, file_id: str, tenant: str | None) -> bytes:
        """Of a file. Raises NotFound."""
        self.file(file_id, tenant)
        with self._file.reading() as connection:
            row = connection.execute("SELECT content FROM file WHERE id = ?", (file_id,)).fetchone()
        return bytes(row[0]) if row else b""

    def delete_file(self, file_id: str, tenant: str | None) -> None:
        """Batches made of it keep their requests. Raises NotFound."""
        self.file(file_id, tenant)
        with self._file.writing() as connection:
            connection.execute("DELETE FROM file WHERE id = ?", (file_id,))

    # Batches

    def add_batch(self, record: BatchRecord, lines: Sequence[Line]) -> None:
        """Keep a batch and its requests. Raises TooLarge where its tenant has too many that are open."""
        with self._file.writing() as connection:
            (count,) = connection.execute(
                f"SELECT COUNT(*) FROM batch WHERE tenant = ? AND state IN ({_marks(OPEN)})", (record.tenant, *OPEN)
            ).fetchone()
            if count >= MAX_OPEN_OF_TENANT:
                raise TooLarge(
                    f"tenant {record.tenant} has {count} batches that are not over, the most that it may have"
                )
            _put(connection, record)
            connection.executemany(
                "INSERT INTO request (batch, number, custom_id, url, model, body) VALUES (?, ?, ?, ?, ?, ?)",
                [(record.id, each.number, each.custom_id, each.url, each.model, each.body) for each in lines],
            )

    def batches(self, tenant: str | None = None) -> list[BatchRecord]:
        """Newest first; of one tenant, or None: of all."""
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_BATCH)} FROM batch WHERE ?1 IS NULL OR tenant = ?1 ORDER BY created_s DESC, id",
                (tenant,),
            )
            return [_batch(row) for row in rows]

    def open_batches(self) -> list[BatchRecord]:
        """Those that are not over, earliest deadline first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_BATCH)} FROM batch WHERE state IN ({_marks(OPEN)}) ORDER BY deadline_s, id", OPEN
            )
            return [_batch(row) for row in rows]

    def batch(self, batch_id: str, tenant: str | None = None) -> BatchRecord:
        """Raises NotFound, also for another tenant's."""
        with self._file.reading() as connection:
            row = connection.execute(f"SELECT {', '.join(_BATCH)} FROM batch WHERE id = ?", (batch_id,)).fetchone()
        found = _batch(row) if row else None
        if found is None or (tenant is not None and found.tenant != tenant):
            raise NotFound(f"there is no batch {batch_id!r}; GET /v1/batches lists those that there are")
        return found

    def change(self, batch_id: str, **changes: object) -> BatchRecord:
        """Alter columns of an open batch; one that is over stays as it is."""
        names = ", ".join(f"{name} = ?" for name in changes)
        with self._file.writing() as connection:
            connection.execute(
                f"UPDATE batch SET {names} WHERE id = ? AND state IN ({_marks(OPEN)})",
                (*changes.values(), batch_id, *OPEN),
            )
        return self.batch(batch_id)

    def forget_before(self, ended_s: float) -> int:
        """Remove batches that ended, and files that came, before then; how many batches."""
        with self._file.writing() as connection:
            old = [row[0] for row in connection.execute("SELECT id FROM batch WHERE ended_s < ?", (ended_s,))]
            for batch_id in old:
                connection.execute("DELETE FROM request WHERE batch = ?", (batch_id,))
                connection.execute("DELETE FROM batch WHERE id = ?", (batch_id,))
            connection.execute(
                "DELETE FROM file WHERE created_s < ? AND id NOT IN (SELECT input_file_id FROM batch)", (ended_s,)
            )
        return len(old)

    # Requests

    def pending(self, batch_id: str, count: int, beyond: Sequence[int] = ()) -> list[Pending]:
        """The first `count` that nobody has answered, `beyond` those that are being asked."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT batch, number, custom_id, url, model, body FROM request WHERE batch = ? AND status IS NULL "
                "ORDER BY number LIMIT ?",
                (batch_id, count + len(beyond)),
            )
            return [Pending(*row) for row in rows if row[1] not in beyond][:count]

    def left_by_kind(self, batch_id: str) -> dict[tuple[str, str], int]:
        """How many are left, by model and url."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT model, url, COUNT(*) FROM request WHERE batch = ? AND status IS NULL GROUP BY model, url",
                (batch_id,),
            )
            return {(model, url): count for model, url, count in rows}

    def models(self, batch_id: str) -> list[str]:
        """Named by its requests."""
        with self._file.reading() as connection:
            rows = connection.execute("SELECT DISTINCT model FROM request WHERE batch = ? ORDER BY model", (batch_id,))
            return [row[0] for row in rows]

    def keep_answers(self, answers: Sequence[Answered], learnt: Sequence[tuple[str, str, Pace]] = ()) -> None:
        """Each answer once: one that is there already stays. `learnt`: what requests of a model and url took; what was
        learnt before weighs less with each."""
        with self._file.writing() as connection:
            connection.executemany(
                "UPDATE request SET status = ?, answer = ?, receipt_id = ?, energy_uj = ?, carbon_ugco2e = ?, "
                "grade = ?, provisional = ?, ended_s = ?, took_s = ?, code = ? "
                "WHERE batch = ? AND number = ? AND status IS NULL",
                [
                    (each.status, each.body, each.receipt_id, each.energy_uj, each.carbon_ugco2e, each.grade,
                     int(each.provisional), each.ended_s, each.took_s, each.code, each.batch, each.number)
                    for each in answers
                ],
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO pace VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (model, url) DO UPDATE SET "
                "requests = requests * 0.98 + ?3, seconds = seconds * 0.98 + ?4, joules = joules * 0.98 + ?5, "
                "metered = metered * 0.98 + ?6",
                [(model, url, each.requests, each.seconds, each.joules, each.metered) for model, url, each in learnt],
            )

    def give_up(self, batch_id: str, code: str, at_s: float) -> int:
        """Nobody will answer what is left; how many those are."""
        with self._file.writing() as connection:
            done = connection.execute(
                "UPDATE request SET status = 0, code = ?, ended_s = ?, energy_uj = 0, provisional = 0, took_s = 0 "
                "WHERE batch = ? AND status IS NULL",
                (code, at_s, batch_id),
            )
            return done.rowcount

    def counts(self, batch_id: str) -> Counts:
        """How far it is."""
        with self._file.reading() as connection:
            total, completed, failed = connection.execute(
                "SELECT COUNT(*), COALESCE(SUM(status BETWEEN 200 AND 299), 0), "
                "COALESCE(SUM(status NOT BETWEEN 200 AND 299), 0) FROM request WHERE batch = ?",
                (batch_id,),
            ).fetchone()
        return Counts(total, completed, failed)

    def answers(self, batch_id: str, *, good: bool, page: int = 500) -> Iterator[tuple[str, Answered]]:
        """Custom id and answer of those that went well, or of those that did not, in order of the lines."""
        after = 0
        while True:
            with self._file.reading() as connection:
                rows = connection.execute(
                    "SELECT custom_id, batch, number, status, COALESCE(answer, x''), COALESCE(receipt_id, ''), "
                    "COALESCE(energy_uj, 0), COALESCE(carbon_ugco2e, 0), COALESCE(grade, ''), provisional, ended_s, "
                    "took_s, COALESCE(code, '') FROM request WHERE batch = ? AND number > ? AND status IS NOT NULL "
                    "AND (status BETWEEN 200 AND 299) = ? ORDER BY number LIMIT ?",
                    (batch_id, after, int(good), page),
                ).fetchall()
            for custom_id, *values in rows:
                answer = Answered(*values)
                after = answer.number
                yield custom_id, answer
            if len(rows) < page:
                return

    # Energy

    def unsettled(self, batch_id: str, count: int) -> list[str]:
        """Receipts whose figures may still move."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT receipt_id FROM request WHERE batch = ? AND provisional = 1 AND receipt_id != '' LIMIT ?",
                (batch_id, count),
            )
            return [row[0] for row in rows]

    def settle(self, batch_id: str, figures: Sequence[tuple[str, int, int, str]]) -> None:
        """Receipt, microjoules, micrograms and grade of those that are final."""
        with self._file.writing() as connection:
            connection.executemany(
                "UPDATE request SET energy_uj = ?, carbon_ugco2e = ?, grade = ?, provisional = 0 "
                "WHERE batch = ? AND receipt_id = ?",
                [(energy, carbon, grade, batch_id, receipt) for receipt, energy, carbon, grade in figures],
            )

    def used(self, batch_id: str, bucket_s: int) -> list[Used]:
        """By `bucket_s` seconds, those in which anything was answered."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT CAST(ended_s / ?1 AS INTEGER) * ?1, SUM(energy_uj), COUNT(*), SUM(provisional), SUM(took_s) "
                "FROM request WHERE batch = ?2 AND status > 0 GROUP BY 1 ORDER BY 1",
                (bucket_s, batch_id),
            )
            return [Used(float(start), energy or 0, count, open_, took) for start, energy, count, open_, took in rows]

    def grades(self, batch_id: str) -> list[str]:
        """Of the figures of its answers."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT grade FROM request WHERE batch = ? AND grade != '' ORDER BY grade", (batch_id,)
            )
            return [row[0] for row in rows]

    def pace(self, model: str, url: str) -> Pace | None:
        """What requests of a kind took lately; None: none was made yet."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT requests, seconds, joules, metered FROM pace WHERE model = ? AND url = ?", (model, url)
            ).fetchone()
        return Pace(*row) if row else None


def _put(connection: sqlite3.Connection, record: BatchRecord) -> None:
    values = [json.dumps(record.metadata) if name == "metadata" else getattr(record, name) for name in _BATCH]
    connection.execute(f"INSERT INTO batch VALUES ({_marks(_BATCH)})", values)


def _batch(row: Sequence[object]) -> BatchRecord:
    values = dict(zip(_BATCH, row, strict=True))
    return BatchRecord(**values | {"metadata": json.loads(str(values["metadata"]))})  # type: ignore[arg-type]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
