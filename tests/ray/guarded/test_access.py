"""Access on a real cluster: every route x every way of not being allowed, over every door; and open means loopback."""

import json
import time
from pathlib import Path

import grpc
import httpx
import pytest

from app.access.desk import AUDIT_FILE
from tests.fixtures.access_table import (
    BODY,
    MODEL,
    House,
    Row,
    as_markdown,
    await_status,
    code_of,
    config,
    grpc_calls,
    grpc_rows,
    http_rows,
    listening,
)
from tests.fixtures.edge import Edge
from tests.fixtures.ray_cluster import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(500)]

OPEN_HTTP = ("/healthz", "/v2/health/live", "/v2/health/ready")
OPEN_GRPC = ("ServerLive", "ServerReady", "Health/Check")
TABLE = ROOT / "docs" / "serving" / "access-table.md"


class Guarded:
    """A cluster with access required, and the table of it."""

    def __init__(self, state_dir: Path, house: House) -> None:
        self.state_dir, self.house = state_dir, house
        self.rows: list[Row] = []

    def bearer(self, column: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.house.credentials[column]}"}

    def fill(self) -> None:
        for path in (f"/v2/models/{MODEL}", "/v2"):
            await_status(f"http://127.0.0.1:8000{path}", self.bearer("good key"), 200)
        answer = httpx.post(
            f"http://127.0.0.1:8000/v2/models/{MODEL}/infer", json=BODY, headers=self.bearer("good key"), timeout=60
        )
        self.receipt_id = str(answer.headers["x-joulekeeper-receipt_id"])
        receipt = f"http://127.0.0.1:8000/api/receipts/{self.receipt_id}"
        await_status(receipt, self.bearer("good key"), 200)
        self.rows += http_rows("Serve's door, HTTP 8000", "http://127.0.0.1:8000", self.house, self.receipt_id)
        for port in listening(range(30_000, 30_010)):
            url = f"http://127.0.0.1:{port}"
            is_model = (
                httpx.get(f"{url}/v2/models/{MODEL}", headers=self.bearer("admin"), timeout=60).status_code == 200
            )
            who = "model" if is_model else "console"

            def wanted(path: str, is_model: bool = is_model) -> bool:
                return path.startswith(f"/v2/models/{MODEL}") == is_model

            self.rows += http_rows(f"Direct port of the {who}, HTTP 30000+", url, self.house, self.receipt_id, wanted)
        self.rows += http_rows("Fallback proxy, HTTP 8500", "http://127.0.0.1:8500", self.house, self.receipt_id)
        for application in ("console", MODEL):
            for door, port in (("Serve's door, gRPC 9000", 9000), ("Fallback proxy, gRPC 9500", 9500)):
                self.rows += grpc_rows(door, grpc.insecure_channel(f"127.0.0.1:{port}"), self.house, application)
        for port in listening(range(40_000, 40_010)):
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                index = grpc_calls(channel)["RepositoryIndex"]
                told = code_of(index, [("x-api-key", str(self.house.credentials["admin"]))])
            application = "console" if told == "OK" else MODEL
            direct = grpc.insecure_channel(f"127.0.0.1:{port}")
            self.rows += grpc_rows("Direct ports, gRPC 40000+", direct, self.house, application)
        self._fill_edge()

    def _fill_edge(self) -> None:
        state_dir = self.state_dir / "edge"
        state_dir.mkdir()
        with Edge(state_dir) as edge:
            edge.await_models(MODEL)
            secure = edge.trust()
            self.rows += http_rows("The edge, HTTPS 8443", edge.url, self.house, self.receipt_id, verify=secure)
            channel = grpc.secure_channel(edge.grpc, edge.credentials())
            self.rows += grpc_rows("The edge, gRPC over TLS 9443", channel, self.house, "")


@pytest.fixture(scope="module")
def guarded(running, state, house):
    guarded = Guarded(state, house)
    running.deploy(config())
    guarded.fill()
    return guarded


def test_only_health_answers_without_a_good_credential(guarded):
    seen = set()
    for row in guarded.rows:
        is_grpc = not row.route.startswith(("GET ", "POST "))
        route = row.route.split(" ")[0] if is_grpc else row.route.partition(" ")[2]
        seen.add(row.door)
        if route in (*OPEN_HTTP, *OPEN_GRPC):
            assert set(row.given.values()) <= {"200", "OK"}, row
            continue
        for column in ("no key", "wrong key", "expired token", "forged token"):
            assert row.given[column] in ("401", "UNAUTHENTICATED"), (row, column)
        assert (
            row.given["over quota"] in ("429", "RESOURCE_EXHAUSTED", "403", "PERMISSION_DENIED")
            or ("Model" in row.route and row.given["over quota"] in ("OK", "NOT_FOUND"))
            or row.route.startswith(("ServerMetadata", "RepositoryIndex"))
        ), row
        assert row.given["good key"] == row.given["good token"], row
    assert len(seen) >= 8, seen


def test_scopes_and_tenants_decide(guarded):
    given = {(row.door, row.route): row.given for row in guarded.rows}
    door = "Serve's door, HTTP 8000"
    infer = given[door, f"POST /v2/models/{MODEL}/infer"]
    assert (infer["good key"], infer["admin"], infer["wrong scope"], infer["over quota"]) == (
        "200",
        "200",
        "403",
        "429",
    )
    receipt = given[door, "GET /api/receipts/ID"]
    assert (receipt["good key"], receipt["admin"], receipt["wrong tenant"]) == ("200", "200", "404")
    assert receipt["wrong scope"] == "403"
    assert given[door, "GET /metrics"]["wrong scope"] == "403"
    load = given[door, f"POST /v2/repository/models/{MODEL}/load"]
    assert (load["good key"], load["admin"]) == ("403", "200")
    stream = given["Serve's door, gRPC 9000", f"ModelStreamInfer ({MODEL})"]
    assert (stream["good key"], stream["no key"], stream["wrong scope"]) == (
        "OK",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    )


def test_refusals_say_what_to_do(guarded):
    url = f"http://127.0.0.1:8000/v2/models/{MODEL}/infer"
    stranger = httpx.post(url, json=BODY)
    assert stranger.headers["www-authenticate"].startswith("Bearer")
    assert "authorization: Bearer" in stranger.json()["error"]
    spent = httpx.post(url, json=BODY, headers=guarded.bearer("over quota"))
    assert spent.status_code == 429
    assert int(spent.headers["retry-after"]) >= 1
    browser = httpx.get("http://127.0.0.1:8000/console")
    assert browser.headers["www-authenticate"].startswith("Basic")
    key = str(guarded.house.credentials["good key"])
    assert httpx.get("http://127.0.0.1:8000/console", auth=("me", key)).status_code == 200
    assert httpx.post("http://127.0.0.1:8000/v2/repository/index", auth=("me", key)).status_code == 401


def test_a_tenant_sees_its_own_figures_alone(guarded):
    def tenants(column: str) -> set[str]:
        report = httpx.get("http://127.0.0.1:8000/api/report?by=tenant", headers=guarded.bearer(column), timeout=60)
        return {row["group"]["tenant"] for row in report.json()["rows"]}

    assert tenants("good key") == {"acme"}
    assert {"acme", "rival"} <= tenants("admin")
    theirs = httpx.get("http://127.0.0.1:8000/metrics", headers=guarded.bearer("wrong tenant"), timeout=60).text
    assert "acme" not in theirs
    assert 'tenant="acme"' in httpx.get("http://127.0.0.1:8000/metrics", headers=guarded.bearer("admin")).text


def test_a_revoked_key_is_refused_within_seconds(guarded):
    from app.access.desk import KEYS_FILE
    from app.access.keys import KeyFile

    file = KeyFile(guarded.state_dir / "access" / KEYS_FILE)
    record, key = file.create("acme", [f"infer:{MODEL}"], time.time())
    headers, url = {"x-api-key": key}, f"http://127.0.0.1:8000/v2/models/{MODEL}"
    await_status(url, headers, 200)
    file.revoke(record.id, time.time())
    await_status(url, headers, 401)


def test_every_decision_is_in_the_audit_log_and_no_key_in_any_log(guarded):
    audit = guarded.state_dir / "access" / AUDIT_FILE
    entries = [json.loads(line) for line in audit.read_text().splitlines()]
    assert {"allowed", "refused"} <= {entry["decision"] for entry in entries}
    good = str(guarded.house.credentials["good key"])
    assert any(entry["who"] == good[3:15] and entry["tenant"] == "acme" for entry in entries)
    assert any(entry["route"] == "ModelInfer" for entry in entries)
    logs = [path for path in Path("/tmp/ray/session_latest/logs").resolve().rglob("*") if path.is_file()]
    logs += [audit, guarded.state_dir / "ray-head.log", guarded.state_dir / "edge" / "edge.log"]
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [secret for secret in guarded.house.secrets() if secret in text], path


def test_the_table_in_the_documentation_is_what_this_cluster_gave(guarded):
    # Which of the direct ports is the model's depends on who started first.
    found = as_markdown(guarded.rows).splitlines()
    written = TABLE.read_text().splitlines() if TABLE.exists() else []
    assert [line for line in found if line not in written] == [], "run scripts/access_table.py"
    assert len(found) <= len(written)
