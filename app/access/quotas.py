"""The quotas of all tenants, leased to the gates that serve them.

Requests and tokens: one bucket a tenant, filled at the quota's rate, from which gates get what they want, in proportion
when it is not enough, and into which they give back what they did not need. Energy and carbon of a day: what the books
say is left, divided among the gates that the tenant uses; nothing of it is kept here, so a restart forgets nothing.
Knows nothing of callers; time comes in as an argument. Not thread-safe.

    desk = QuotaDesk()
    leases = desk.lease("gate-1", wants, quotas_of, uses, now)
    spent = desk.spent(quotas_of, uses, wall_s)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.access.allowance import LEASE_S
from app.access.rules import Quotas
from app.access.snapshot import Lease, Spent, Want

DAY_S = 86_400
_GONE_S = 30.0
"""A gate that was not heard for so long serves nobody."""


@dataclass(frozen=True, slots=True)
class TenantUse:
    """What the books say that a tenant has used today."""

    energy_uj: int = 0
    carbon_ugco2e: int = 0


NO_USE = TenantUse()
QuotasOf = Callable[[str], Quotas | None]


@dataclass(slots=True)
class _Bucket:
    """Never more than `most` in it; fills by `per_s`."""

    per_s: float
    most: float
    level: float
    filled_at: float
    wanted: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Gate: what it wanted last, and when."""

    def take(self, gate: str, want: float, now: float) -> float:
        """How much of `want` the gate gets; what it gives back is taken whole."""
        self.level = min(self.most, self.level + self.per_s * (now - self.filled_at))
        self.filled_at = now
        if want <= 0:
            self.wanted.pop(gate, None)
            self.level = min(self.most, self.level - want)
            return want
        # What those are likely to want who poll next is left for them.
        due = (amount for each, (amount, at) in self.wanted.items() if each != gate and _is_due(now - at))
        given = min(want, max(0.0, self.level) * want / (want + sum(due)))
        self.wanted = {each: seen for each, seen in self.wanted.items() if now - seen[1] <= 2 * LEASE_S}
        self.wanted[gate] = (want, now)
        self.level -= given
        return given


def _is_due(since_s: float) -> bool:
    """Whether a gate that polled so long ago is about to do so again."""
    return 0.75 * LEASE_S <= since_s <= 2 * LEASE_S


class QuotaDesk:
    """Hands out leases."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._gates: dict[str, dict[str, float]] = {}
        """Tenant: the gates that it uses, and when they were last heard of."""

    def lease(
        self, gate: str, wants: Mapping[str, Want], quotas_of: QuotasOf, uses: Mapping[str, TenantUse], now: float
    ) -> dict[str, Lease]:
        """Leases for the tenants that `gate` wants something for."""
        leases = {}
        for tenant, want in wants.items():
            quotas = quotas_of(tenant)
            if quotas is not None:
                gates = self._gates_of(tenant, gate, now)
                given = self._given(tenant, gate, want, quotas, now)
                left = _left(quotas, uses.get(tenant, NO_USE))
                leases[tenant] = Lease(*given, gates, *(None if part is None else part / gates for part in left))
        return leases

    def spent(self, quotas_of: QuotasOf, uses: Mapping[str, TenantUse], wall_s: float) -> dict[str, Spent]:
        """The tenants that have used up a quota of the day."""
        day_ends_s = (wall_s // DAY_S + 1) * DAY_S
        found = {}
        for tenant, use in uses.items():
            quotas = quotas_of(tenant)
            energy_uj, carbon_ug = _left(quotas, use) if quotas else (None, None)
            if quotas and energy_uj == 0:
                found[tenant] = Spent(f"{quotas.joules_per_day:g} joules a day", day_ends_s)
            elif quotas and carbon_ug == 0:
                found[tenant] = Spent(f"{quotas.gco2e_per_day:g} gCO2e a day", day_ends_s)
        return found

    def _given(self, tenant: str, gate: str, want: Want, quotas: Quotas, now: float) -> tuple[float, float]:
        requests = tokens = 0.0
        rate, per_min = quotas.requests_per_s, quotas.tokens_per_min
        if rate is not None:
            bucket = self._bucket(tenant, "requests", rate, max(1.0, rate * LEASE_S), now)
            requests = bucket.take(gate, want.requests, now)
        if per_min is not None:
            bucket = self._bucket(tenant, "tokens", per_min / 60, max(1.0, per_min), now)
            tokens = bucket.take(gate, want.tokens, now)
        return requests, tokens

    def _gates_of(self, tenant: str, gate: str, now: float) -> int:
        heard = self._gates.setdefault(tenant, {})
        heard[gate] = now
        self._gates[tenant] = {each: at for each, at in heard.items() if now - at <= _GONE_S}
        return len(self._gates[tenant])

    def _bucket(self, tenant: str, what: str, per_s: float, most: float, now: float) -> _Bucket:
        bucket = self._buckets.get((tenant, what))
        if bucket is None or (bucket.per_s, bucket.most) != (per_s, most):
            level = most if bucket is None else min(most, bucket.level)
            bucket = self._buckets[tenant, what] = _Bucket(per_s, most, level, now)
        return bucket


def _left(quotas: Quotas, use: TenantUse) -> tuple[float | None, float | None]:
    """Energy (uJ) and carbon (ug) left of the day; None without such a quota."""
    joules, grams = quotas.joules_per_day, quotas.gco2e_per_day
    energy_uj = None if joules is None else max(0.0, joules * 1e6 - use.energy_uj)
    carbon_ug = None if grams is None else max(0.0, grams * 1e6 - use.carbon_ugco2e)
    return energy_uj, carbon_ug
