"""The batch endpoint as a client finds it: OpenAI's objects, scopes and tenants respected, faults in OpenAI's shape."""

import asyncio
import json
import math
from datetime import UTC, datetime

import httpx
import pytest
from fastapi.testclient import TestClient

from app.access.gate import Gate
from app.access.keys import digest_of_key, new_key
from app.access.snapshot import AccessSnapshot, KeyGrant, PollAnswer
from app.carbon.intensity import ConstantSeries, LocationAverage
from app.clock import ManualClock
from app.console.api import build_api
from app.console.batches.api import batches_router
from app.console.batches.records import Answered, Pending
from app.console.batches.sending import Later, Sender
from app.console.batches.store import BatchStore
from app.console.batches.telling import BatchTeller
from app.console.catalogue import DeployedModel
from app.console.forward import ServeDoor
from app.console.repository import Repository

URL = "/v1/embeddings"


def lines(count=2, model="minilm"):
    return "\n".join(
        json.dumps({"custom_id": f"c{n}", "method": "POST", "url": URL, "body": {"model": model, "input": "x"}})
        for n in range(count)
    ).encode()


class Catalogue:
    async def models(self):
        return (DeployedModel("minilm", "/v2/models/minilm", "RUNNING", 1.0),)


class Site:
    def __init__(self, path):
        self.gate, self.keys, grants = Gate.required(ManualClock()), {}, {}
        for name, tenant, scope in (
            ("user", "acme", "infer:minilm"),
            ("rival", "rival", "infer:*"),
            ("reader", "acme", "read:report"),
            ("root", "operator", "admin"),
        ):
            key_id, self.keys[name] = new_key()
            grants[key_id] = KeyGrant(digest_of_key(self.keys[name]), tenant, frozenset({scope}), math.inf)
        self.gate.renew(PollAnswer(AccessSnapshot("one", grants)))
        self.store, catalogue = BatchStore(path), Catalogue()
        series = ConstantSeries(LocationAverage(300.0, "X", "a table"))
        teller = BatchTeller(self.store, lambda: series, lambda batch_id: [], lanes=2, pue=1.0)
        router = batches_router(self.store, teller, self.gate, lambda: datetime.fromtimestamp(1_800_000_000, UTC))
        api = build_api(None, catalogue, Repository(catalogue, None), None, self.gate, ServeDoor(None), router)
        self.http = TestClient(api, raise_server_exceptions=False)

    def ask(self, method, path, key="user", **more):
        return self.http.request(method, path, headers={"authorization": f"Bearer {self.keys[key]}"}, **more)

    def upload(self, content=None, key="user", purpose="batch"):
        files = {"file": ("requests.jsonl", lines() if content is None else content)}
        return self.ask("POST", "/v1/files", key, data={"purpose": purpose}, files=files)

    def submit(self, key="user", content=None, **changes):
        file_id = self.upload(content, key).json()["id"]
        return self.ask("POST", "/v1/batches", key, json={"input_file_id": file_id, "endpoint": URL} | changes)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "batches.sqlite")
    with site.http:
        yield site
    site.store.close()


def test_a_file_is_kept_told_and_deleted(site):
    sent = site.upload().json()
    assert (sent["object"], sent["filename"], sent["purpose"], sent["bytes"]) == (
        "file", "requests.jsonl", "batch", len(lines()),
    )  # fmt: skip
    assert site.ask("GET", f"/v1/files/{sent['id']}").json() == sent
    assert site.ask("GET", "/v1/files").json()["data"] == [sent]
    assert site.ask("GET", f"/v1/files/{sent['id']}/content").content == lines()
    assert site.ask("DELETE", f"/v1/files/{sent['id']}").json()["deleted"]
    assert site.ask("GET", f"/v1/files/{sent['id']}").status_code == 404


def test_a_batch_is_told_as_openai_tells_it(site):
    told = site.submit(completion_window="6h", metadata={"who": "me"}).json()
    assert (told["object"], told["status"], told["completion_window"]) == ("batch", "in_progress", "6h")
    assert told["expires_at"] - told["created_at"] == 6 * 3600
    assert told["request_counts"] == {"total": 2, "completed": 0, "failed": 0}
    assert (told["metadata"], told["output_file_id"], told["errors"]) == ({"who": "me"}, None, None)
    assert told["joulekeeper"]["state"] == "waiting"
    assert site.ask("GET", f"/v1/batches/{told['id']}").json() == told
    assert [each["id"] for each in site.ask("GET", "/v1/batches").json()["data"]] == [told["id"]]


def test_results_are_files_once_it_is_over(site):
    batch_id = site.submit().json()["id"]
    early = site.ask("GET", f"/v1/files/file-out-{batch_id.removeprefix('batch_')}/content")
    assert (early.status_code, "not there yet" in early.json()["error"]["message"]) == (404, True)
    good = Answered(batch_id, 1, 200, b'{"data": [1]}', "r1", 3_600_000, 9, "counter", False, 1_800_000_060.0, 1.0)
    site.store.keep_answers([good])
    site.store.give_up(batch_id, "batch_expired", 1_800_000_070.0)
    site.store.change(batch_id, state="expired", ended_s=1_800_000_080.0)
    told = site.ask("GET", f"/v1/batches/{batch_id}").json()
    assert (told["status"], told["expired_at"], told["completed_at"]) == ("expired", 1_800_000_080, None)
    # 3.6 J at 300 g/kWh are 300 micrograms, at any hour
    ours = told["joulekeeper"]
    assert (ours["energy_uj"], ours["carbon_ugco2e"], ours["at_once_ugco2e"], ours["saved_ugco2e"]) == (
        3_600_000, 300, 300, 0,
    )  # fmt: skip
    content = site.ask("GET", f"/v1/files/{told['output_file_id']}/content").text
    (line,) = map(json.loads, content.splitlines())
    assert (line["custom_id"], line["response"]["body"], line["joulekeeper"]["receipt_id"]) == (
        "c0",
        {"data": [1]},
        "r1",
    )
    (error,) = map(json.loads, site.ask("GET", f"/v1/files/{told['error_file_id']}/content").text.splitlines())
    assert (error["custom_id"], error["error"]["code"]) == ("c1", "batch_expired")
    shown = site.ask("GET", f"/v1/files/{told['output_file_id']}").json()
    assert (shown["bytes"], shown["purpose"]) == (len(content), "batch_output")


def test_each_model_of_a_batch_takes_its_scope(site):
    for key, model in (("user", "pycoder"), ("reader", "minilm")):
        refused = site.submit(key, lines(model=model))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert site.store.batches() == []
    assert site.submit("user", lines(model="minilm@2")).status_code == 200


def test_a_tenant_sees_its_own_and_an_admin_all(site):
    batch_id = site.submit().json()["id"]
    file_id = site.ask("GET", "/v1/files").json()["data"][0]["id"]
    for path in (f"/v1/batches/{batch_id}", f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        assert site.ask("GET", path, "rival").status_code == 404
        assert site.ask("GET", path, "root").status_code == 200
    assert site.ask("POST", f"/v1/batches/{batch_id}/cancel", "rival").status_code == 404
    stolen = site.ask("POST", "/v1/batches", "rival", json={"input_file_id": file_id, "endpoint": URL})
    assert (stolen.status_code, stolen.json()["error"]["code"]) == (400, "file_not_found")
    assert site.ask("GET", "/v1/batches", "rival").json()["data"] == []


def test_cancelling(site):
    batch_id = site.submit().json()["id"]
    assert site.ask("POST", f"/v1/batches/{batch_id}/cancel").json()["status"] == "cancelling"
    site.store.change(batch_id, state="cancelled", ended_s=1.0)
    again = site.ask("POST", f"/v1/batches/{batch_id}/cancel")
    assert (again.status_code, "is cancelled" in again.json()["error"]["message"]) == (400, True)


def test_pages_of_batches(site):
    made = {site.submit().json()["id"] for _ in range(3)}
    first = site.ask("GET", "/v1/batches?limit=2").json()
    second = site.ask("GET", f"/v1/batches?limit=2&after={first['last_id']}").json()
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert {each["id"] for each in (*first["data"], *second["data"])} == made
    assert site.ask("GET", "/v1/batches?after=nothing").status_code == 400


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [(b"", 400, "no requests"), (b"{}", 400, "line 1: custom_id is missing"), (lines() + b"\n{", 400, "line 3")],
)
def test_a_file_that_is_no_batch_is_refused(site, content, status, told):
    answer = site.submit(content=content)
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]


def test_an_upload_that_is_none_is_refused(site):
    assert "purpose must be 'batch'" in site.upload(purpose="fine-tune").json()["error"]["message"]
    missing = site.ask("POST", "/v1/files", data={"purpose": "batch"}, files={"other": b"x"})
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "file")


# Sending


class Serve(httpx.MockTransport):
    def __init__(self, *answers):
        self.seen, self.answers = [], list(answers)
        super().__init__(self.take)

    def take(self, request):
        self.seen.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def sent(serve, url=URL, model="minilm", attempt=1):
    async def address():
        return "http://127.0.0.1:8000"

    async def ask():
        sender = Sender(ServeDoor(address, serve), Catalogue(), ManualClock())
        return await sender.ask(Pending("batch_1", 1, "c", url, model, b"{}"), "Bearer t", attempt)

    return asyncio.run(ask())


RECEIPT = {
    "x-joulekeeper-receipt_id": "r1", "x-joulekeeper-energy_uj": "12", "x-joulekeeper-carbon_ugco2e": "3",
    "x-joulekeeper-grade": "counter", "x-joulekeeper-provisional": "false",
}  # fmt: skip


def test_a_request_goes_to_its_models_door_as_its_tenant():
    serve = Serve(httpx.Response(200, headers=RECEIPT, content=b'{"a": 1}'))
    answer = sent(serve)
    (request,) = serve.seen
    assert (request.url.path, request.headers["authorization"]) == ("/v2/models/minilm/v1/embeddings", "Bearer t")
    assert request.headers["x-joulekeeper-routed"] == "minilm"
    assert (answer.status, answer.body, answer.receipt_id) == (200, b'{"a": 1}', "r1")
    assert (answer.energy_uj, answer.carbon_ugco2e, answer.grade, answer.provisional) == (12, 3, "counter", False)


def test_inference_calls_go_as_they_are():
    serve = Serve(httpx.Response(200, headers={"x-joulekeeper-receipt_id": "r"}, content=b"{}"))
    answer = sent(serve, "/v2/models/digits/infer", "digits")
    assert serve.seen[0].url.path == "/v2/models/digits/infer"
    assert answer.provisional  # its figures have still to be asked for


@pytest.mark.parametrize(
    ("answer", "after_s", "failed"),
    [
        (httpx.Response(429, headers={"retry-after": "7"}), 7.0, False),
        (httpx.Response(503), 2.0, False),
        (httpx.Response(401), 3.0, True),
        (httpx.Response(500), 1.0, True),
        (httpx.ConnectError("refused"), 5.0, False),
        (httpx.ReadError("gone"), 5.0, False),
    ],
)
def test_what_comes_too_early_or_fails_is_asked_again(answer, after_s, failed):
    later = sent(Serve(answer))
    assert isinstance(later, Later)
    assert (later.after_s, later.failed) == (after_s, failed)


@pytest.mark.parametrize("status", [400, 404, 413, 401, 500])
def test_what_stays_wrong_is_the_answer(status):
    assert sent(Serve(httpx.Response(status, content=b"{}")), attempt=3).status == status


def test_a_model_that_is_not_there_is_an_answer():
    answer = sent(Serve(), model="nobody")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "model_not_found")
