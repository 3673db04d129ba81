"""The accountant's side of access: files, key sets and the books in, snapshots and leases out.

Knows nothing of Ray, nor of where the figures of a day come from. A file that cannot be read leaves the rules as they
were, with a warning: a slip of the pen must not lock everybody out, nor let anybody in. Thread-safe.

    desk = AccessDesk(directory, used_today, clock)
    answer = desk.answer(poll)
    desk.keep_up()                    # every second or so, from a thread of its own: it fetches
"""

import hashlib
import logging
import math
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.access.audit_log import AuditLog, entry_of
from app.access.jwks import Fetch, KeySetShelf, fetch
from app.access.keys import KeyFile, KeyRecord
from app.access.quotas import DAY_S, QuotaDesk, TenantUse
from app.access.rules import AccessRules, read_rules
from app.access.snapshot import AccessSnapshot, KeyGrant, Poll, PollAnswer
from app.access.tickets import own_issuers
from app.clock import Clock
from app.errors import InvalidInput, JoulekeeperError
from app.units import NS_PER_S

KEYS_FILE, RULES_FILE, AUDIT_FILE = "keys.json", "access.yaml", "audit.jsonl"
UsedToday = Callable[[float], Mapping[str, TenantUse]]
"""What each tenant has used since a Unix time, by the books. Raises Unavailable."""

_log = logging.getLogger(__name__)
_LOOK_AT_BOOKS_S = 5.0
_GONE_S = 30.0


class AccessDesk:
    """Keeps itself up to date by `keep_up`; answers what it knows."""

    def __init__(self, directory: Path, used_today: UsedToday, clock: Clock, fetch: Fetch = fetch) -> None:
        self._directory, self._used_today, self._clock = directory, used_today, clock
        self._audit = AuditLog(directory / AUDIT_FILE)
        self._shelf = KeySetShelf(fetch)
        self._quotas = QuotaDesk()
        self._keys: tuple[KeyRecord, ...] = ()
        self._rules = AccessRules()
        self._seen: dict[str, object] = {}
        self._faults: dict[str, str] = {}
        self._uses: Mapping[str, TenantUse] = {}
        self._used_at = -math.inf
        self._gates: dict[str, float] = {}
        self._is_hurried = False
        self._snapshot: AccessSnapshot | None = None
        self._lock = threading.Lock()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at, a sentence each."""
        with self._lock:
            return (*self._faults.values(), *self._shelf.warnings)

    def answer(self, poll: Poll) -> PollAnswer:
        """What a gate gets; what it decided goes into the audit log."""
        now, wall_s = self._times()
        with self._lock:
            self._is_hurried = self._is_hurried or bool(poll.unknown_key_ids)
            self._gates[poll.gate] = now
            self._gates = {gate: at for gate, at in self._gates.items() if now - at <= _GONE_S}
            snapshot = self._snapshot
            if snapshot is None:
                return PollAnswer()
            leases = self._quotas.lease(poll.gate, poll.wants, snapshot.quotas_of, self._uses, now)
            spent = self._quotas.spent(snapshot.quotas_of, self._uses, wall_s)
            self._write([entry_of(*decided, poll.gate, wall_s) for decided in poll.decisions])
            return PollAnswer(None if snapshot.version == poll.version else snapshot, leases, spent, len(self._gates))

    def keep_up(self) -> None:
        """Read what has changed, fetch what is old. Never raises."""
        now, wall_s = self._times()
        keys = self._read("keys", KEYS_FILE, lambda path: KeyFile(path).records(), self._keys)
        rules = self._read("rules", RULES_FILE, read_rules, self._rules)
        with self._lock:
            is_hurried, self._is_hurried = self._is_hurried, False
        self._shelf.refresh((*rules.issuers, *own_issuers(self._directory)), is_hurried, now)
        uses = self._look_at_books(rules, now, wall_s)
        with self._lock:
            self._keys, self._rules, self._uses = keys, rules, uses
            self._snapshot = self._made(now, wall_s)

    def _made(self, now: float, wall_s: float) -> AccessSnapshot:
        """A new snapshot, or the old one where nothing has changed."""
        grants = {
            key.id: KeyGrant(
                bytes.fromhex(key.digest), key.tenant, key.scopes, math.inf if key.expires_s is None else key.expires_s
            )
            for key in self._keys
            if key.is_good(wall_s)
        }
        rules = (*self._rules.issuers, *own_issuers(self._directory))
        issuers, old = self._shelf.issuers(rules, now), self._snapshot
        if old and (old.keys, old.issuers, old.quotas) == (grants, issuers, self._rules.tenants):
            return old
        return AccessSnapshot(secrets.token_hex(8), grants, issuers, dict(self._rules.tenants))

    def _read(self, what: str, name: str, read: Callable[[Path], Any], last: Any) -> Any:
        path = self._directory / name
        try:
            digest = hashlib.sha256(path.read_bytes()).digest()
        except FileNotFoundError:
            digest = b""
        except OSError as error:
            return self._kept(what, f"{path} cannot be read: {error}", last)
        if self._seen.get(what) == digest:
            with self._lock:
                self._faults.pop(what, None)
            return last
        try:
            found = read(path)
        except (InvalidInput, OSError) as error:
            return self._kept(what, str(error), last)
        with self._lock:
            self._seen[what] = digest
            self._faults.pop(what, None)
        return found

    def _kept(self, what: str, fault: str, last: Any) -> Any:
        with self._lock:
            if self._faults.get(what) != fault:
                _log.error("%s; the %s stay as they were", fault, what)
            self._faults[what] = fault
        return last

    def _look_at_books(self, rules: AccessRules, now: float, wall_s: float) -> Mapping[str, TenantUse]:
        if not any(quotas.are_daily for quotas in rules.tenants.values()):
            return {}
        if now - self._used_at < _LOOK_AT_BOOKS_S:
            return self._uses
        try:
            uses = self._used_today(wall_s // DAY_S * DAY_S)
            self._used_at = now
        except JoulekeeperError as error:
            return dict(self._kept("books", f"what tenants have used today cannot be read: {error}", self._uses))
        with self._lock:
            self._faults.pop("books", None)
        return uses

    def _write(self, entries: list[Mapping[str, object]]) -> None:
        try:
            self._audit.write(entries)
            self._faults.pop("audit", None)
        except OSError as error:
            self._faults["audit"] = f"the audit log cannot be written: {error}"
            _log.error("the audit log cannot be written, %d entries are lost: %s", len(entries), error)

    def _times(self) -> tuple[float, float]:
        """Monotonic and Unix seconds."""
        return self._clock.monotonic_ns() / NS_PER_S, self._clock.wall_ns() / NS_PER_S
