"""Models at zero on a real cluster: prepared workers, a crowd at the door, a tensor of 16 MB; HTTP and gRPC."""

import asyncio
import json
import time
from pathlib import Path

import grpc
import httpx
import numpy as np
import psutil
import pytest

from app.ledger.ring import RingReader, ring_paths
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.fixtures.quickstart import application, quickstart

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

CROWD = 200
COLUMNS = 1 << 20
TENSOR = np.arange(4 * COLUMNS, dtype=np.float32).reshape(4, COLUMNS)
WAIT_S = 90
MODELS = "http://127.0.0.1:8000/v2/models"
LONG = [("grpc.max_send_message_length", 1 << 26), ("grpc.max_receive_message_length", 1 << 26)]


@pytest.fixture(scope="module")
def cluster(running):
    config = quickstart(downscale_delay_s=3, max_replicas=1)
    echo = {
        "name": "echo",
        "source": "python:tests.fixtures.echo:Echo",
        "source_args": {"datatypes": ["FP32"], "shape": [-1, COLUMNS]},
        "max_body_bytes": 1 << 25,
    }
    minilm = application(config, "minilm")
    config["applications"].append(minilm | {"name": "echo", "route_prefix": "/v2/models/echo", "args": echo})
    running.deploy(config)
    return running


@pytest.fixture
def stub(cluster):
    with grpc.insecure_channel("127.0.0.1:9000", options=LONG) as channel:
        yield GRPCInferenceServiceStub(channel)


def loads(state, model):
    """How often a version of the model was brought into service, by the rings."""
    count = 0
    for path in ring_paths(state / "rings"):
        reader = RingReader(path)
        accounts = [reader.account(int(row["owner"])) for row in reader.records if row["number"]]
        count += sum(account.name == "load" and account.model == model for account in accounts)
        reader.close()
    return count


def text_message(text):
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[1], contents=pb.InferTensorContents(bytes_contents=[text.encode()])
    )
    return pb.ModelInferRequest(id=text, model_name="minilm", inputs=[tensor])


def tensor_message():
    tensor = pb.ModelInferRequest.InferInputTensor(name="fp32", datatype="FP32", shape=TENSOR.shape)
    return pb.ModelInferRequest(model_name="echo", inputs=[tensor], raw_input_contents=[TENSOR.tobytes()])


def texts():
    return [f"sentence number {number}" for number in range(CROWD)]


async def ask_at_once(bodies):
    """All bodies in one moment, each on a connection of its own; the answers."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=WAIT_S) as client:
        return await asyncio.gather(*(client.post(f"{MODELS}/minilm/infer", json=body) for body in bodies))


def test_a_worker_waits_prepared_while_models_sleep_and_the_first_request_gets_it(cluster):
    cluster.await_replicas("minilm", 0)
    deadline = time.monotonic() + WAIT_S
    prepared = None
    while prepared is None and time.monotonic() < deadline:
        time.sleep(0.5)
        prepared = next(iter(waiting_workers()), None)
    assert prepared is not None, "no worker prepared itself"
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good morning"]}
    answer = httpx.post(f"{MODELS}/minilm/infer", json={"inputs": [tensor]}, timeout=WAIT_S)
    assert answer.status_code == 200
    assert [replica["pid"] for replica in cluster.replicas("minilm")] == [prepared]


def waiting_workers():
    """Workers of Ray that have nothing to do and have torch."""
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or ()).startswith("ray::IDLE"):
            try:
                mapped = Path(f"/proc/{process.pid}/maps").read_text()
                quiet = process.cpu_percent(0.3) < 10
            except (OSError, psutil.NoSuchProcess):
                continue
            if "libtorch_python" in mapped and quiet:
                yield process.pid


def test_a_crowd_at_a_cold_model_is_answered_by_one_load_over_http(cluster, state):
    cluster.await_replicas("minilm", 0)
    before = loads(state, "minilm")
    bodies = [
        {"id": text, "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}
        for text in texts()
    ]
    answers = asyncio.run(ask_at_once(bodies))
    assert [answer.status_code for answer in answers] == [200] * CROWD
    assert [answer.json()["id"] for answer in answers] == texts()
    assert len({answer.headers["x-joulekeeper-receipt_id"] for answer in answers}) == CROWD
    assert loads(state, "minilm") == before + 1


def test_a_crowd_at_a_cold_model_is_answered_by_one_load_over_grpc(cluster, state, stub):
    cluster.await_replicas("minilm", 0)
    before = loads(state, "minilm")
    metadata = [("application", "minilm")]
    calls = [stub.ModelInfer.future(text_message(text), metadata=metadata, timeout=WAIT_S) for text in texts()]
    answers = [call.result() for call in calls]
    assert [answer.id for answer in answers] == texts()
    assert len({dict(call.trailing_metadata())["x-joulekeeper-receipt_id"] for call in calls}) == CROWD
    assert loads(state, "minilm") == before + 1


def test_a_tensor_of_16_mb_wakes_a_model_over_grpc(cluster, state, stub):
    cluster.await_replicas("echo", 0)
    before = loads(state, "echo")
    answer = stub.ModelInfer(tensor_message(), metadata=[("application", "echo")], timeout=WAIT_S)
    assert np.array_equal(np.frombuffer(answer.raw_output_contents[0], "<f4"), TENSOR.ravel())
    assert loads(state, "echo") == before + 1


def test_a_tensor_of_16_mb_wakes_a_model_over_http(cluster, state):
    cluster.await_replicas("echo", 0)
    before = loads(state, "echo")
    tensor = {
        "name": "fp32",
        "datatype": "FP32",
        "shape": TENSOR.shape,
        "parameters": {"binary_data_size": TENSOR.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    answer = httpx.post(f"{MODELS}/echo/infer", content=head + TENSOR.tobytes(), headers=headers, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text[:300]
    told = answer.content[int(answer.headers["inference-header-content-length"]) :]
    assert np.array_equal(np.frombuffer(told, "<f4"), TENSOR.ravel())
    assert loads(state, "echo") == before + 1
