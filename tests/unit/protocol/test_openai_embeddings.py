"""Embeddings and the list of models in OpenAI's shape."""

import base64
import json

import numpy as np
import pytest

from app.protocol.openai_embeddings import EmbeddingRequest, build_embeddings
from app.protocol.openai_errors import WireFault
from app.protocol.openai_models import ModelEntry, build_model, build_models
from app.protocol.openai_usage import Usage

VECTORS = np.array([[0.25, -1.5], [0.0, 3.0]], np.float32)


def request(**changes):
    return EmbeddingRequest.parse(json.dumps({"model": "minilm", "input": "hi"} | changes).encode())


def test_inputs_are_texts_or_tokens():
    assert request().inputs == ("hi",)
    assert request(input=["a", "b"]).inputs == ("a", "b")
    assert request(input=[[1, 2], [3]]).inputs == ((1, 2), (3,))


def test_vectors_are_numbers_unless_base64_is_asked_for():
    body = json.loads(
        build_embeddings(request(input=["a", "b"]), "minilm", VECTORS, Usage(4, receipt={"energy_uj": 9}))
    )
    assert body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(VECTORS.tolist())
        ],
        "model": "minilm",
        "usage": {"prompt_tokens": 4, "total_tokens": 4, "joulekeeper": {"energy_uj": 9}},
    }


def test_base64_is_of_little_endian_single_precision():
    for vectors in (VECTORS, VECTORS.astype(">f8"), np.asfortranarray(VECTORS)):
        body = json.loads(build_embeddings(request(encoding_format="base64"), "minilm", vectors, Usage(4)))
        rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4").tolist() for row in body["data"]]
        assert rows == VECTORS.tolist()


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ""}, "input", "empty_string"),
        ({"input": ["a", ""]}, "input", "empty_string"),
        ({"input": ["a"] * 2049}, "input", "array_above_max_length"),
        ({"input": ["a", 1]}, "input[1]", "invalid_type"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"encoding_format": 1}, "encoding_format", "invalid_type"),
        ({"dimensions": 0}, "dimensions", "integer_below_min_value"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"user": []}, "user", "invalid_type"),
    ],
)
def test_a_fault_names_its_parameter(changes, param, code):
    with pytest.raises(WireFault) as caught:
        request(**changes)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_a_width_that_the_model_has_not_is_refused():
    request(dimensions=384).check_dimensions(384)
    request().check_dimensions(384)
    with pytest.raises(WireFault, match="have 384 dimensions, got 64"):
        request(dimensions=64).check_dimensions(384)


def test_models_are_listed_with_what_we_tell_of_them():
    plain = ModelEntry("minilm", 7, "joulekeeper")
    told = {"id": "minilm", "object": "model", "created": 7, "owned_by": "joulekeeper"}
    assert json.loads(build_model(plain)) == told
    priced = ModelEntry("pycoder@int8", 7, "joulekeeper", {"uj_per_token": 5})
    assert json.loads(build_models([plain, priced])) == {
        "object": "list",
        "data": [told, told | {"id": "pycoder@int8", "joulekeeper": {"uj_per_token": 5}}],
    }
