"""/v1/embeddings of a model that takes texts and gives vectors."""

import asyncio
import base64

import numpy as np
import orjson
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.engine.slices import SliceEnergy
from app.serving.args import Caching, ModelArgs
from app.serving.replica import ModelReplica
from tests.unit.serving.conftest import FakeClient, Served


class Lengths:
    """A vector of length and one for each text; weighs its letters."""

    name, version, max_rows = "elsewhere", "9", 8
    batch, memory_bytes = True, 0
    inputs = (TensorSpec("text", Datatype.BYTES, (-1,)),)
    outputs = (TensorSpec("embedding", Datatype.FP32, (-1, 2)),)

    def weight(self, inputs):
        return float(sum(map(len, inputs["text"])))

    def run(self, inputs):
        return {"embedding": np.array([[len(text), 1] for text in inputs["text"]], np.float32)}


def served_with(runner, **args):
    client = FakeClient(told=SliceEnergy(1200, 1.0, "counter", True))
    wanted = ModelArgs(name="echo", source="package:echo", version="2", tenant="acme", **args)
    replica = ModelReplica(wanted, open_client=lambda _: client, load_runner=lambda _: runner)
    return Served(replica, runner, client).load()


@pytest.fixture
def served():
    served = served_with(Lengths())
    yield served
    served.replica.model.close()


def embed(served, path="/v1/embeddings", **body):
    return served.call("POST", path, orjson.dumps({"model": "echo", "input": "hello"} | body))


def test_every_text_has_its_vector_and_tokens_are_what_the_model_weighs(served):
    answer = embed(served, input=["hello", "you"])
    told = orjson.loads(answer.body)
    assert (answer.status, told["object"], told["model"]) == (200, "list", "echo")
    assert [each["embedding"] for each in told["data"]] == [[5.0, 1.0], [3.0, 1.0]]
    assert (told["usage"]["prompt_tokens"], told["usage"]["total_tokens"]) == (8, 8)
    assert told["usage"]["joulekeeper"]["energy_uj"] == 1200
    assert answer.headers["x-joulekeeper-receipt_id"] == "r-1"
    assert served.replica.counts.success.count == 1


def test_base64_is_of_the_same_numbers(served):
    told = orjson.loads(embed(served, encoding_format="base64").body)
    vector = np.frombuffer(base64.b64decode(told["data"][0]["embedding"]), "<f4")
    assert vector.tolist() == [5.0, 1.0]


def test_a_kept_answer_tells_its_tokens_too():
    served = served_with(Lengths(), cache=Caching())
    try:
        first, again = (orjson.loads(embed(served).body)["usage"]["prompt_tokens"] for _ in range(2))
        assert (first, again) == (5, 5)
    finally:
        served.replica.model.close()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"model": "other"}, 404, "does not exist"),
        ({"model": "echo@7"}, 404, "does not exist"),
        ({"input": [1, 2]}, 400, "not token ids"),
        ({"input": []}, 400, "empty"),
        ({"dimensions": 7}, 400, "dimensions"),
    ],
)
def test_what_cannot_be_is_refused_in_openais_shape(served, body, status, says):
    answer = embed(served, **body)
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["type"]) == (status, "invalid_request_error")
    assert says in error["message"]
    assert served.replica.counts.fail.count == 1


def test_who_routes_has_looked_at_the_version_and_a_path_may_name_it(served):
    body = orjson.dumps({"model": "echo@prod", "input": "x"})
    assert served.call("POST", "/v1/embeddings", body).status == 404
    assert served.call("POST", "/v1/embeddings", body, [("x-joulekeeper-routed", "echo")]).status == 200
    assert embed(served, "/versions/2/v1/embeddings", model="echo@2").status == 200
    unknown = embed(served, "/versions/9/v1/embeddings", model="echo@9")
    assert (unknown.status, orjson.loads(unknown.body)["error"]["code"]) == (404, "model_not_found")


def test_methods_paths_and_codings_that_are_not_there_have_that_shape_too(served):
    for method, path, headers, status in (
        ("GET", "/v1/embeddings", (), 405),
        ("POST", "/v1/nothing", (), 404),
        ("POST", "/v1/embeddings", [("content-encoding", "gzip")], 415),
    ):
        answer = served.call(method, path, b"{}", headers)
        assert answer.status == status
        assert orjson.loads(answer.body)["error"]["message"]


def test_a_model_that_gives_no_vectors_says_so(unloaded):
    served = unloaded.load()
    answer = embed(served)
    assert answer.status == 400
    assert "gives no embeddings" in orjson.loads(answer.body)["error"]["message"]


def test_many_callers_at_once_each_get_their_own(served):
    async def ask():
        texts = ["x" * length for length in range(1, 9)]
        bodies = [orjson.dumps({"model": "echo", "input": text}) for text in texts]
        return await asyncio.gather(*(served.acall("POST", "/v1/embeddings", body) for body in bodies))

    answers = asyncio.run(ask())
    assert [orjson.loads(answer.body)["data"][0]["embedding"][0] for answer in answers] == list(map(float, range(1, 9)))
