"""A pool with a budget: who names no variant gets the one whose turn it is and is told so; 429 when nothing is left."""

import asyncio
from collections import Counter

import grpc
import numpy as np
import orjson
import pytest
from pydantic import ValidationError

from app.access.gate import Gate
from app.clock import ManualClock
from app.engine.purse import Purse
from app.engine.spending_words import Told
from app.models.repository import RepositorySettings
from app.models.runners.python import PythonRunner
from app.policy.spending import SpendingRules
from app.protocol.generated import open_inference_pb2 as pb
from app.serving.pool import PoolReplica
from app.serving.pool_args import PoolArgs, offered_of, variants_of
from tests.unit.serving.conftest import FakeClient

ARGS = {
    "name": "tone",
    "variants": dict.fromkeys(("big", "small"), "python:tests.fixtures.echo:Prefix"),
    "quality": {"big": 0.9, "small": 0.8},
    "max_memory_mb": 1,
    "spending": SpendingRules(gco2e_per_day=5),
}


class Prefix:
    inputs = outputs = ({"name": "text", "datatype": "BYTES", "shape": [-1]},)
    memory_bytes = 100

    def __init__(self, prefix):
        self.prefix = prefix.encode()

    def run(self, inputs):
        return {"text": np.array([self.prefix + text for text in inputs["text"]], object)}


class Context:
    """What gRPC hands to a method."""

    def __init__(self):
        self.trailing, self.code = (), None

    def peer(self):
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self):
        return ()

    def set_trailing_metadata(self, metadata):
        self.trailing = tuple(metadata)

    def set_code(self, code):
        self.code = code

    def set_details(self, details):
        self.details = details


@pytest.fixture
def pool(monkeypatch):
    import tests.fixtures.echo

    monkeypatch.setattr(tests.fixtures.echo, "Prefix", Prefix, raising=False)
    args = variants_of(PoolArgs(**ARGS), RepositorySettings("/nowhere"))
    gate = Gate.open("default")
    gate.unbar()
    clock = ManualClock()
    purse = Purse("tone", args.spending, offered_of(args), clock)
    replica = PoolReplica(
        args,
        open_client=lambda _: FakeClient(),
        load_runner=lambda args: PythonRunner("tests.fixtures.echo:Prefix", {"prefix": f"{args.version}:"}),
        open_gate=lambda *_: gate,
        purse=purse,
    )
    replica.purse = purse
    purse.renew(told(clock))
    return replica


def told(clock, **changes):
    ends_s = clock.wall_ns() / 1e9 + 600
    known = {"shares": {"big": 0.25, "small": 0.75}, "why": "budget", "spent": False, "ends_s": ends_s}
    return Told(**known | {"left_uj": None, "left_ugco2e": None} | changes)


async def post(replica, path="/infer", method="POST"):
    body = orjson.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}]})
    sent = []

    async def receive():
        return {"type": "http.request", "body": body if method == "POST" else b"", "more_body": False}

    async def send(message):
        sent.append(message)

    root = "/v2/models/tone"
    scope = {"type": "http", "method": method, "path": root + path, "root_path": root, "headers": []}
    await replica.__serve_build_asgi_app__()(scope | {"query_string": b"", "client": ("127.0.0.1", 1)}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), orjson.loads(sent[1]["body"])


def test_the_plain_name_is_answered_by_shares_and_the_response_says_by_whom_and_why(pool):
    async def test():
        answers = [await post(pool) for _ in range(8)]
        said = Counter(body["model_version"] for _, _, body in answers)
        assert said == Counter(small=6, big=2)
        for status, headers, body in answers:
            assert status == 200
            assert headers[b"x-joulekeeper-variant"].decode() == body["model_version"]
            assert headers[b"x-joulekeeper-variant-why"] == b"budget"
            assert body["outputs"][0]["data"] == [f"{body['model_version']}:x"]
        counted = {name: (each.answers, each.steered) for name, each in pool.purse.poll("me").counted.items()}
        assert counted == {"small": (6, 6), "big": (2, 2)}

    asyncio.run(test())


def test_who_names_a_variant_gets_it_and_counts_as_his_own_choice(pool):
    async def test():
        for _ in range(3):
            _, headers, body = await post(pool, "/versions/big/infer")
            assert body["model_version"] == "big"
            assert b"x-joulekeeper-variant" not in headers
        counted = pool.purse.poll("me").counted["big"]
        assert (counted.answers, counted.steered) == (3, 0)

    asyncio.run(test())


def test_a_spent_budget_is_429_with_the_time_to_come_again_and_questions_are_still_answered(pool):
    async def test():
        pool.purse.renew(told(ManualClock(), spent=True))
        for path in ("/infer", "/versions/small/infer"):
            status, headers, body = await post(pool, path)
            assert (status, headers[b"retry-after"]) == (429, b"600")
            assert "has used up its budget of 5 gCO2e a day; come again in 600 s" in body["error"]
        assert (await post(pool, "", "GET"))[0] == 200

    asyncio.run(test())


def test_grpc_says_it_in_trailing_metadata_and_refuses_with_resource_exhausted(pool):
    async def test():
        tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"x")
        request = pb.ModelInferRequest(model_name="tone", inputs=[tensor])
        context = Context()
        answer = await pool.ModelInfer(request, context)
        assert dict(context.trailing)["x-joulekeeper-variant"] == answer.model_version == "small"
        pool.purse.renew(told(ManualClock(), spent=True))
        context = Context()
        await pool.ModelInfer(request, context)
        assert (context.code, dict(context.trailing)["retry-after"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "600")

    asyncio.run(test())


def test_rules_that_cannot_be_kept_are_refused_when_it_is_built():
    with pytest.raises(ValidationError, match="needs gco2e_per_day, joules_per_day or mean_quality"):
        SpendingRules()
    unknown = PoolArgs(**ARGS | {"quality": {"big": 0.9}})
    with pytest.raises(Exception, match="answers of small are worth"):
        variants_of(unknown, RepositorySettings("/nowhere"))
