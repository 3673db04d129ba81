"""The HTTP door: routes, refusals, bounds and what a response carries."""

import asyncio
import logging

import orjson
import pytest

from app.engine.slices import SliceEnergy
from app.protocol.coding import expand, shrink

TOLD = SliceEnergy(energy_uj=1200, carbon_ugco2e=160, grade="counter", provisional=True)


def error_of(response):
    return orjson.loads(response.body)["error"]


def test_an_inference_answers_under_the_served_name_and_version(served):
    response = served.infer("hi", "there", id="seven")
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    message = orjson.loads(response.body)
    assert (message["model_name"], message["model_version"], message["id"]) == ("echo", "2", "seven")
    assert [output["data"] for output in message["outputs"]] == [["hi", "there"], [2, 5]]


def test_only_the_outputs_asked_for_are_sent(served):
    message = orjson.loads(served.infer("hi", outputs=[{"name": "length"}]).body)
    assert [output["name"] for output in message["outputs"]] == ["length"]


def test_the_receipt_is_in_parameters_and_headers(served):
    served.client.told = TOLD
    response = served.infer("hi")
    assert orjson.loads(response.body)["parameters"] == {
        "receipt_id": "r-1",
        "energy_uj": 1200,
        "carbon_ugco2e": 160,
        "grade": "counter",
        "provisional": True,
        "load_share_uj": 70,
        "warm_share_uj": 30,
    }
    assert {name: value for name, value in response.headers.items() if name.startswith("x-")} == {
        "x-joulekeeper-receipt_id": "r-1",
        "x-joulekeeper-energy_uj": "1200",
        "x-joulekeeper-carbon_ugco2e": "160",
        "x-joulekeeper-grade": "counter",
        "x-joulekeeper-provisional": "true",
    }


def test_without_figures_the_receipt_has_only_its_id(served):
    assert orjson.loads(served.infer("hi").body)["parameters"] == {"receipt_id": "r-1", "provisional": True}


def test_without_metering_there_is_no_receipt(served):
    served.client.receipt_id = ""
    response = served.infer("hi")
    assert "parameters" not in orjson.loads(response.body)
    assert not [name for name in response.headers if name.startswith("x-")]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/versions/3/infer", 404, "echo has no version '3' here; 2 is served"),
        ("POST", "/nothing", 404, "no path '/v2/models/echo/nothing'"),
        ("POST", "/infer/more", 404, "no path"),
        ("GET", "2/infer", 404, "no model 'echo2/infer' here; this is echo@2"),
        ("GET", "/infer", 405, "use POST"),
        ("POST", "", 405, "use GET"),
        ("DELETE", "/ready", 405, "use GET"),
    ],
)
def test_a_wrong_path_or_method_is_refused(served, method, path, status, says):
    response = served.call(method, path)
    assert response.status == status
    assert says in error_of(response)


def test_a_wrong_method_is_told_the_right_one(served):
    assert served.call("GET", "/infer").headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["", "/", "/versions/2", "/versions/2/"])
def test_metadata_is_at_the_model_and_at_its_version(served, path):
    message = orjson.loads(served.call("GET", path).body)
    assert (message["name"], message["versions"], message["platform"]) == ("echo", ["2"], "joulekeeper")
    assert message["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]


def test_head_answers_like_get_without_a_body(served):
    got, headed = served.call("GET", "/ready"), served.call("HEAD", "/ready")
    assert headed.status == got.status == 200
    assert headed.headers == got.headers
    assert headed.body == b""


def test_before_loading_everything_says_try_again(unloaded):
    for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
        assert unloaded.call(method, path, b"{}").status == 503
    assert "echo@2 is not loaded; try again" in error_of(unloaded.call("GET", ""))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "the body is not JSON"),
        (b'{"inputs": []}', "input 'text' is missing"),
        (b'{"inputs": [{"name": "text", "datatype": "FP32", "shape": [1], "data": [1]}]}', "must be BYTES"),
    ],
)
def test_a_bad_body_is_the_callers_fault_and_is_not_charged(served, body, says):
    before = len(served.client.log)
    response = served.call("POST", "/infer", body)
    assert response.status == 400
    assert says in error_of(response)
    assert len(served.client.log) == before


@pytest.mark.parametrize(
    ("headers", "chunks", "says"),
    [
        ([], [b"x" * 401], "the body has 401 bytes, at most 400 are read"),
        ([("content-length", "1601")], [], "the body has 1601 bytes, at most 400 are read"),
        ([], [b"x" * 200, b"x" * 201, b"never read"], "the body has more than 400 bytes, at most 400 are read"),
    ],
)
def test_a_body_beyond_the_bound_is_not_read_to_its_end(served, headers, chunks, says):
    response = served.call("POST", "/infer", headers=headers, chunks=chunks)
    assert response.status == 413
    assert error_of(response).startswith(says)


def test_a_body_in_pieces_is_one_body(served):
    body = b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hi"]}]}'
    assert served.call("POST", "/infer", chunks=[body[:30], body[30:50], body[50:]]).status == 200


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ([("content-encoding", "br")], 415, "content-encoding 'br' is not supported; use one of zstd, gzip, deflate"),
        ([("content-encoding", "gzip")], 400, "the body is not gzip"),
        ([("inference-header-content-length", "-1")], 400, "must be a whole number of bytes, got '-1'"),
        ([("inference-header-content-length", "9")], 400, "but the body has 2 bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_headers(served, headers, status, says):
    response = served.call("POST", "/infer", b"{}", headers=headers)
    assert response.status == status
    assert says in error_of(response)


def binary_body(*texts, **changes):
    raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [tensor]} | changes)
    return head + raw, ("inference-header-content-length", str(len(head)))


@pytest.mark.parametrize("pieces", [1, 2, 40])
def test_binary_data_come_and_go_behind_the_json(served, pieces):
    body, length = binary_body(b"hi", b"\xff\x00", parameters={"binary_data_output": True})
    size = -(-len(body) // pieces)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    response = served.call("POST", "/infer", headers=[length], chunks=chunks)
    assert response.status == 200
    assert response.headers["content-type"] == "application/octet-stream"
    header_bytes = int(response.headers["inference-header-content-length"])
    outputs = orjson.loads(response.body[:header_bytes])["outputs"]
    assert [output["parameters"]["binary_data_size"] for output in outputs] == [12, 16]
    assert response.body[header_bytes:] == body[-12:] + bytes([2] + [0] * 7) * 2


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_bodies_are_compressed_both_ways_and_the_gain_is_told_and_counted(served, coding):
    served.replica.model.args = served.replica.model.args.model_copy(update={"compress_over_bytes": 100})
    plain = served.infer("a" * 90, "a" * 90)
    body = shrink(coding, orjson.dumps({"inputs": [text_tensor("a" * 90, "a" * 90)]}))
    headers = [("content-encoding", coding), ("accept-encoding", coding)]
    response = served.call("POST", "/infer", body, headers=headers)
    assert response.headers["content-encoding"] == coding
    assert response.headers["vary"] == "accept-encoding"
    assert expand(coding, response.body, 10_000) == plain.body
    ratio = 1 - len(response.body) / len(plain.body)
    assert float(response.headers["x-joulekeeper-compression_ratio"]) == pytest.approx(ratio, abs=0.001)
    counted = orjson.loads(served.call("GET", "/stats").body)["model_stats"][0]["compression"]
    assert counted == {"before_bytes": len(plain.body), "after_bytes": len(response.body)}


def text_tensor(*texts):
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}


def test_a_body_that_grows_beyond_the_bound_when_decompressed_is_refused(served):
    bomb = shrink("gzip", bytes(10_000_000))[:400]
    response = served.call("POST", "/infer", bomb, headers=[("content-encoding", "gzip")])
    assert response.status == 413
    assert "more than 400 bytes when decompressed" in error_of(response)


def test_a_sender_that_stops_is_told_that_it_was_too_slow(served):
    served.replica.model.args = served.replica.model.args.model_copy(update={"body_timeout_s": 0.01})

    async def receive():
        await asyncio.sleep(0 if pieces else 60)
        return pieces.pop()

    async def send(message):
        sent.append(message)

    pieces, sent = [{"type": "http.request", "body": b"{", "more_body": True}], []
    scope = {"type": "http", "method": "POST", "path": "/infer", "root_path": "", "headers": []}
    asyncio.run(served.replica.http(scope, receive, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_ten_thousand_pieces_take_no_more_memory_than_their_bytes(served):
    served.replica.model.args = served.replica.model.args.model_copy(update={"max_body_bytes": 20_000})
    body = b" " * 10_000 + orjson.dumps({"inputs": [text_tensor("hi")]})
    response = served.call("POST", "/infer", chunks=[body[i : i + 1] for i in range(len(body))])
    assert response.status == 200


def test_the_configuration_and_the_counts_are_those_of_the_model(served):
    served.infer("hi")
    served.infer("refuse")
    config = orjson.loads(served.call("GET", "/config").body)
    assert (config["name"], config["max_batch_size"]) == ("echo", 0)
    told = orjson.loads(served.call("GET", "/versions/2/stats").body)["model_stats"][0]
    assert (told["name"], told["version"], told["inference_count"]) == ("echo", "2", 1)
    assert told["last_inference"] > 1_700_000_000_000
    for name in ("success", "fail"):
        assert told["inference_stats"][name]["count"] == 1
        assert told["inference_stats"][name]["ns"] > 0


def test_a_refusal_of_the_model_is_passed_on(served):
    response = served.infer("refuse")
    assert response.status == 400
    assert error_of(response) == "text 'refuse' is refused; send another"


def test_a_failure_of_the_model_is_logged_and_told_by_its_type_only(served, caplog):
    with caplog.at_level(logging.ERROR, "ray.serve"):
        response = served.infer("break")
    assert response.status == 500
    assert error_of(response) == "echo@2 failed with ZeroDivisionError; the replica's log has the details"
    assert served.infer("hi").status == 200


def test_a_client_that_leaves_is_not_answered(served):
    assert served.call("POST", "/infer", chunks=[]) is None


def test_the_lifespan_is_acknowledged(served):
    sent, pending = [], [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive():
        return pending.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(served.replica.http({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
