"""What the accountant hands to the gates: who is known, and what each may do; and what the gates hand back.

Plain frozen values that pickle. No key is in them, and of no issuer anything but public keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.access.rules import OTHERS, IssuerRules, Quotas


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What one API key opens."""

    digest: bytes = field(repr=False)
    """SHA-256 of the key."""
    tenant: str
    scopes: frozenset[str]
    expires_s: float
    """Unix seconds; infinity: never."""


@dataclass(frozen=True, slots=True)
class IssuerKeys:
    """One issuer with the public keys that it has now."""

    rules: IssuerRules
    keys: Mapping[str, Mapping[str, Any]]
    """JWK by key id; a key without one stands under the empty id."""


@dataclass(frozen=True, slots=True)
class AccessSnapshot:
    """One moment of the rules. `version` differs whenever anything else does."""

    version: str
    keys: Mapping[str, KeyGrant] = field(default_factory=dict)
    """By key id; revoked ones are left out."""
    issuers: tuple[IssuerKeys, ...] = ()
    quotas: Mapping[str, Quotas] = field(default_factory=dict)

    def quotas_of(self, tenant: str) -> Quotas | None:
        """The quotas of a tenant; None: it has none."""
        return self.quotas.get(tenant) or self.quotas.get(OTHERS)


@dataclass(frozen=True, slots=True)
class Want:
    """What a gate would like to have for a tenant; less than 0: what it gives back."""

    requests: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """What a gate may let a tenant use. Requests and tokens come on top of what it has, the rest replaces it."""

    requests: float = 0.0
    tokens: float = 0.0
    gates: int = 1
    """How many gates serve the tenant now."""
    energy_uj: float | None = None
    """This gate's part of what is left of the day's energy; None: without bound."""
    carbon_ugco2e: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """A tenant's quota of the day is used up."""

    quota: str
    """In words: `20000 joules a day`."""
    day_ends_s: float
    """Unix seconds."""


class Decision(NamedTuple):
    """What a gate decided, for the audit log. Equal ones are counted together."""

    who: str
    tenant: str
    scope: str
    route: str
    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Poll:
    """What a gate tells the accountant and asks of it."""

    gate: str
    """Who it is, for people: `minilm@1 on node-3, pid 4711`. Unique."""
    version: str = ""
    """Of the snapshot it has; empty: none."""
    wants: Mapping[str, Want] = field(default_factory=dict)
    """By tenant with quotas, who asked lately."""
    decisions: tuple[tuple[Decision, int], ...] = ()
    """With how often."""
    unknown_key_ids: frozenset[str] = frozenset()
    """Of tokens whose issuer may have new keys."""


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """What the accountant answers."""

    snapshot: AccessSnapshot | None = None
    """None: the gate has the newest."""
    leases: Mapping[str, Lease] = field(default_factory=dict)
    spent: Mapping[str, Spent] = field(default_factory=dict)
    """By tenant, whether or not this gate has seen it."""
    gates: int = 1
    """How many gates there are: a tenant that is new to one of them starts on its part of a lease."""
