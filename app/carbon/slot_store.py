"""What providers have said, on disk: slots, revisions, past forecasts, requests made, how each source is doing.

One SQLite file below the state directory, shared by the processes of a host; knows nothing of providers or networks.
Nothing that was observed is ever thrown away, since reports of the past are priced with it. Times are nanoseconds since
the Unix epoch. Thread-safe; every call is one transaction.

    store = SlotStore(path)
    store.record("location:eia:CISO", slots, seen_ns)      # what changed is a revision
    store.observed("location:eia:CISO")

Raises Unavailable where the file cannot be used.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.carbon.intensity import IntensityGrade, Slot
from app.carbon.series import ordered
from app.carbon.store_file import StoreFile
from app.errors import Busy
from app.units import NS_PER_S

_ISSUES_KEPT = 500
"""Forecasts kept of a source to measure their error by: three weeks of hourly ones."""
_SAME_G = 1e-6  # figures nearer than this are the same: they went through decimal text

_TABLES = """
CREATE TABLE IF NOT EXISTS slot (source TEXT, start_ns INTEGER, end_ns INTEGER, g_per_kwh REAL, grade TEXT,
  said_by TEXT, first_g_per_kwh REAL, PRIMARY KEY (source, start_ns)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS forecast (source TEXT, issued_ns INTEGER, start_ns INTEGER, end_ns INTEGER, g_per_kwh REAL,
  said_by TEXT, PRIMARY KEY (source, issued_ns, start_ns)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revision (source TEXT, start_ns INTEGER, end_ns INTEGER, old_g_per_kwh REAL,
  new_g_per_kwh REAL, said_by TEXT, seen_ns INTEGER);
CREATE INDEX IF NOT EXISTS revision_of ON revision (source, start_ns);
CREATE TABLE IF NOT EXISTS request (provider TEXT, at_ns INTEGER);
CREATE TABLE IF NOT EXISTS look (source TEXT, what TEXT, at_ns INTEGER, again_ns INTEGER, fault TEXT, since_ns INTEGER,
  PRIMARY KEY (source, what)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS change (source TEXT, number INTEGER, start_ns INTEGER,
  PRIMARY KEY (source, number)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Revision:
    """A slot whose figure changed after it had been told."""

    start_ns: int
    end_ns: int
    old_g_per_kwh: float
    new_g_per_kwh: float
    source: str
    seen_ns: int


@dataclass(frozen=True, slots=True)
class PastForecast:
    """What was expected of a slot, and when."""

    issued_ns: int
    slot: Slot


@dataclass(frozen=True, slots=True)
class Look:
    """The last time that a source was asked for something."""

    at_ns: int
    again_ns: int
    """Not before."""
    fault: str
    """Empty: it answered."""
    since_ns: int
    """Since when it has been failing; `at_ns` where it has not."""


class SlotStore:
    """The file, opened at first use."""

    def __init__(self, path: Path) -> None:
        self._file = StoreFile(path, _TABLES)

    def version(self, source: str) -> tuple[int, int]:
        """How often something new or revised came from a source, and when its newest forecast did."""
        with self._file.reading() as connection:
            changes = connection.execute("SELECT MAX(number) FROM change WHERE source = ?", (source,)).fetchone()
            issued = connection.execute("SELECT MAX(issued_ns) FROM forecast WHERE source = ?", (source,)).fetchone()
        return changes[0] or 0, issued[0] or 0

    # What was

    def record(self, source: str, slots: Sequence[Slot], seen_ns: int) -> int:
        """Take in what a source says was; returns how many slots are new or revised."""
        if not slots:
            return 0
        with self._file.writing() as connection:
            known = self._between(connection, source, slots[0].start_ns, slots[-1].end_ns)
            changed = [slot for slot in slots if _differs(known.get(slot.start_ns), slot)]
            for slot in changed:
                self._put(connection, source, known.get(slot.start_ns), slot, seen_ns)
            if changed:
                connection.execute(
                    "INSERT INTO change SELECT ?1, COALESCE(MAX(number), 0) + 1, ?2 FROM change WHERE source = ?1",
                    (source, changed[0].start_ns),
                )
        return len(changed)

    def changed_from(self, source: str, number: int) -> int:
        """Begin of the first slot that is new or revised since the change of that number."""
        with self._file.reading() as connection:
            query = "SELECT MIN(start_ns) FROM change WHERE source = ? AND number > ?"
            row = connection.execute(query, (source, number)).fetchone()
        return int(row[0] or 0)

    def observed(self, source: str, since_ns: int = 0) -> tuple[Slot, ...]:
        """What a source has said was, of slots that begin then or later, by time."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT start_ns, end_ns, g_per_kwh, grade, said_by, first_g_per_kwh FROM slot WHERE source = ? "
                "AND start_ns >= ? ORDER BY start_ns",
                (source, since_ns),
            )
            return ordered(map(_slot, rows))

    def revisions(self, source: str, start_ns: int, end_ns: int, seen_since_ns: int) -> tuple[Revision, ...]:
        """Of slots that begin in the period, seen since then; by time."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT start_ns, end_ns, old_g_per_kwh, new_g_per_kwh, said_by, seen_ns FROM revision "
                "WHERE source = ? AND start_ns >= ? AND start_ns < ? AND seen_ns >= ? ORDER BY start_ns, seen_ns",
                (source, start_ns, end_ns, seen_since_ns),
            )
            return tuple(Revision(*row) for row in rows)

    def newest_ns(self, source: str) -> int | None:
        """End of the newest slot that a source has said was; None without any."""
        with self._file.reading() as connection:
            query = "SELECT end_ns FROM slot WHERE source = ? ORDER BY start_ns DESC LIMIT 1"
            row = connection.execute(query, (source,)).fetchone()
        return row[0] if row else None

    # What was expected

    def record_forecast(self, source: str, slots: Sequence[Slot], issued_ns: int) -> None:
        """Keep a forecast, unless it is the one that is known."""
        with self._file.writing() as connection:
            newest = connection.execute("SELECT MAX(issued_ns) FROM forecast WHERE source = ?", (source,)).fetchone()[0]
            if newest is not None and self._said(connection, source, newest) == _figures(slots):
                return
            connection.executemany(
                "INSERT OR REPLACE INTO forecast VALUES (?, ?, ?, ?, ?, ?)",
                [(source, issued_ns, slot.start_ns, slot.end_ns, slot.g_per_kwh, slot.source) for slot in slots],
            )
            query = "SELECT DISTINCT issued_ns FROM forecast WHERE source = ? ORDER BY issued_ns DESC LIMIT 1 OFFSET ?"
            # Two statements: as a subquery of the second, SQLite 3.40 drops the offset and finds the newest.
            if oldest := connection.execute(query, (source, _ISSUES_KEPT)).fetchone():
                connection.execute("DELETE FROM forecast WHERE source = ? AND issued_ns <= ?", (source, oldest[0]))

    def forecast(self, source: str) -> tuple[Slot, ...]:
        """The newest word on every slot that was ever forecast and is kept, by time."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT start_ns, end_ns, g_per_kwh, 'forecast', said_by, NULL, MAX(issued_ns) FROM forecast "
                "WHERE source = ? GROUP BY start_ns ORDER BY start_ns",
                (source,),
            )
            return ordered(_slot(row[:6]) for row in rows)

    def past_forecasts(self, source: str, start_ns: int, end_ns: int) -> tuple[PastForecast, ...]:
        """Every word on slots that begin in the period, by time and then by issue."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT issued_ns, start_ns, end_ns, g_per_kwh, 'forecast', said_by, NULL FROM forecast "
                "WHERE source = ? AND start_ns >= ? AND start_ns < ? ORDER BY start_ns, issued_ns",
                (source, start_ns, end_ns),
            )
            return tuple(PastForecast(row[0], _slot(row[1:])) for row in rows)

    # How it is going

    def spend(self, provider: str, requests: int, window_s: float, now_ns: int) -> None:
        """Count one request. Raises Busy where `requests` were made within the window, whichever process did."""
        begun_ns = now_ns - round(window_s * NS_PER_S)
        with self._file.writing() as connection:
            connection.execute("DELETE FROM request WHERE provider = ? AND at_ns <= ?", (provider, begun_ns))
            made, oldest_ns = connection.execute(
                "SELECT COUNT(*), MIN(at_ns) FROM request WHERE provider = ?", (provider,)
            ).fetchone()
            if made >= requests:
                wait_s = (oldest_ns - begun_ns) / NS_PER_S
                raise Busy(f"{provider}: {requests} requests in {window_s:g} s are made, its quota is spent", wait_s)
            connection.execute("INSERT INTO request VALUES (?, ?)", (provider, now_ns))

    def spent(self, provider: str, since_ns: int) -> int:
        """Requests made since then."""
        with self._file.reading() as connection:
            query = "SELECT COUNT(*) FROM request WHERE provider = ? AND at_ns > ?"
            return int(connection.execute(query, (provider, since_ns)).fetchone()[0])

    def look(self, source: str, what: str) -> Look | None:
        """The last look at a source for `what`; None if there was none."""
        with self._file.reading() as connection:
            query = "SELECT at_ns, again_ns, fault, since_ns FROM look WHERE source = ? AND what = ?"
            row = connection.execute(query, (source, what)).fetchone()
        return Look(*row) if row else None

    def looked(self, source: str, what: str, now_ns: int, again_ns: int, fault: str) -> None:
        """Note a look, so that no other process does the same."""
        with self._file.writing() as connection:
            before = self.look(source, what)
            since_ns = before.since_ns if before and before.fault and fault else now_ns
            row = (source, what, now_ns, again_ns, fault, since_ns)
            connection.execute("INSERT OR REPLACE INTO look VALUES (?, ?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._file.close()

    def _between(self, connection: sqlite3.Connection, source: str, start_ns: int, end_ns: int) -> dict[int, Slot]:
        rows = connection.execute(
            "SELECT start_ns, end_ns, g_per_kwh, grade, said_by, first_g_per_kwh FROM slot "
            "WHERE source = ? AND start_ns >= ? AND start_ns < ?",
            (source, start_ns, end_ns),
        )
        return {row[0]: _slot(row) for row in rows}

    def _put(self, connection: sqlite3.Connection, source: str, before: Slot | None, slot: Slot, seen_ns: int) -> None:
        first = None
        if before is not None:
            first = before.g_per_kwh if before.first_g_per_kwh is None else before.first_g_per_kwh
            if abs(before.g_per_kwh - slot.g_per_kwh) > _SAME_G:
                figures = (slot.start_ns, slot.end_ns, before.g_per_kwh, slot.g_per_kwh, slot.source, seen_ns)
                connection.execute("INSERT INTO revision VALUES (?, ?, ?, ?, ?, ?, ?)", (source, *figures))
            else:
                first = before.first_g_per_kwh
        # A provider that changes its resolution leaves no slots of the old one inside the new.
        inside = (source, slot.start_ns, slot.end_ns)
        connection.execute("DELETE FROM slot WHERE source = ? AND start_ns >= ? AND start_ns < ?", inside)
        row = (source, slot.start_ns, slot.end_ns, slot.g_per_kwh, slot.grade.value, slot.source, first)
        connection.execute("INSERT INTO slot VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _said(self, connection: sqlite3.Connection, source: str, issued_ns: int) -> list[tuple[int, int, float]]:
        query = "SELECT start_ns, end_ns, g_per_kwh FROM forecast WHERE source = ? AND issued_ns = ? ORDER BY start_ns"
        return connection.execute(query, (source, issued_ns)).fetchall()


def _slot(row: Sequence[object]) -> Slot:
    start_ns, end_ns, g_per_kwh, grade, said_by, first = row
    return Slot(start_ns, end_ns, g_per_kwh, IntensityGrade(grade), said_by, first)  # type: ignore[arg-type]


def _differs(before: Slot | None, slot: Slot) -> bool:
    if before is None or abs(before.g_per_kwh - slot.g_per_kwh) > _SAME_G:
        return True
    return (before.end_ns, before.grade) != (slot.end_ns, slot.grade)


def _figures(slots: Sequence[Slot]) -> list[tuple[int, int, float]]:
    return [(slot.start_ns, slot.end_ns, slot.g_per_kwh) for slot in slots]
