"""The gate: who comes in, and with what right. One in every process that answers requests; no I/O, microseconds.

`open`: whoever comes over the loopback interface is the tenant that the gate was given, and nobody else comes in.
`required`: nobody comes in without a key or token that covers what he asks for, and before the accountant has said
which keys there are nobody at all. Knows nothing of HTTP, gRPC or Ray. Thread-safe.

    gate = Gate.required(SystemClock())
    gate.renew(answer)                                   # the feed does it, every two seconds
    caller = gate.admit(credential(headers), "infer:minilm", route="POST infer")
    gate.charge(caller.tenant, energy_uj, carbon_ugco2e) # after the answer
"""

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from app.access.allowance import Allowances
from app.access.keys import PREFIX, id_of_key
from app.access.peers import is_loopback
from app.access.rules import Quotas
from app.access.scopes import ADMIN, covers
from app.access.snapshot import AccessSnapshot, Decision, KeyGrant, Poll, PollAnswer
from app.access.tokens import TokenBook
from app.clock import Clock, SystemClock
from app.errors import Forbidden, JoulekeeperError, Unauthenticated, Unavailable
from app.units import NS_PER_S

STALE_S = 300.0
"""How long a snapshot is good while the accountant is silent: a revoked key works no longer than this."""
_MAX_CREDENTIAL_CHARS = 9000
_MAX_DECISIONS = 1000
_NO_GRANT = KeyGrant(bytes(32), "", frozenset(), 0.0)
_OTHERS = "(others)"
_MAX_PASSES = 4096


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    tenant: str
    key_id: str = ""
    """The id of the key, or `jwt <issuer> <subject>`; empty with access open."""
    is_admin: bool = False


class _Pass(NamedTuple):
    """A key that was found good for a scope: good again, until the rules change or it expires."""

    caller: Caller
    expires_s: float
    quotas: Quotas | None
    decision: Decision


def credential(headers: Iterable[tuple[str, str | bytes]] | Iterable[tuple[bytes, bytes]]) -> str | None:
    """What headers or gRPC metadata, names in lower case, bring to be known by: `x-api-key`, else `authorization`."""
    found: str | bytes | None = None
    for name, value in headers:
        if name in (b"x-api-key", "x-api-key"):
            found = value
            break
        if name in (b"authorization", "authorization"):
            found = value
    return found.decode("latin-1") if isinstance(found, bytes) else found


class Gate:
    """`Gate.open(tenant)` or `Gate.required(clock)`."""

    def __init__(self, everybody: Caller | None, clock: Clock, hurry: Callable[[], None]) -> None:
        self._everybody, self._clock = everybody, clock
        self._shut = "" if everybody is None else "it is not known yet who can reach this service; try again"
        self._allowances = Allowances(hurry)
        self._snapshot: AccessSnapshot | None = None
        self._tokens = TokenBook(())
        self._heard_s = 0.0
        self._decisions: dict[Decision, int] = {}
        self._passes: dict[tuple[bytes, str, str], _Pass] = {}
        """By the digest of the credential, scope and route. No secret is in it, and how long looking up a digest takes
        says nothing of one."""
        self._lock = threading.Lock()

    @classmethod
    def open(cls, tenant: str) -> "Gate":
        """Asks nobody who comes over loopback, once `unbar` said that nobody else can seem to."""
        return cls(Caller(tenant, "", is_admin=True), SystemClock(), lambda: None)

    @classmethod
    def required(cls, clock: Clock, hurry: Callable[[], None] = lambda: None) -> "Gate":
        """Asks everybody. `hurry` is called when a poll should come soon; it must be quick."""
        return cls(None, clock, hurry)

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked."""
        return self._everybody is not None

    def admit(
        self,
        authorization: str | None,
        scope: str,
        tokens: int = 0,
        *,
        requests: int = 1,
        peer: str = "",
        route: str = "",
    ) -> Caller:
        """Who asks for what takes `scope`; `peer` is his address, `route` what he calls, for the audit log.

        `requests` 0 is a question that no quota counts.

        Raises Unauthenticated, Forbidden, OverQuota, Unavailable.
        """
        if self._everybody is not None:
            if self._shut or not is_loopback(peer):
                raise self._refusal_of_strangers()
            return self._everybody
        with self._lock:
            return self._admit(authorization, scope, tokens if requests else -1, route)

    def charge(self, tenant: str, energy_uj: int, carbon_ugco2e: float, tokens: float = 0.0) -> None:
        """Count what the answer took."""
        if self._everybody is None and self._allowances.counts(tenant):
            with self._lock:
                self._allowances.charge(tenant, tokens, energy_uj, carbon_ugco2e, self._now_s())

    def still_knows(self, key_id: str) -> bool:
        """Whether who came in as `key_id` could do so again: a key may have been revoked; a token was for its moment.
        Raises Unavailable."""
        if self._everybody is not None or key_id.startswith("jwt "):
            return True
        with self._lock:
            grant = self._fresh_snapshot().keys.get(key_id)
        return grant is not None and self._clock.wall_ns() / NS_PER_S < grant.expires_s

    # The feed's side

    def unbar(self) -> None:
        """Of an open gate: nobody but this machine reaches the service."""
        self._shut = ""

    def bar(self, reason: str) -> None:
        """Of an open gate: let nobody in, and say why."""
        self._shut = reason

    def poll(self, name: str) -> Poll:
        """What to tell the accountant. What it carries is forgotten here."""
        with self._lock:
            snapshot = self._snapshot
            decisions, self._decisions = tuple(self._decisions.items()), {}
            unknown, self._tokens.unknown_key_ids = frozenset(self._tokens.unknown_key_ids), set()
            quotas_of = snapshot.quotas_of if snapshot else lambda _: None
            wants = self._allowances.wants(quotas_of, self._now_s())
        return Poll(name, snapshot.version if snapshot else "", wants, decisions, unknown)

    def keep(self, poll: Poll) -> None:
        """Take back the decisions of a poll that did not arrive."""
        with self._lock:
            for decision, count in poll.decisions:
                self._note(decision, count)

    def renew(self, answer: PollAnswer) -> None:
        """Take what the accountant answered."""
        book = TokenBook(answer.snapshot.issuers) if answer.snapshot else None
        with self._lock:
            now_s = self._now_s()
            if answer.snapshot is not None and book is not None:
                self._snapshot, self._tokens = answer.snapshot, book
                self._passes = {}
            self._heard_s = now_s
            self._allowances.fill(answer, now_s)

    # Deciding

    def _admit(self, authorization: str | None, scope: str, tokens: int, route: str) -> Caller:
        wall_s = self._clock.wall_ns() / NS_PER_S
        who = tenant = ""
        try:
            snapshot = self._fresh_snapshot()
            digest = hashlib.sha256(authorization.encode()).digest() if authorization else b""
            found = self._passes.get((digest, scope, route))
            if found is None or wall_s >= found.expires_s:
                who, text = _named(authorization)
                who, tenant, scopes, expires_s = self._known(snapshot, who, text, wall_s)
                if not covers(scopes, scope):
                    raise Forbidden(f"this takes the scope {scope!r}; ask for a key that has it")
                decision = Decision(who, tenant, scope, route, True)
                found = _Pass(Caller(tenant, who, ADMIN in scopes), expires_s, snapshot.quotas_of(tenant), decision)
                self._remember((digest, scope, route), found)
            if found.quotas is not None and tokens >= 0:
                who, tenant = found.decision.who, found.decision.tenant
                self._allowances.spend(tenant, found.quotas, tokens, self._now_s(), wall_s)
        except JoulekeeperError as error:
            reason = type(error).__name__ if isinstance(error, Unavailable) else str(error).partition(";")[0]
            self._note(Decision(who, tenant, scope, route, False, reason))
            raise
        self._note(found.decision)
        return found.caller

    def _remember(self, asked: tuple[bytes, str, str], found: _Pass) -> None:
        if len(self._passes) >= _MAX_PASSES:
            self._passes.clear()
        if found.expires_s:
            self._passes[asked] = found

    def _known(
        self, snapshot: AccessSnapshot, key_id: str, text: str, wall_s: float
    ) -> tuple[str, str, frozenset[str], float]:
        """Name, tenant and scopes of who brings `text`, and until when (Unix seconds) that can be taken for granted;
        0: not at all. Raises Unauthenticated."""
        if not text.startswith(PREFIX):
            grant = self._tokens.grant(text, wall_s)
            return grant.who, grant.tenant, grant.scopes, 0.0
        # An unknown id takes as long as a wrong secret.
        key = snapshot.keys.get(key_id, _NO_GRANT)
        is_right = hmac.compare_digest(hashlib.sha256(text.encode()).digest(), key.digest)
        if not is_right or wall_s >= key.expires_s:
            raise Unauthenticated("the API key is unknown, revoked or expired; ask for a new one")
        return key_id, key.tenant, key.scopes, key.expires_s

    def _fresh_snapshot(self) -> AccessSnapshot:
        if self._snapshot is None:
            raise Unavailable("who may come in is not known here yet; try again in a moment")
        if self._now_s() - self._heard_s > STALE_S:
            raise Unavailable(f"who may come in was last heard more than {STALE_S:.0f} s ago; try again later")
        return self._snapshot

    def _note(self, decision: Decision, count: int = 1) -> None:
        noted = self._decisions
        before = noted.get(decision)
        if before is None and len(noted) >= _MAX_DECISIONS:
            decision = Decision(_OTHERS, "", "", "", decision.allowed, _OTHERS)
            before = noted.get(decision)
        noted[decision] = (before or 0) + count

    def _refusal_of_strangers(self) -> JoulekeeperError:
        if self._shut:
            return Forbidden(self._shut)
        return Forbidden(
            "access is open, so only this machine is served; set JOULEKEEPER_ACCESS=required before the cluster "
            "starts, and make keys with `joulekeeper keys create`"
        )

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / NS_PER_S


def _named(authorization: str | None) -> tuple[str, str]:
    """The id of the key, empty for a token, and the bare key or token. Raises Unauthenticated."""
    if not authorization:
        raise Unauthenticated("a key is needed: send `authorization: Bearer <key or token>` or `x-api-key: <key>`")
    if len(authorization) > _MAX_CREDENTIAL_CHARS:
        raise Unauthenticated(f"the credential has {len(authorization)} characters, too many for a key or a token")
    scheme, _, rest = authorization.partition(" ")
    text = rest.strip() if scheme.lower() == "bearer" else authorization
    return id_of_key(text), text
