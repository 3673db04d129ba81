"""The console as a plain ASGI application, over fakes that implement its protocols."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.console import page
from app.console.api import build_api
from app.console.catalogue import DeployedModel
from app.console.forward import ServeDoor
from app.console.repository import Repository
from app.engine.views import DeviceStatus, NodeStatus, Receipt, Receipts, Report, ReportKey, ReportRow, Status
from app.errors import NotFound, Unavailable
from app.metering.access_feed import open_gate

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECEIPT_ID = "0123456789abcdef-0000000000000001"


class FakeBooks:
    """Books with one model, one device and one receipt; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.gone = False

    async def areport(
        self, by: ReportKey, since_s: float | None = None, until_s: float | None = None, tenant: str | None = None
    ) -> Report:
        self.asked.append((by, since_s, until_s) if tenant is None else (by, since_s, until_s, tenant))
        row = ReportRow(
            group={by: "minilm"},
            energy_uj=10,
            carbon_ugco2e=1,
            share=1.0,
            by_grade_uj={"counter": 10},
            uncertainty_uj=0,
        )
        return Report(
            by=by,
            since_s=since_s,
            until_s=until_s or 0.0,
            zone="world",
            intensity_g_per_kwh=480.0,
            intensity_source="test",
            pue=1.0,
            energy_uj=10,
            carbon_ugco2e=1,
            rows=(row,),
            energy_utilisation=1.0,
        )

    async def areceipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        self.asked.append((receipt_id, settle_timeout_s))
        if receipt_id != RECEIPT_ID:
            raise NotFound(f"no receipt {receipt_id!r}")
        return Receipt(
            receipt_id=receipt_id,
            account="request",
            tenant="",
            model="minilm",
            version="1",
            job="",
            node="n1",
            energy_uj=10,
            carbon_ugco2e=1,
            grade="counter",
            provisional=False,
            load_share_uj=4,
            warm_share_uj=2,
            shares_final=True,
            duration_ns=5,
            wall_time_s=1.0,
        )

    async def areceipts(self, receipt_ids: Sequence[str]) -> Receipts:
        found, missing = [], {}
        for receipt_id in receipt_ids:
            try:
                found.append(await self.areceipt(receipt_id))
            except NotFound as error:
                missing[receipt_id] = str(error)
        return Receipts(receipts=tuple(found), missing=missing)

    async def astatus(self) -> Status:
        if self.gone:
            raise Unavailable("no accountant")
        device = DeviceStatus(
            node="n1",
            device_key="m/b/GPU-1",
            kind="gpu",
            name="H100",
            grade="counter",
            power_mw=70_000,
            utilization=0.5,
            memory_used_bytes=None,
            memory_total_bytes=None,
            temperature_c=None,
            energy_uj=10,
        )
        node = NodeStatus(node="n1", metered=True, last_heard_s=0.1, residents=("minilm@1",))
        return Status(nodes=(node,), devices=(device,), by_account_uj={"request": 10}, warnings=())

    async def aprometheus(self) -> str:
        return "# TYPE joulekeeper_energy_joules_total counter\njoulekeeper_energy_joules_total 1.0\n"


class FakeCatalogue:
    """A catalogue with one model, or none that answers."""

    def __init__(self) -> None:
        self.gone = False

    async def models(self) -> tuple[DeployedModel, ...]:
        if self.gone:
            raise Unavailable("controller gone")
        return (DeployedModel("minilm", "/v2/models/minilm", "RUNNING", 1_790_000_000.5),)


@pytest.fixture
def books() -> FakeBooks:
    return FakeBooks()


@pytest.fixture
def catalogue() -> FakeCatalogue:
    return FakeCatalogue()


class FakeSleepers:
    """Remembers who was woken and who put to sleep."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def wake(self, application: str) -> None:
        self.asked.append(("wake", application))

    async def let_sleep(self, application: str) -> None:
        self.asked.append(("let_sleep", application))


@pytest.fixture
def sleepers() -> FakeSleepers:
    return FakeSleepers()


async def nowhere() -> str:
    raise AssertionError("nothing is passed on here")


@pytest.fixture
def client(books: FakeBooks, catalogue: FakeCatalogue, sleepers: FakeSleepers) -> Iterator[TestClient]:
    with TestClient(
        build_api(
            books,
            catalogue,
            Repository(catalogue, sleepers),
            lambda: NOON,
            open_gate("console", "default"),
            ServeDoor(nowhere),
        ),
        raise_server_exceptions=False,
        client=("127.0.0.1", 4711),
    ) as client:
        yield client


def test_the_root_leads_to_the_console(client: TestClient) -> None:
    answer = client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/console")


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    html = client.get("/console")
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in html.headers["content-security-policy"]
    assert '<html lang="en">' in html.text
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', html.text)
    assert {"/console/console.css", "/console/console.js"} <= set(loaded)
    assert all(path.startswith(("/", "data:")) for path in loaded)
    for path in loaded:
        if path.startswith("/console/"):
            assert client.get(path).status_code == 200


def test_the_script_writes_text_never_markup_and_finds_every_element() -> None:
    pages = Path(page.__file__).parent / "pages"
    script, html = (pages / "console.js").read_text(), (pages / "console.html").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    used = set(re.findall(r'(?:byId|fill)\("(\w+)"', script))
    assert used <= set(re.findall(r'id="([\w-]+)"', html))
    assert {"/api/status", "/v1/models"} <= set(re.findall(r'get\("([^"?]+)', script))


def test_prometheus_gets_its_content_type(client: TestClient) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("1.0\n")


def test_status_is_the_view(client: TestClient) -> None:
    status = Status.model_validate(client.get("/api/status").json())
    assert status.devices[0].power_mw == 70_000


def test_books_that_do_not_answer_are_a_503(client: TestClient, books: FakeBooks) -> None:
    books.gone = True
    answer = client.get("/api/status")
    assert (answer.status_code, answer.json()) == (503, {"error": "no accountant"})
    assert answer.headers["retry-after"] == "1"
    assert client.get("/healthz").json() == {"ok": True}


def test_a_report_takes_a_period_as_people_write_it(client: TestClient, books: FakeBooks) -> None:
    answer = client.get("/api/report", params={"by": "model", "since": "1h"})
    assert Report.model_validate(answer.json()).rows[0].group == {"model": "minilm"}
    assert books.asked == [("model", NOON.timestamp() - 3600, None)]


def test_a_report_comes_as_csv(client: TestClient) -> None:
    answer = client.get("/api/report?by=tenant&format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["tenant"], row["energy_uj"]) == ("minilm", "10")


@pytest.mark.parametrize("query", ["by=colour", "since=soon", "format=xml", "since=1h&until=2h"])
def test_a_wrong_report_is_a_400_that_says_what(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/report?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.json()["error"] or "soon" in answer.json()["error"]


def test_a_receipt_may_be_waited_for(client: TestClient, books: FakeBooks) -> None:
    answer = client.get(f"/api/receipts/{RECEIPT_ID}?wait=2.5")
    assert answer.json()["energy_uj"] == 10
    assert books.asked == [(RECEIPT_ID, 2.5)]
    assert client.get(f"/api/receipts/{RECEIPT_ID}?wait=-1").status_code == 400
    assert client.get(f"/api/receipts/{RECEIPT_ID}?wait=nan").status_code == 400


def test_many_receipts_are_asked_for_at_once(client: TestClient, books: FakeBooks) -> None:
    answer = client.post("/api/receipts", json={"ids": [RECEIPT_ID, "nope"]}).json()
    assert [receipt["load_share_uj"] for receipt in answer["receipts"]] == [4]
    assert answer["missing"] == {"nope": "no receipt 'nope'"}


@pytest.mark.parametrize("ids", [[], ["x"] * 1001, "x", None], ids=["none", "too many", "no list", "null"])
def test_a_wrong_number_of_receipts_is_refused(client: TestClient, ids: object) -> None:
    assert client.post("/api/receipts", json={"ids": ids}).status_code == 400


def test_an_unknown_receipt_is_a_404(client: TestClient) -> None:
    answer = client.get("/api/receipts/nope")
    assert (answer.status_code, answer.json()) == (404, {"error": "no receipt 'nope'"})


def test_the_server_level_of_open_inference(client: TestClient, catalogue: FakeCatalogue) -> None:
    metadata = client.get("/v2").json()
    assert (metadata["name"], metadata["extensions"][0]) == ("joulekeeper", "binary_tensor_data")
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    catalogue.gone = True
    answer = client.get("/v2/health/ready")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)


@pytest.mark.parametrize("path", ["/v2/models/nope", "/v2/models/nope/infer", "/v2/models/nope/versions/2/ready"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_model_is_a_404_that_names_the_known_ones(client: TestClient, path: str, method: str) -> None:
    answer = client.request(method, path, content=b"not even JSON")
    assert answer.status_code == 404
    assert answer.json() == {"error": "no model 'nope'; deployed: 'minilm'"}


def test_a_model_that_serve_does_not_route_to_yet_is_a_503(client: TestClient) -> None:
    assert client.post("/v2/models/minilm/infer").status_code == 503


def test_models_in_the_shape_of_openai(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert listed["data"] == [
        {"id": "minilm", "object": "model", "created": 1_790_000_000, "owned_by": "joulekeeper"}
        | {"joulekeeper": {"state": "UNAVAILABLE"}}
    ]


def test_an_unknown_path_is_a_404_in_json_that_names_the_doors(client: TestClient) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "/nowhere" in answer.json()["error"]
    assert "/api/report" in answer.json()["error"]


def test_a_wrong_method_is_a_405_in_json(client: TestClient) -> None:
    answer = client.delete("/api/status")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert "DELETE" in answer.json()["error"]


def test_an_error_nobody_foresaw_is_a_500_without_its_secrets(client: TestClient, books: FakeBooks) -> None:
    books.aprometheus = None  # type: ignore[assignment, method-assign]
    answer = client.get("/metrics")
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal error (TypeError); the console's log has the details"}
