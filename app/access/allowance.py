"""What one gate may still let its tenants use: spent here, filled up by leases.

A tenant that was not seen lately starts on credit: one lease, shared among the gates, that the next leases pay for. So
all gates together let pass at most one lease more than the quotas say. Tokens, energy and carbon are known only after
the work: what has begun is finished, and what it took counts. Knows nothing of callers; time comes in as an argument.
Not thread-safe.

    allowances.spend("acme", quotas, tokens=0, now=now)      # raises OverQuota
    allowances.charge("acme", tokens, energy_uj, carbon_ugco2e, now)
    wants = allowances.wants(quotas_of, now)
    allowances.fill(answer, now)
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.access.rules import Quotas
from app.access.snapshot import Lease, PollAnswer, Spent, Want
from app.errors import OverQuota, Unavailable

LEASE_S = 2.0
"""How much of a quota per time one lease is."""
UNSETTLED_S = 15.0
"""What was charged longer ago is on the books, and in what the leases say is left."""
LAPSE_S = 30.0
"""A lease of a day's quota that was not renewed for so long is worth nothing: the accountant gave it to others."""
_FORGET_S = 120.0


@dataclass(slots=True)
class _Account:
    """One tenant at this gate."""

    born_at: float
    used_at: float
    requests: float = 0.0
    tokens: float = 0.0
    wanted_requests: float = 0.0
    """Asked for since the last lease, refused ones included."""
    wanted_tokens: float = 0.0
    lease: Lease | None = None
    leased_at: float = -math.inf
    unsettled: deque[list[float]] = field(default_factory=deque)
    """When, energy (uJ), carbon (ug); what was charged within a second is one entry."""


class Allowances:
    """By tenant. `hurry` is called when one runs dry, so that the next lease comes soon."""

    def __init__(self, hurry: Callable[[], None] = lambda: None) -> None:
        self._accounts: dict[str, _Account] = {}
        self._spent: Mapping[str, Spent] = {}
        self._gates = 1
        self._hurry = hurry

    def spend(self, tenant: str, quotas: Quotas, tokens: int, now: float, wall_s: float) -> None:
        """Let one request pass. `now` is monotonic, `wall_s` Unix time. Raises OverQuota, Unavailable."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = _Account(now, now)
        account.used_at = now
        account.wanted_requests += 1
        account.wanted_tokens += tokens
        gates = account.lease.gates if account.lease else self._gates
        rate, per_min = quotas.requests_per_s, quotas.tokens_per_min
        if rate is not None:
            left = account.requests + max(1.0, rate * LEASE_S / gates)
            self._check(tenant, left, rate, f"{rate:g} requests a second")
        if per_min is not None:
            left = account.tokens + max(1.0, per_min / 60 * LEASE_S / gates)
            self._check(tenant, left, per_min / 60, f"{per_min:g} tokens a minute")
        if quotas.are_daily:
            self._check_day(tenant, account, now, wall_s)
        if rate is not None:
            account.requests -= 1
        account.tokens -= tokens

    def counts(self, tenant: str) -> bool:
        """Whether what `tenant` uses is counted here at all."""
        return tenant in self._accounts

    def charge(self, tenant: str, tokens: float, energy_uj: int, carbon_ugco2e: float, now: float) -> None:
        """Count what became known of work only after it."""
        account = self._accounts.get(tenant)
        if account is not None:
            account.tokens -= tokens
            account.wanted_tokens += tokens
            if not account.unsettled or now - account.unsettled[-1][0] >= 1:
                account.unsettled.append([now, 0.0, 0.0])
            account.unsettled[-1][1] += energy_uj
            account.unsettled[-1][2] += carbon_ugco2e

    def wants(self, quotas_of: Callable[[str], Quotas | None], now: float) -> dict[str, Want]:
        """What to ask the accountant for: as much as was asked for since the last time, debts on top, the rest back."""
        wants: dict[str, Want] = {}
        for tenant, account in list(self._accounts.items()):
            quotas = quotas_of(tenant)
            in_debt = account.requests < 0 or account.tokens < 0
            if quotas is None or (now - account.used_at > _FORGET_S and not in_debt):
                del self._accounts[tenant]
                continue
            requests = tokens = 0.0
            if quotas.requests_per_s is not None:
                most = max(1.0, quotas.requests_per_s * LEASE_S)
                requests = min(most, account.wanted_requests) - account.requests
            if quotas.tokens_per_min is not None:
                tokens = min(max(1.0, quotas.tokens_per_min), account.wanted_tokens) - account.tokens
            else:
                account.tokens = 0.0  # counted for nothing
            account.wanted_requests = account.wanted_tokens = 0.0
            wants[tenant] = Want(requests, tokens)
        return wants

    def fill(self, answer: PollAnswer, now: float) -> None:
        """Add what the accountant gives; it is less than nothing where something was given back."""
        self._spent, self._gates = answer.spent, answer.gates
        for tenant, lease in answer.leases.items():
            account = self._accounts.get(tenant)
            if account is not None:
                account.requests += lease.requests
                account.tokens += lease.tokens
                account.lease, account.leased_at = lease, now

    def _check(self, tenant: str, left: float, per_s: float, quota: str) -> None:
        if left < 1:
            self._hurry()
            wait_s = max(0.1, (1 - left) / per_s)
            raise OverQuota(f"tenant {tenant} has used up its {quota}; come again in {wait_s:.1f} s", wait_s)

    def _check_day(self, tenant: str, account: _Account, now: float, wall_s: float) -> None:
        spent, lease = self._spent.get(tenant), account.lease
        if spent is not None:
            wait_s = max(1.0, spent.day_ends_s - wall_s)
            message = f"tenant {tenant} has used up its {spent.quota}; come again in {wait_s:.0f} s"
            raise OverQuota(message, wait_s, True)
        if lease is None or now - account.leased_at > LAPSE_S:
            self._hurry()
            if lease is None and now - account.born_at <= 2 * LEASE_S:
                return  # on credit
            raise Unavailable(f"what tenant {tenant} has left of its day cannot be found out now; try again")
        while account.unsettled and now - account.unsettled[0][0] > UNSETTLED_S:
            account.unsettled.popleft()
        energy_uj = sum(energy for _, energy, _ in account.unsettled)
        carbon_ug = sum(carbon for _, _, carbon in account.unsettled)
        over_energy = lease.energy_uj is not None and energy_uj >= lease.energy_uj
        over_carbon = lease.carbon_ugco2e is not None and carbon_ug >= lease.carbon_ugco2e
        if over_energy or over_carbon:
            self._hurry()
            raise OverQuota(f"tenant {tenant} is at the end of its day's quota; come again in 2 s", LEASE_S)
