"""OpenAI's calls at the console: passed on to the model of their body, or refused in OpenAI's shape."""

import json
import math
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from fastapi.testclient import TestClient

from app.access.gate import Gate
from app.access.keys import digest_of_key, new_key
from app.access.rules import Quotas
from app.access.snapshot import AccessSnapshot, KeyGrant, PollAnswer
from app.clock import ManualClock
from app.console.api import build_api
from app.console.bounds import MAX_TEXT_BYTES
from app.console.catalogue import DeployedModel
from app.console.forward import ServeDoor, locate
from app.console.repository import Repository
from app.errors import NotFound
from app.metering.access_feed import open_gate

PYCODER = DeployedModel("pycoder", "/v2/models/pycoder", "RUNNING", 1.0, version="3")
INT8 = DeployedModel("pycoder@int8", "/v2/models/pycoder/versions/int8", "RUNNING", 2.0, version="int8")


class Catalogue:
    async def models(self) -> tuple[DeployedModel, ...]:
        return (PYCODER, INT8)


class Pieces(httpx.AsyncByteStream):
    """A body as it comes from a socket; breaks off after its first piece where it `breaks`."""

    def __init__(self, *pieces: bytes, breaks: bool = False) -> None:
        self.pieces, self.breaks, self.closed = pieces, breaks, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
            if self.breaks:
                raise httpx.ReadError("the replica was killed")

    async def aclose(self) -> None:
        self.closed = True


class Serve(httpx.MockTransport):
    """Serve's door: remembers what reached it; answers with `status`, `headers` and `body`."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []
        self.status, self.headers, self.body = 200, {"x-joulekeeper-receipt_id": "r-1"}, Pieces(b'{"ok": true}')
        super().__init__(self.take)

    def take(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return httpx.Response(self.status, headers=self.headers, stream=self.body)


async def address() -> str:
    return "http://127.0.0.1:8000"


def build(serve: Serve, gate: Gate) -> TestClient:
    catalogue = Catalogue()
    api = build_api(
        None, catalogue, Repository(catalogue, None), lambda: datetime.now(UTC), gate, ServeDoor(address, serve)
    )
    return TestClient(api, raise_server_exceptions=False, client=("127.0.0.1", 4711))


@pytest.fixture
def serve() -> Serve:
    return Serve()


@pytest.fixture
def client(serve: Serve) -> Iterator[TestClient]:
    with build(serve, open_gate("console", "default")) as client:
        yield client


@pytest.mark.parametrize(
    ("model", "path", "application"),
    [
        ("pycoder", "/v2/models/pycoder/v1/chat/completions", "pycoder"),
        ("pycoder@int8", "/v2/models/pycoder/versions/int8/v1/chat/completions", "pycoder@int8"),
        ("pycoder@3", "/v2/models/pycoder/versions/3/v1/chat/completions", "pycoder"),
    ],
)
def test_a_call_goes_to_the_route_of_its_model_as_it_came(client, serve, model, path, application):
    body = json.dumps({"messages": ["x" * 100_000], "model": model}).encode()
    headers = {"authorization": "Bearer k", "x-joulekeeper-routed": "forged"}
    answer = client.post("/v1/chat/completions", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert answer.headers["x-joulekeeper-receipt_id"] == "r-1"
    (seen,) = serve.seen
    assert (seen.url.path, seen.content) == (path, body)
    assert seen.headers["authorization"] == "Bearer k"
    assert seen.headers["x-joulekeeper-routed"] == application


def test_refusals_of_the_model_come_back_as_they_are(client, serve):
    error = {"error": {"message": "busy", "type": "server_error", "param": None, "code": "engine_overloaded"}}
    serve.status, serve.headers, serve.body = 429, {"retry-after": "2"}, Pieces(json.dumps(error).encode())
    answer = client.post("/v1/completions", json={"model": "pycoder"})
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, error, "2")


@pytest.mark.parametrize("breaks", [False, True])
def test_a_stream_comes_through_and_says_when_it_breaks_off(client, serve, breaks):
    serve.body = Pieces(b"data: 1\n\n", b"data: [DONE]\n\n", breaks=breaks)
    serve.headers = {"content-type": "text/event-stream; charset=utf-8"}
    told = client.post("/v1/chat/completions", json={"model": "pycoder"}).text.split("\n\n")
    assert told[0] == "data: 1"
    if breaks:
        error = json.loads(told[1].removeprefix("data: "))["error"]
        assert (error["type"], "has ended" in error["message"]) == ("server_error", True)
    else:
        assert told[1] == "data: [DONE]"
    assert serve.body.closed


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b'{"model": "nonesuch"}', {}, 404, "model_not_found"),
        (b'{"model": "pycoder@../.."}', {}, 404, "model_not_found"),
        (b'{"messages": []}', {}, 400, "missing_required_parameter"),
        (b'{"model": "\xff"}', {}, 400, "invalid_json"),
        (b"{}", {"content-encoding": "gzip"}, 400, None),
        (b" " * (MAX_TEXT_BYTES + 1), {}, 413, "request_too_large"),
    ],
    ids=["unknown model", "no version", "no model", "not UTF-8", "compressed", "too large"],
)
def test_what_cannot_be_passed_on_is_refused_in_openais_shape(client, serve, content, headers, status, code):
    answer = client.post("/v1/embeddings", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert not serve.seen


def test_unknown_calls_and_methods_have_that_shape_too(client):
    for answer in (client.post("/v1/images/generations", json={}), client.get("/v1/chat/completions")):
        assert answer.status_code in (404, 405)
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_serve_that_is_not_there_is_unavailable(client, serve):
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    serve.handler = fail
    answer = client.post("/v1/completions", json={"model": "pycoder"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "service_unavailable"


def test_models_are_listed_and_told_one_by_one(client):
    listed = client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["pycoder", "pycoder@int8"]
    assert client.get("/v1/models/pycoder@int8").json() == listed["data"][1]
    missing = client.get("/v1/models/nonesuch")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_a_call_takes_a_known_caller_and_is_counted_by_the_model_alone(serve):
    gate = Gate.required(ManualClock())
    key_id, key = new_key()
    grant = KeyGrant(digest_of_key(key), "acme", frozenset({"infer:pycoder"}), math.inf)
    gate.renew(PollAnswer(AccessSnapshot("one", {key_id: grant}, (), {"acme": Quotas(requests_per_s=1)})))
    with build(serve, gate) as client:
        stranger = client.post("/v1/completions", json={"model": "pycoder"})
        assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "invalid_api_key")
        assert stranger.headers["www-authenticate"].startswith("Bearer")
        known = {"authorization": f"Bearer {key}"}
        statuses = {
            client.post("/v1/completions", json={"model": "pycoder"}, headers=known).status_code for _ in range(9)
        }
    assert statuses == {200}


def test_a_version_with_signs_of_a_path_is_none():
    for name in ("pycoder@a/b", "pycoder@", "pycoder@a%2f", "other@1"):
        with pytest.raises(NotFound):
            locate(name, (PYCODER, INT8))
