"""A language model on a real cluster in the fast mode: streams, clients that leave, replicas that die, full queues."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.fixtures.edge import Edge
from tests.fixtures.quickstart import awake_model, console_alone

pytestmark = [pytest.mark.ray, pytest.mark.timeout(500)]

SERVE, MODEL = "http://127.0.0.1:8000", "http://127.0.0.1:8000/v2/models/tiny"
LONG = {"model": "tiny", "prompt": "def ", "max_tokens": 80, "temperature": 0, "stream": True}
SHORT = {"model": "tiny", "prompt": "def ", "max_tokens": 8, "temperature": 0}
QUEUE = {"max_sequences": 2, "max_queued": 2}


@pytest.fixture(scope="module")
def cluster(running):
    config = console_alone()
    config["applications"].append(awake_model("tiny", "generator", source="repository:tiny", **QUEUE))
    running.deploy(config)
    running.await_replicas("tiny", 1)
    return running


@pytest.fixture(scope="module")
def door(cluster, edge: Edge) -> Edge:
    edge.await_models("tiny")
    return edge


def load() -> tuple[int, int]:
    """Requests answered and failed, as the replica counts them."""
    told = httpx.get(f"{MODEL}/stats", timeout=60).json()["model_stats"][0]["inference_stats"]
    return told["success"]["count"], told["fail"]["count"]


def events(lines):
    for line in lines:
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def text_of(chunks) -> str:
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def test_a_stream_is_what_a_whole_answer_is_and_ends_with_its_energy(cluster):
    whole = httpx.post(f"{MODEL}/v1/completions", json=LONG | {"stream": False}, timeout=120).json()
    options = {"stream_options": {"include_usage": True}}
    with httpx.stream("POST", f"{MODEL}/v1/completions", json=LONG | options, timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        *chunks, done = events(answer.iter_lines())
    assert done == "[DONE]"
    *chunks, last = map(json.loads, chunks)
    assert text_of(chunks) == whole["choices"][0]["text"]
    energy = last["usage"]["joulekeeper"]
    assert energy["receipt_id"] == answer.headers["x-joulekeeper-receipt_id"]
    assert energy["energy_uj"] == energy["prefill_uj"] + energy["decode_uj"] > 0
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_the_settled_receipt_is_found_under_its_id_with_both_phases(cluster):
    told = httpx.post(f"{MODEL}/v1/completions?settle=true&settle_timeout_s=60", json=SHORT, timeout=120).json()
    energy = told["usage"]["joulekeeper"]
    assert energy["provisional"] is False
    receipt = httpx.get(f"{SERVE}/api/receipts/{energy['receipt_id']}", timeout=60).json()
    assert (receipt["energy_uj"], receipt["account"], receipt["model"]) == (energy["energy_uj"], "request", "tiny")


def test_through_the_edge_over_tls_by_the_model_of_the_body_whatever_version_it_names(door):
    with httpx.Client(base_url=door.url, verify=door.trust(), timeout=120) as client:
        for model in ("tiny", "tiny@1"):
            with client.stream("POST", "/v1/completions", json=LONG | {"model": model}) as answer:
                assert answer.status_code == 200
                assert list(events(answer.iter_lines()))[-1] == "[DONE]"
        unknown = client.post("/v1/completions", json=SHORT | {"model": "tiny@9"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        late = {"messages": [{"role": "user", "content": "x" * 60_000}], "model": "tiny"}
        long_chat = client.post("/v1/chat/completions", json=late)  # its model stands behind the edge's buffer
        assert (long_chat.status_code, long_chat.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_without_the_edge_the_console_passes_calls_on_streams_included(cluster):
    with httpx.stream("POST", f"{SERVE}/v1/chat/completions", timeout=120, json={
        "model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20, "stream": True,
    }) as answer:  # fmt: skip
        assert answer.status_code == 200
        assert list(events(answer.iter_lines()))[-1] == "[DONE]"
    vectors = httpx.post(f"{SERVE}/v1/embeddings", json={"model": "tiny", "input": ["a", "b c"]}, timeout=60).json()
    assert len(vectors["data"]) == 2
    assert len(vectors["data"][0]["embedding"]) == 32
    assert httpx.get(f"{SERVE}/v1/models/tiny", timeout=60).json()["id"] == "tiny"


def prompt_message(tokens: int) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="prompt", datatype="BYTES", shape=[1], contents=pb.InferTensorContents(bytes_contents=[b"def "])
    )
    request = pb.ModelInferRequest(model_name="tiny", id="one", inputs=[tensor])
    request.parameters["max_tokens"].int64_param = tokens
    request.parameters["temperature"].double_param = 0.0
    return request


def test_grpc_streams_a_message_for_each_piece_and_ends_with_the_receipt(door):
    request = prompt_message(20)
    with grpc.secure_channel(door.grpc, door.credentials()) as channel:
        stub = GRPCInferenceServiceStub(channel)
        *pieces, last = stub.ModelStreamInfer(iter([request]), timeout=120)
        whole = stub.ModelInfer(request, timeout=120)
    assert last.infer_response.parameters["triton_final_response"].bool_param
    assert last.infer_response.parameters["energy_uj"].int64_param > 0
    streamed = b"".join(each.infer_response.outputs[0].contents.bytes_contents[0] for each in pieces)
    assert streamed == whole.outputs[0].contents.bytes_contents[0]


def test_clients_that_leave_free_their_places_at_once(cluster, door):
    """More of them than places and queue together: had any kept its place, the later ones would be refused."""
    for number in range(40):
        url, options = (f"{MODEL}/v1/completions", {}) if number % 2 else (f"{door.url}/v1/completions", {})
        verify = door.trust() if url.startswith("https") else True
        with httpx.stream("POST", url, json=LONG, timeout=120, verify=verify, **options) as answer:
            assert answer.status_code == 200, answer.read()
            next(events(answer.iter_lines()))
    with grpc.secure_channel(door.grpc, door.credentials()) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for number in range(20):
            if number % 2:
                call = stub.ModelStreamInfer(iter([prompt_message(80)]), timeout=120)
                assert not next(call).error_message
            else:
                call = stub.ModelInfer.future(prompt_message(80), timeout=120)
                time.sleep(0.05)
                assert not call.done() or call.exception() is None
            call.cancel()
    began_s = time.monotonic()
    answer = httpx.post(f"{MODEL}/v1/completions", json=SHORT, timeout=120)
    assert answer.status_code == 200
    assert time.monotonic() - began_s < 30


def test_a_full_queue_is_told_with_a_time_and_those_in_it_are_served(cluster):
    with ThreadPoolExecutor(24) as clients:
        answers = list(
            clients.map(
                lambda _: httpx.post(f"{MODEL}/v1/completions", json=LONG | {"stream": False}, timeout=200), range(24)
            )
        )
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}, statuses
    assert statuses.count(200) >= sum(QUEUE.values())
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "engine_overloaded"


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (json.dumps(SHORT | {"prompt": "word " * 200}).encode(), 400, "context"),
        (json.dumps(SHORT | {"temperature": -1}).encode(), 400, "temperature"),
        (json.dumps(SHORT | {"n": 0}).encode(), 400, "n must be"),
        (b'{"model": "tiny", "prompt": "\xff"}', 400, "UTF-8"),
    ],
    ids=["too long", "temperature", "n", "UTF-8"],
)
def test_bad_requests_are_refused_through_every_door(cluster, door, content, status, says):
    headers = {"content-type": "application/json"}
    for url, verify in ((f"{MODEL}/v1/completions", True), (f"{SERVE}/v1/completions", True),
                        (f"{door.url}/v1/completions", door.trust())):  # fmt: skip
        answer = httpx.post(url, content=content, headers=headers, timeout=60, verify=verify)
        assert answer.status_code == status, (url, answer.text)
        assert says in answer.json()["error"]["message"]


def kill_while_streaming(cluster, url, verify):
    """What a client sees whose model's replica is killed after three events: events, error, id of its receipt."""
    (replica,) = cluster.replicas("tiny")
    seen, error, receipt_id = [], None, ""
    try:
        with httpx.stream("POST", url, json=LONG | {"n": 2}, timeout=120, verify=verify) as answer:
            receipt_id = answer.headers["x-joulekeeper-receipt_id"]
            for event in events(answer.iter_lines()):
                seen.append(event)
                if len(seen) == 3:
                    os.kill(replica["pid"], signal.SIGKILL)
    except httpx.TransportError as fault:
        error = fault

    def is_replaced() -> bool:
        there = [(each["state"], each.get("pid")) for each in cluster.replicas("tiny")]
        return len(there) == 1 and there[0][0] == "RUNNING" and there[0][1] != replica["pid"]

    cluster._await(is_replaced, "a new replica is there", 180)
    return seen, error, receipt_id


def kill_in_the_middle(cluster, url, verify):
    """As kill_while_streaming; once more where the whole answer had been sent by then, as a busy machine may do."""
    for _ in range(3):
        told = kill_while_streaming(cluster, url, verify)
        if sum('"finish_reason":"length"' in event.replace(" ", "") for event in told[0]) < 2:
            break
    return told


def test_a_replica_killed_in_the_middle_of_a_stream_is_a_clean_error_and_its_energy_is_on_the_books(cluster, door):
    seen, error, at_console = kill_in_the_middle(cluster, f"{SERVE}/v1/completions", True)
    # the console saw the model break off, and says so as an event: no client takes it for the end
    assert error is None
    assert json.loads(seen[-1])["error"]["type"] == "server_error"
    assert "[DONE]" not in seen
    seen, error, at_edge = kill_in_the_middle(cluster, f"{door.url}/v1/completions", door.trust())
    assert isinstance(error, httpx.TransportError), seen  # the connection says that the answer is not complete
    assert "[DONE]" not in seen
    for receipt_id in (at_console, at_edge):
        told = {}

        def is_settled(receipt_id=receipt_id, told=told) -> bool:
            told |= httpx.get(f"{SERVE}/api/receipts/{receipt_id}", timeout=60).json()
            return not told.get("provisional", True)

        cluster._await(is_settled, f"receipt {receipt_id} is settled", 90)
        assert told["energy_uj"] > 0
        assert (told["account"], told["model"]) == ("request", "tiny")
    assert httpx.post(f"{MODEL}/v1/completions", json=SHORT, timeout=120).status_code == 200
