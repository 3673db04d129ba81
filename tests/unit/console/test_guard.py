"""Who may ask the console what: every path takes something, health alone nothing, and a tenant sees its own."""

import base64
import inspect
import math
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.access.gate import Gate
from app.access.keys import digest_of_key, new_key
from app.access.snapshot import AccessSnapshot, KeyGrant, PollAnswer
from app.clock import ManualClock
from app.console.api import build_api
from app.console.catalogue import DeployedModel
from app.console.forward import ServeDoor
from app.console.grpc import ServerCalls
from app.console.guard import OPEN_METHODS, OPEN_PATHS, scope_of_path
from app.console.own_figures import own_figures
from app.console.period import local_now
from app.console.repository import Repository
from app.engine.views import Receipt, Receipts
from app.errors import NotFound, Unavailable


class Books:
    """Two receipts, of two tenants; reports come back as they were asked for."""

    def __init__(self) -> None:
        self.tenants: list[str | None] = []

    async def areport(self, by: str, since_s: Any, until_s: Any, tenant: str | None = None) -> Any:
        self.tenants.append(tenant)
        raise NotFound("no report here")

    async def areceipt(self, receipt_id: str, wait_s: float = 0) -> Receipt:
        return receipt(receipt_id)

    async def areceipts(self, ids: list[str]) -> Receipts:
        return Receipts(receipts=tuple(map(receipt, ids)), missing={})

    async def aprometheus(self) -> str:
        return '# HELP x\nx_total{model="m",joulekeeper_tenant="acme"} 1\nx_total{tenant="rival"} 2\ny 3\n'


def receipt(receipt_id: str) -> Receipt:
    labels = {"account": "request", "model": "m", "version": "1", "job": "", "node": "n", "grade": "counter"}
    numbers = dict.fromkeys(("energy_uj", "carbon_ugco2e", "load_share_uj", "warm_share_uj", "duration_ns"), 1)
    tenant = receipt_id.partition("-")[0]
    return Receipt(
        receipt_id=receipt_id, tenant=tenant, provisional=False, shares_final=True, wall_time_s=1.0, **labels, **numbers
    )


class Catalogue:
    async def models(self) -> tuple[DeployedModel, ...]:
        return ()


class Sleepers:
    async def wake(self, application: str) -> None:
        raise AssertionError

    async def let_sleep(self, application: str) -> None:
        raise AssertionError


async def nowhere() -> str:
    raise Unavailable("nothing is passed on here")


class Site:
    def __init__(self) -> None:
        self.gate = Gate.required(ManualClock())
        self.keys, grants = {}, {}
        for name, tenant, scopes in (
            ("reader", "acme", {"read:report"}),
            ("user", "acme", {"infer:m"}),
            ("root", "operator", {"admin"}),
        ):
            key_id, self.keys[name] = new_key()
            grants[key_id] = KeyGrant(digest_of_key(self.keys[name]), tenant, frozenset(scopes), math.inf)
        self.gate.renew(PollAnswer(AccessSnapshot("one", grants)))
        self.books, catalogue = Books(), Catalogue()
        repository = Repository(catalogue, Sleepers())
        door = ServeDoor(nowhere)
        api = build_api(self.books, catalogue, repository, lambda: local_now(ManualClock()), self.gate, door)
        self.http = TestClient(api, raise_server_exceptions=False)
        self.paths = sorted(
            (path, method.upper()) for path, methods in api.openapi()["paths"].items() for method in methods
        )
        self.grpc = ServerCalls()
        self.grpc.gate, self.grpc.catalogue, self.grpc.repository = self.gate, catalogue, repository

    def ask(self, path: str, key: str = "", method: str = "GET", **more: Any) -> Any:
        headers = {"authorization": f"Bearer {self.keys.get(key, key)}"} if key else {}
        return self.http.request(method, path, headers=headers, **more)


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


def test_every_documented_route_but_health_takes_a_known_caller(site: Site):
    assert len(site.paths) >= 12
    for path, method in [*site.paths, ("/", "GET"), ("/console", "GET"), ("/nowhere", "GET"), ("/openapi.json", "GET")]:
        for key in ("", new_key()[1], "sesame"):
            status = site.ask(path, key, method).status_code
            assert (status == 200) if path in OPEN_PATHS else (status == 401), (path, method, key)


def test_every_grpc_method_but_health_takes_a_known_caller(site: Site):
    import asyncio

    import grpc

    class Context:
        code = None

        def invocation_metadata(self) -> list[tuple[str, str]]:
            return [("application", "console")]

        def peer(self) -> str:
            return "ipv4:127.0.0.1:1"

        def set_code(self, code: Any) -> None:
            self.code = code

        def set_details(self, details: str) -> None: ...
        def details(self) -> str:
            return "no"

        def set_trailing_metadata(self, metadata: Any) -> None: ...

    from app.protocol.generated import open_inference_pb2 as pb

    methods = [name for name in vars(ServerCalls) if name[0].isupper() and name not in OPEN_METHODS]
    assert len(methods) >= 9
    for name in methods:
        context, request = Context(), getattr(pb, f"{name.replace('Stream', '')}Request")()
        call = getattr(site.grpc, name)
        if inspect.isasyncgenfunction(call):

            async def one(request: Any = request) -> Any:
                yield request

            async def drain(call: Any = call, context: Any = context) -> None:
                async for _ in call(one(), context):
                    pass

            asyncio.run(drain())
        else:
            asyncio.run(call(request, context))
        assert context.code is grpc.StatusCode.UNAUTHENTICATED, name


def test_paths_take_what_they_are_about():
    taken = {
        "/metrics": "read:report",
        "/api/report": "read:report",
        "/api/receipts/x": "read:report",
        "/v2/repository/models/m/load": "admin",
        "/v2/repository/index": "",
        "/v2/models/m/infer": "infer:m",
        "/v2/models/m": "infer:m",
        "//v2/models/m": "infer:m",
        "/v2": "",
        "/api": "read:report",
    }
    assert {path: scope_of_path(path) for path in taken} == taken


def test_scopes_decide(site: Site):
    assert site.ask("/metrics", "user").status_code == 403
    assert site.ask("/metrics", "reader").status_code == 200
    assert site.ask("/v2", "user").status_code == 200
    assert site.ask("/v2/repository/models/m/load", "reader", "POST").status_code == 403
    assert site.ask("/v2/repository/models/m/load", "root", "POST").status_code == 404
    assert site.ask("/v2/models/m", "user").status_code == 404
    assert site.ask("/v2/models/other", "user").status_code == 403


def test_a_tenant_reads_its_own_receipts_reports_and_figures(site: Site):
    assert site.ask("/api/receipts/acme-1", "reader").status_code == 200
    hidden = site.ask("/api/receipts/rival-1", "reader")
    assert (hidden.status_code, hidden.json()) == (404, {"error": "receipt rival-1: tenant acme has none of this id"})
    assert site.ask("/api/receipts/rival-1", "root").status_code == 200
    told = site.ask("/api/receipts", "reader", "POST", json={"ids": ["acme-1", "rival-2"]}).json()
    assert [each["receipt_id"] for each in told["receipts"]] == ["acme-1"]
    assert list(told["missing"]) == ["rival-2"]
    site.books.tenants.clear()
    site.ask("/api/report", "reader")
    site.ask("/api/report", "root")
    assert site.books.tenants == ["acme", None]
    assert site.ask("/metrics", "reader").text == '# HELP x\nx_total{model="m",joulekeeper_tenant="acme"} 1\ny 3\n'
    assert "rival" in site.ask("/metrics", "root").text


def test_a_browser_may_send_the_key_as_a_password_to_read_and_for_nothing_else(site: Site):
    asked = site.ask("/console")
    assert asked.headers["www-authenticate"].startswith("Basic realm=")
    word = base64.b64encode(f"me:{site.keys['root']}".encode()).decode()
    basic = {"authorization": f"Basic {word}"}
    assert site.http.get("/console", headers=basic).status_code == 200
    refused = site.http.post("/v2/repository/models/m/load", headers=basic)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="joulekeeper"'
    assert site.http.get("/console", headers={"authorization": "Basic %%%"}).status_code == 401


def test_figures_whose_tenant_cannot_be_read_are_left_out():
    assert own_figures('x{tenant="a\\"cme"} 1\nx{tenant=""} 2\n', "acme") == 'x{tenant=""} 2\n'
