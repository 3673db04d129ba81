"""The server level of the Open Inference Protocol over gRPC, called as plain methods."""

import asyncio

import grpc
import pytest

from app.console.catalogue import DeployedModel
from app.console.grpc import ServerCalls
from app.errors import Unavailable
from app.metering.access_feed import open_gate
from app.protocol.generated import open_inference_pb2 as pb


class FakeCatalogue:
    def __init__(self, *models: DeployedModel, gone: bool = False) -> None:
        self._models = models
        self._gone = gone

    async def models(self) -> tuple[DeployedModel, ...]:
        if self._gone:
            raise Unavailable("controller gone")
        return self._models


class FakeContext:
    code: grpc.StatusCode | None = None
    details = ""

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def peer(self) -> str:
        return "ipv4:127.0.0.1:4711"

    def set_trailing_metadata(self, metadata: object) -> None:
        pass

    def set_details(self, details: str) -> None:
        self.details = details


def _calls(*models: DeployedModel, gone: bool = False) -> ServerCalls:
    calls = ServerCalls()
    calls.gate = open_gate("console", "default")
    calls.catalogue = FakeCatalogue(*models, gone=gone)
    return calls


MINILM = DeployedModel("minilm", "/v2/models/minilm", "RUNNING", 0.0)


def test_the_server_lives_is_ready_and_says_who_it_is() -> None:
    calls = _calls(MINILM)
    assert asyncio.run(calls.ServerLive(pb.ServerLiveRequest())).live
    assert asyncio.run(calls.ServerReady(pb.ServerReadyRequest())).ready
    assert asyncio.run(calls.ServerMetadata(pb.ServerMetadataRequest(), FakeContext())).name == "joulekeeper"


def test_the_server_is_not_ready_while_nobody_knows_the_models() -> None:
    assert not asyncio.run(_calls(gone=True).ServerReady(pb.ServerReadyRequest())).ready


@pytest.mark.parametrize(
    ("model", "code", "says"),
    [("nope", "NOT_FOUND", "no model 'nope'; deployed: 'minilm'"), ("minilm", "NOT_FOUND", "application: minilm")],
)
def test_inference_here_is_refused_with_what_to_do(model: str, code: str, says: str) -> None:
    context = FakeContext()
    asyncio.run(_calls(MINILM).ModelInfer(pb.ModelInferRequest(model_name=model), context))
    assert context.code is grpc.StatusCode[code]
    assert says in context.details


def test_model_calls_are_refused_likewise() -> None:
    for call, request in (
        ("ModelReady", pb.ModelReadyRequest(name="nope")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="nope")),
    ):
        context = FakeContext()
        asyncio.run(getattr(_calls(), call)(request, context))
        assert context.code is grpc.StatusCode.NOT_FOUND
        assert "deploy one" in context.details
