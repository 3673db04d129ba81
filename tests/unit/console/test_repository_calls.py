"""Waking and sleeping by the repository's calls, over HTTP and gRPC alike."""

import asyncio

import grpc
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from app.console.bounds import BoundedBodies
from app.console.catalogue import DeployedModel
from app.console.faults import answer_in_json
from app.console.grpc import ServerCalls
from app.console.repository import Repository
from app.console.server_api import repository_router
from app.errors import Unavailable
from app.metering.access_feed import open_gate
from app.protocol.generated import open_inference_pb2 as pb


def deployed(name: str, status: str = "RUNNING", **changes: object) -> DeployedModel:
    return DeployedModel(name, f"/v2/models/{name}", status, 0.0, **changes)


MODELS = (
    deployed("digits", version="2", running_replicas=1),
    deployed("digits@3", version="3", running_replicas=2),
    deployed("minilm", version="1"),
    deployed("new", "DEPLOYING"),
    deployed("wrong", "DEPLOY_FAILED", message="no such file"),
)
INDEX = [
    {"name": "digits", "version": "2", "state": "READY", "reason": ""},
    {"name": "digits", "version": "3", "state": "READY", "reason": ""},
    {"name": "minilm", "version": "1", "state": "UNAVAILABLE", "reason": "asleep; a request or a load wakes it"},
    {"name": "new", "version": "", "state": "LOADING", "reason": ""},
    {"name": "wrong", "version": "", "state": "UNAVAILABLE", "reason": "no such file"},
]


class Catalogue:
    def __init__(self) -> None:
        self.found = list(MODELS)
        self.gone = False

    async def models(self) -> tuple[DeployedModel, ...]:
        if self.gone:
            raise Unavailable("controller gone")
        return tuple(self.found)


class Sleepers:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def wake(self, application: str) -> None:
        self.asked.append(("wake", application))

    async def let_sleep(self, application: str) -> None:
        self.asked.append(("let_sleep", application))


class Context:
    code: grpc.StatusCode | None = None
    told = ""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:4711"

    def set_trailing_metadata(self, metadata: object) -> None:
        pass

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.told = details

    def details(self) -> str:
        return self.told


class Calls:
    """The repository behind both protocols."""

    def __init__(self) -> None:
        self.catalogue, self.sleepers = Catalogue(), Sleepers()
        repository = Repository(self.catalogue, self.sleepers)
        api = FastAPI()
        answer_in_json(api)
        api.add_middleware(BoundedBodies, max_bytes=1000)
        api.include_router(repository_router(repository))
        self.http = TestClient(api, raise_server_exceptions=False)
        self.grpc = ServerCalls()
        self.grpc.gate = open_gate("console", "default")
        self.grpc.catalogue, self.grpc.repository = self.catalogue, repository

    def call(self, method: str, request: object) -> tuple[object, Context]:
        context = Context()
        return asyncio.run(getattr(self.grpc, method)(request, context)), context


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_the_index_tells_who_is_awake(calls: Calls) -> None:
    assert calls.http.post("/v2/repository/index").json() == INDEX
    assert calls.http.post("/v2/repository/index", content=b'{"ready": true}').json() == INDEX[:2]
    index, _ = calls.call("RepositoryIndex", pb.RepositoryIndexRequest())
    assert [(model.name, model.version, model.state, model.reason) for model in index.models] == [
        tuple(entry.values()) for entry in INDEX
    ]
    index, _ = calls.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    assert len(index.models) == 2


def test_a_load_wakes_the_default_version_and_an_unload_all_that_are_awake(calls: Calls) -> None:
    assert calls.http.post("/v2/repository/models/digits/load", content=b'{"parameters": {}}').status_code == 200
    assert calls.http.post("/v2/repository/models/digits/unload").status_code == 200
    assert calls.sleepers.asked == [("wake", "digits"), ("let_sleep", "digits"), ("let_sleep", "digits@3")]
    calls.sleepers.asked.clear()
    calls.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="digits@3"))
    calls.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="minilm"))
    assert calls.sleepers.asked == [("wake", "digits@3")]


@pytest.mark.parametrize(
    ("model", "body", "status", "says"),
    [
        ("other", b"", 404, "no model 'other' to load or unload; deployed: 'digits'"),
        ("new", b"", 503, "'new' is DEPLOYING: try again"),
        ("wrong", b"", 503, "'wrong' is DEPLOY_FAILED: no such file"),
        ("minilm", b'{"parameters": {"config": "{}"}}', 400, "would change what is deployed"),
        ("minilm", b'{"parameters": {"file:1/model.pt": "eA=="}}', 400, "would change what is deployed"),
        ("minilm", b'{"parameters": 3}', 400, "the body cannot be read: parameters"),
        ("minilm", b"{", 400, "the body cannot be read: body: Invalid JSON"),
        ("minilm", b" " * 1001, 413, "more than 1000 bytes"),
    ],
)
def test_what_cannot_be_woken_is_refused(calls: Calls, model: str, body: bytes, status: int, says: str) -> None:
    answer = calls.http.post(f"/v2/repository/models/{model}/load", content=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert calls.sleepers.asked == []


def test_refusals_are_codes_over_grpc(calls: Calls) -> None:
    _, context = calls.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="other"))
    assert context.code is grpc.StatusCode.NOT_FOUND
    calls.catalogue.gone = True
    _, context = calls.call("RepositoryIndex", pb.RepositoryIndexRequest())
    assert context.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ("", HealthCheckResponse.SERVING),
        ("inference.GRPCInferenceService", HealthCheckResponse.SERVING),
        ("minilm", HealthCheckResponse.SERVING),
        ("new", HealthCheckResponse.NOT_SERVING),
    ],
)
def test_a_model_serves_asleep_or_awake(calls: Calls, service: str, status: int) -> None:
    answer, context = calls.call("Check", HealthCheckRequest(service=service))
    assert (answer.status, context.code) == (status, None)


def test_an_unknown_service_is_not_found(calls: Calls) -> None:
    assert calls.call("Check", HealthCheckRequest(service="other"))[1].code is grpc.StatusCode.NOT_FOUND


def test_nothing_serves_while_nobody_knows_the_models(calls: Calls) -> None:
    calls.catalogue.gone = True
    assert calls.call("Check", HealthCheckRequest())[0].status == HealthCheckResponse.NOT_SERVING


def test_a_watcher_is_told_of_every_change_and_no_more(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.console.health._LOOK_S", 0)

    async def watch() -> list[int]:
        told = []
        async for answer in calls.grpc.Watch(HealthCheckRequest(service="new"), Context()):
            told.append(answer.status)
            if len(told) == 1:
                calls.catalogue.found = [deployed("new")]
            elif len(told) == 2:
                calls.catalogue.found = []
            else:
                break
        return told

    assert asyncio.run(watch()) == [
        HealthCheckResponse.NOT_SERVING,
        HealthCheckResponse.SERVING,
        HealthCheckResponse.SERVICE_UNKNOWN,
    ]


def test_a_stream_to_the_console_ends_with_what_to_do(calls: Calls) -> None:
    async def stream() -> tuple[list[object], Context]:
        async def messages():
            yield pb.ModelInferRequest(model_name="minilm")

        context = Context()
        return [answer async for answer in calls.grpc.ModelStreamInfer(messages(), context)], context

    answers, context = asyncio.run(stream())
    assert [answer.error_message for answer in answers] == [context.told]
    assert context.code is grpc.StatusCode.NOT_FOUND
    assert "application: minilm" in context.told


def test_a_body_that_does_not_end_is_refused() -> None:
    sent = []

    async def receive() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def unreachable(*_: object) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/v2/repository/index"}
    asyncio.run(BoundedBodies(unreachable, timeout_s=0)(scope, receive, send))
    assert sent[0]["status"] == 408
