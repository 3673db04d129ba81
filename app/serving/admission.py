"""The gate as the doors of one model use it: who asks, by HTTP or gRPC, and what his answer took.

Knows nothing of keys or quotas: app/access/gate.py decides. With access open nothing is read but the caller's address.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from app.access.gate import Caller, Gate, credential
from app.access.scopes import infer_scope
from app.domain.account import Account
from app.serving.receipts import Receipt
from app.serving.steered import is_steered

if TYPE_CHECKING:
    from app.engine.purse import Purse
    from app.metering.client import OpenSlice, PhaseWork, WorkClient

_MAX_ROUTE_CHARS = 100


class Admission:
    """Of one model."""

    def __init__(self, gate: Gate, model: str, version: str = "", purse: "Purse | None" = None) -> None:
        """`purse`: what the deployment may still spend, of which `version` takes its answers; None: without bound."""
        self._gate, self._scope = gate, infer_scope(model)
        self._version, self._purse = version, purse

    @property
    def is_spent(self) -> bool:
        """Whether the deployment's budget refuses everybody until its day ends."""
        return self._purse is not None and self._purse.is_spent

    def of_http(self, scope: Mapping[str, Any], requests: int = 1) -> Caller:
        """Who sent this HTTP request, before its body is read; `requests` 0: it will be asked again, and counted then.

        Raises what Gate.admit raises, and OverQuota where the deployment's budget is spent.
        """
        caller = self._of_http(scope, requests)
        if self._purse and requests and scope["method"] == "POST":
            self._purse.check()
        return caller

    def _of_http(self, scope: Mapping[str, Any], requests: int) -> Caller:
        client = scope.get("client")
        peer = client[0] if client else ""
        if self._gate.is_open:
            return self._gate.admit(None, self._scope, peer=peer)
        route = f"{scope['method']} {scope['path']}"[:_MAX_ROUTE_CHARS]
        return self._gate.admit(credential(scope["headers"]), self._scope, peer=peer, route=route, requests=requests)

    def of_grpc(self, grpc_context: Any, method: str, requests: int = 1) -> Caller:
        """Who makes this call; `requests` 0: one that only asks about the model. Raises as `of_http`."""
        caller = self._of_grpc(grpc_context, method, requests)
        if self._purse and requests:
            self._purse.check()
        return caller

    def _of_grpc(self, grpc_context: Any, method: str, requests: int) -> Caller:
        peer = grpc_context.peer()
        if self._gate.is_open:
            return self._gate.admit(None, self._scope, peer=peer)
        known_by = credential(grpc_context.invocation_metadata())
        return self._gate.admit(known_by, self._scope, peer=peer, route=method, requests=requests)

    def charge(self, caller: Caller, receipt: Receipt) -> None:
        """Count what an answer took by its receipt."""
        energy_uj, carbon_ug = int(receipt.get("energy_uj", 0)), int(receipt.get("carbon_ugco2e", 0))
        if self._purse:
            self._purse.charge(self._version, energy_uj, carbon_ug, is_steered.get())
        if not self._gate.is_open:
            self._gate.charge(caller.tenant, energy_uj, carbon_ug)

    def counted(self, client: "WorkClient") -> "WorkClient":
        """`client`, counting the units of work of every tenant against its quota."""
        return client if self._gate.is_open else cast("WorkClient", _CountedClient(client, self._gate))


class _CountedClient:
    """A client of the books whose slices count as tokens."""

    def __init__(self, client: "WorkClient", gate: Gate) -> None:
        self._client, self._gate = client, gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def mark(self) -> int | None:
        return self._client.mark()  # every request asks for it, and `__getattr__` takes its time

    def begin(self, account: Account, weight: float = 1.0, part: int = 0, since: int | None = None) -> "OpenSlice":
        self._gate.charge(account.tenant, 0, 0.0, weight)
        return self._client.begin(account, weight, part, since)

    def done(self, account: Account, weight: float, since: int | None) -> "OpenSlice":
        self._gate.charge(account.tenant, 0, 0.0, weight)
        return self._client.done(account, weight, since)

    def begin_together(self, shared: Sequence[tuple[Account, float]], since: Any) -> Any:
        self._count(shared)
        return self._client.begin_together(shared, since)

    def record(
        self, shared: Sequence[tuple[Account, float]], start_ns: int, end_ns: int, part: int = 0
    ) -> "list[OpenSlice]":
        self._count(shared)
        return self._client.record(shared, start_ns, end_ns, part)

    def record_steps(self, start_ns: int, end_ns: int, done: "Sequence[PhaseWork]", device_mw: float) -> float:
        self._count([(each.work.account, each.prompt_tokens + each.new_tokens) for each in done])
        return self._client.record_steps(start_ns, end_ns, done, device_mw)

    def _count(self, shared: Iterable[tuple[Account, float]]) -> None:
        """Charge each tenant once: a step works for many requests of a few."""
        tokens: dict[str, float] = {}
        for account, weight in shared:
            tokens[account.tenant] = tokens.get(account.tenant, 0.0) + weight
        for tenant, each in tokens.items():
            self._gate.charge(tenant, 0, 0.0, each)
