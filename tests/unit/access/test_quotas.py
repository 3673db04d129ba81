"""Quotas: what all gates together let pass, and that days, debts and restarts are remembered. The clock is ours."""

import pytest

from app.access.allowance import LEASE_S, Allowances
from app.access.quotas import DAY_S, QuotaDesk, TenantUse
from app.access.rules import Quotas
from app.access.snapshot import Lease, PollAnswer
from app.errors import OverQuota, Unavailable

DAY_BEGINS_S = 20_000 * DAY_S


class House:
    """Gates that poll every two seconds, the desk that leases to them, and a clock."""

    def __init__(self, quotas: Quotas, gates: int) -> None:
        self.quotas, self.desk = quotas, QuotaDesk()
        self.gates = [Allowances() for _ in range(gates)]
        self.uses: dict[str, TenantUse] = {}
        self.now, self.wall_s = 1000.0, DAY_BEGINS_S + 3600.0

    def poll(self) -> None:
        for number, gate in enumerate(self.gates):
            leases = self.desk.lease(f"g{number}", gate.wants(self.of, self.now), self.of, self.uses, self.now)
            spent = self.desk.spent(self.of, self.uses, self.wall_s)
            gate.fill(PollAnswer(None, leases, spent, len(self.gates)), self.now)

    def of(self, tenant: str) -> Quotas | None:
        return self.quotas

    def ask(self, gate: int = 0, tokens: int = 0) -> bool:
        try:
            self.gates[gate].spend("acme", self.quotas, tokens, self.now, self.wall_s)
        except OverQuota as error:
            self.refusal = error
            return False
        return True

    def run(self, seconds: int, per_s: int) -> int:
        """Everybody asks `per_s` times a second at every gate; how many pass."""
        passed = 0
        for step in range(seconds * 10):
            if step % 20 == 0:
                self.poll()
            for _ in range(max(1, per_s // 10)):
                passed += sum(self.ask(gate) for gate in range(len(self.gates)))
            self.now += 0.1
            self.wall_s += 0.1
        return passed


@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize("rate", [5, 50])
def test_all_gates_together_pass_the_rate_and_at_most_one_lease_and_a_burst_more(gates: int, rate: int):
    house = House(Quotas(requests_per_s=rate), gates)
    house.poll()  # the gates know how many they are
    passed = house.run(60, per_s=4 * rate)
    burst, lease = rate * LEASE_S, max(gates, rate * LEASE_S)
    assert rate * 60 * 0.9 <= passed <= rate * 60 + burst + lease


def test_who_keeps_to_the_rate_is_never_refused():
    house = House(Quotas(requests_per_s=22), 2)
    house.run(10, per_s=10)  # by then the leases follow what each gate needs
    assert house.run(30, per_s=10) == 30 * 10 * 2


def test_an_idle_tenant_gives_back_what_it_does_not_need():
    house = House(Quotas(requests_per_s=10), 2)
    house.poll()
    for _ in range(10):
        house.ask(0)
    for _ in range(30):  # gate 0 is quiet from now on, gate 1 asks for all there is
        house.now += LEASE_S
        house.poll()
        passed = sum(house.ask(1) for _ in range(100))
    assert passed == pytest.approx(10 * LEASE_S, abs=2)


def test_tokens_are_paid_for_after_the_work_down_to_the_last():
    house = House(Quotas(tokens_per_min=600), 1)
    house.poll()
    assert house.ask()
    house.gates[0].charge("acme", 2400, 0, 0.0, house.now)
    house.poll()
    assert not house.ask()
    assert house.refusal.retry_after_s > 60
    refused_s = 0.0
    while not house.ask():
        house.now += LEASE_S
        refused_s += LEASE_S
        house.poll()
    # 2400 tokens, of which a full bucket paid 600 and the credit of one lease counts 20: the rest at 10 a second.
    assert refused_s == pytest.approx((2400 - 600 - 20) / 10, abs=3 * LEASE_S)


def test_a_used_up_day_is_refused_at_every_gate_until_midnight_whoever_restarted():
    house = House(Quotas(joules_per_day=100), 2)
    house.poll()
    assert house.ask(0)
    house.uses = {"acme": TenantUse(energy_uj=100_000_000)}
    house.desk = QuotaDesk()  # the accountant was restarted; the books were not
    house.gates[1] = Allowances()  # so was a replica
    house.poll()
    assert not house.ask(0)
    assert not house.ask(1)
    assert "used up its 100 joules a day" in str(house.refusal)
    assert house.refusal.retry_after_s == pytest.approx(DAY_S - 3600, abs=1)
    assert house.refusal.is_spent
    house.uses, house.wall_s, house.now = {}, house.wall_s + DAY_S, house.now + DAY_S
    house.poll()
    assert house.ask(0)


def test_carbon_is_a_quota_of_its_own():
    house = House(Quotas(gco2e_per_day=2), 1)
    house.uses = {"acme": TenantUse(1, 2_000_000)}
    house.poll()
    assert not house.ask()
    assert "2 gCO2e a day" in str(house.refusal)


def test_work_that_is_not_on_the_books_yet_counts_at_the_gate_that_did_it():
    house = House(Quotas(joules_per_day=100), 2)
    house.ask(0)
    house.ask(1)
    house.poll()
    house.poll()  # by now the desk knows of both
    house.gates[0].charge("acme", 0, 49_000_000, 0.0, house.now)
    assert house.ask(0)
    house.gates[0].charge("acme", 0, 1_000_000, 0.0, house.now)
    assert not house.ask(0)  # its half of the day is used, by its own account
    assert house.refusal.retry_after_s == LEASE_S
    assert house.ask(1)
    house.now += 16  # by now it is on the books
    house.uses = {"acme": TenantUse(50_000_000)}
    house.poll()
    assert house.ask(0)


def test_the_first_request_passes_on_credit_and_silence_ends_it():
    gate, quotas = Allowances(), Quotas(joules_per_day=100)
    gate.spend("acme", quotas, 0, 0.0, DAY_BEGINS_S)
    with pytest.raises(Unavailable, match="cannot be found out"):
        gate.spend("acme", quotas, 0, 2 * LEASE_S + 1, DAY_BEGINS_S)
    gate.fill(PollAnswer(None, {"acme": Lease(energy_uj=50.0)}), 10.0)
    gate.spend("acme", quotas, 0, 11.0, DAY_BEGINS_S)
    with pytest.raises(Unavailable):
        gate.spend("acme", quotas, 0, 10.0 + 31, DAY_BEGINS_S)


def test_without_quotas_nothing_is_kept():
    gate = Allowances()
    gate.charge("acme", 5, 5, 5.0, 0.0)
    assert gate.wants(lambda _: None, 0.0) == {}


@pytest.mark.parametrize("quota", ["joules_per_day", "gco2e_per_day"])
def test_one_tenants_budget_never_touches_anothers(quota: str):
    """Whatever the spender does at every gate, its neighbour is leased what it would be leased alone, and passes."""
    quotas = {"spender": Quotas(**{quota: 10}), "neighbour": Quotas(**{quota: 10}), "free": None}
    alone, both = QuotaDesk(), QuotaDesk()
    used = {"neighbour": TenantUse(4_000_000, 4_000_000)}
    uses = used | {"spender": TenantUse(10_000_000, 10_000_000)}
    gates = [Allowances(), Allowances()]
    now, wall_s = 1000.0, DAY_BEGINS_S + 3600.0
    for number, gate in enumerate(gates):
        for tenant in ("spender", "neighbour"):
            assert quotas[tenant] is not None
            gate.spend(tenant, quotas[tenant], 0, now, wall_s)  # on credit
        wants = gate.wants(quotas.get, now)
        leases = both.lease(f"g{number}", wants, quotas.get, uses, now)
        expected = alone.lease(f"g{number}", {"neighbour": wants["neighbour"]}, quotas.get, used, now)
        assert leases["neighbour"] == expected["neighbour"]
        gate.fill(PollAnswer(None, leases, both.spent(quotas.get, uses, wall_s), 2), now)
        gate.charge("spender", 0, 50_000_000, 50_000_000, now)
    for gate in gates:
        with pytest.raises(OverQuota, match="tenant spender has used up its 10") as refused:
            gate.spend("spender", quotas["spender"], 0, now, wall_s)
        assert refused.value.retry_after_s == pytest.approx(DAY_S - 3600)
        for _ in range(20):
            gate.spend("neighbour", quotas["neighbour"], 0, now, wall_s)
