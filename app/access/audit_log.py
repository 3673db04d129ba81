"""The audit log: who wanted what, what was decided and why; one JSON object a line, only ever appended to.

The file is 0600 and changes its name when it is full: `audit.1.jsonl` is the newest of the old ones, of which so many
are kept. Equal decisions of one poll are one line with a count, so that neither 5,000 requests a second nor somebody
who tries keys fill a disk. No key is ever in it, only ids; what callers send is written as JSON strings, so that no
line can be forged.

    log = AuditLog(path)
    log.write([entry_of(decision, count, where, wall_s)])
"""

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from app.access.private_files import make_private_directory, open_private
from app.access.snapshot import Decision

MAX_BYTES = 16 * 1024 * 1024
KEPT_FILES = 8

Entry = Mapping[str, object]


class AuditLog:
    """One file with its predecessors. Several processes may append to it; one of them, the accountant, rotates it."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept_files: int = KEPT_FILES) -> None:
        self._path, self._max_bytes, self._kept_files = path, max_bytes, kept_files

    def write(self, entries: Iterable[Entry], *, rotates: bool = True) -> None:
        """Append `entries`. Raises OSError."""
        lines = b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in entries)
        if not lines:
            return
        make_private_directory(self._path.parent)
        if rotates:
            self._rotate(len(lines))
        descriptor = open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, lines)  # one call: lines of two processes never mix
        finally:
            os.close(descriptor)

    def _rotate(self, more_bytes: int) -> None:
        try:
            full = self._path.stat().st_size + more_bytes > self._max_bytes
        except FileNotFoundError:
            return
        if full:
            for number in range(self._kept_files - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}.{number}{self._path.suffix}")


def entry_of(decision: Decision, count: int, where: str, wall_s: float) -> Entry:
    """What `count` equal decisions look like in the log; `where` is the gate that made them."""
    return {
        "time": time_text(wall_s),
        "count": count,
        "who": decision.who,
        "tenant": decision.tenant,
        "scope": decision.scope,
        "route": decision.route,
        "decision": "allowed" if decision.allowed else "refused",
        "reason": decision.reason,
        "where": where,
    }


def change_entry(what: str, key_id: str, tenant: str, scopes: Iterable[str], by: str, wall_s: float) -> Entry:
    """A key was `created` or `revoked` by a user of the head's operating system."""
    return {
        "time": time_text(wall_s),
        "who": by,
        "tenant": tenant,
        "decision": what,
        "key": key_id,
        "scopes": sorted(scopes),
    }


def time_text(wall_s: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
