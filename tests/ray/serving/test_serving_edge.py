"""The quickstart's model through the edge: TLS over HTTP and gRPC, from zero, and while it comes and goes."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.fixtures.edge import Edge
from tests.fixtures.quickstart import application, console_alone, quickstart

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

IDLE_S = 3
BODY = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["one joule"]}]}


@pytest.fixture(scope="module")
def config():
    return quickstart(downscale_delay_s=IDLE_S)


@pytest.fixture(scope="module")
def cluster(running, config):
    running.deploy(config)
    return running


@pytest.fixture(scope="module")
def door(cluster, edge: Edge) -> Edge:
    edge.await_models("minilm")
    return edge


@pytest.fixture(scope="module")
def client(door):
    with httpx.Client(base_url=door.url, verify=door.trust(), timeout=90) as client:
        yield client


@pytest.fixture(scope="module")
def stub(door):
    with grpc.secure_channel(door.grpc, door.credentials()) as channel:
        yield GRPCInferenceServiceStub(channel)


def message(text: str = "one joule") -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[1], contents=pb.InferTensorContents(bytes_contents=[text.encode()])
    )
    return pb.ModelInferRequest(model_name="minilm", inputs=[tensor])


def test_calls_over_both_protocols_wake_a_model_at_zero_without_metadata(cluster, client, stub):
    cluster.await_replicas("minilm", 0)
    with ThreadPoolExecutor(16) as clients:
        by_http = [clients.submit(client.post, "/v2/models/minilm/infer", json=BODY) for _ in range(8)]
        by_grpc = [clients.submit(stub.ModelInfer, message(), timeout=90) for _ in range(8)]
        answers = [future.result() for future in by_http]
        embeddings = [future.result().outputs[0].contents.fp32_contents for future in by_grpc]
    assert {answer.status_code for answer in answers} == {200}
    assert [len(embedding) for embedding in embeddings] == [384] * 8
    assert answers[0].json()["outputs"][0]["data"] == pytest.approx(list(embeddings[0]), abs=1e-5)
    assert answers[0].headers["x-joulekeeper-receipt_id"]


def test_server_calls_are_answered_by_the_console_and_so_is_a_model_that_does_not_exist(client, stub):
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=60).live
    assert stub.ModelReady(pb.ModelReadyRequest(name="minilm"), timeout=60).ready
    with pytest.raises(grpc.RpcError) as refusal:
        stub.ModelInfer(pb.ModelInferRequest(model_name="nonesuch"), timeout=60)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert "nonesuch" in refusal.value.details()
    assert client.get("/v2/health/live").status_code == 200
    answer = client.post("/v1/embeddings", json={"model": "nonesuch"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_model_rolled_to_a_new_version_under_load_loses_no_call(cluster, config, client, stub):
    stop, outcomes = threading.Event(), Counter()

    def by_http() -> None:
        while not stop.is_set():
            outcomes["http", client.post("/v2/models/minilm/infer", json=BODY).status_code] += 1

    def by_grpc() -> None:
        while not stop.is_set():
            try:
                stub.ModelInfer(message(), timeout=90)
                outcomes["grpc", 200] += 1
            except grpc.RpcError as error:
                outcomes["grpc", error.code().name] += 1

    changed = json.loads(json.dumps(config))
    application(changed, "minilm")["args"]["version"] = "2"
    with ThreadPoolExecutor(4) as clients:
        futures = [clients.submit(task) for task in (by_http, by_grpc)]
        try:
            cluster.deploy(changed)
        finally:
            stop.set()
        for future in futures:
            future.result()
    assert set(outcomes) == {("http", 200), ("grpc", 200)}, outcomes


def test_an_application_that_leaves_is_gone_from_the_map_and_its_calls_are_told_so(cluster, config, door, stub):
    cluster.deploy(console_alone())
    path = door.state_dir / "run" / "edge" / "models.map"
    cluster._await(lambda: "minilm" not in path.read_text(), "the map forgets minilm", 90)
    with pytest.raises(grpc.RpcError) as refusal:
        stub.ModelInfer(message(), timeout=60)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    cluster.deploy(config)
    door.await_models("minilm")
