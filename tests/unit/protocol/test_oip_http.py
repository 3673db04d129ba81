"""Bodies to requests, responses to bodies."""

import numpy as np
import orjson
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.messages import InferResponse, ModelSignature
from app.protocol.oip_http import build_metadata, build_response, parse_request
from app.protocol.tensors import bytes_array

SIGNATURE = ModelSignature.of(
    "adder",
    "3",
    inputs=[TensorSpec("a", Datatype.FP32, (-1,)), TensorSpec("b", Datatype.FP32, (-1,))],
    outputs=[TensorSpec("sum", Datatype.FP32, (-1,)), TensorSpec("word", Datatype.BYTES, (-1,))],
)


def tensor(name, **changes):
    return {"name": name, "datatype": "FP32", "shape": [1], "data": [1.5]} | changes


def body(**changes):
    return orjson.dumps({"inputs": [tensor("a"), tensor("b")]} | changes)


def test_a_request_is_read_whole():
    request = parse_request(
        body(id="seven", outputs=[{"name": "word"}, {"name": "sum"}], parameters={"depth": 2}), SIGNATURE
    )
    assert request.id == "seven"
    assert request.outputs == ("word", "sum")
    assert request.parameters == {"depth": 2}
    assert {name: array.tolist() for name, array in request.inputs.items()} == {"a": [1.5], "b": [1.5]}


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"", "the body is empty"),
        (b"{", "the body is not JSON: .* line 1 column 2"),
        (b"\xff", "the body is not JSON"),
        (b"[]", "must be a JSON object, got list"),
        (b"{}", "`inputs` is missing"),
        (body(inputs="a"), "`inputs` must be an array of tensors, got str"),
        (body(inputs=[]), "input 'a', 'b' is missing; adder takes 'a', 'b'"),
        (body(inputs=[tensor("a")]), "input 'b' is missing"),
        (body(inputs=[tensor("c")]), "input 'c' is unknown to adder; it takes 'a', 'b'"),
        (body(inputs=[tensor("a"), tensor("a")]), "input 'a' is given twice"),
        (body(inputs=[{"shape": [1]}]), "`inputs`\\[0\\] must be an object with a string `name`"),
        (body(inputs=[tensor("a", datatype="INT8")]), "input 'a': datatype must be FP32"),
        (
            body(inputs=[tensor("a", parameters={"binary_data_size": 4})]),
            "binary tensor data is not supported",
        ),
        (body(outputs=[{"name": "product"}]), "output 'product' is unknown to adder; it gives 'sum', 'word'"),
        (body(outputs={}), "`outputs` must be an array"),
        (body(id=7), "id must be a string, got 7"),
        (body(parameters=[1]), "`parameters` must be an object, got list"),
    ],
)
def test_a_bad_body_is_refused_with_the_reason(sent, says):
    with pytest.raises(InvalidInput, match=says):
        parse_request(sent, SIGNATURE)


def test_a_response_carries_its_receipt_and_flat_tensors():
    response = InferResponse(
        "seven",
        {"sum": np.array([0.1, 2], np.float32), "word": bytes_array(["ü".encode()], (1,))},
        {"receipt_id": "r1", "energy_uj": 12, "provisional": True},
    )
    assert orjson.loads(build_response(response, SIGNATURE)) == {
        "model_name": "adder",
        "model_version": "3",
        "id": "seven",
        "parameters": {"receipt_id": "r1", "energy_uj": 12, "provisional": True},
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [2], "data": [0.1, 2.0]},
            {"name": "word", "datatype": "BYTES", "shape": [1], "data": ["ü"]},
        ],
    }


def test_a_response_without_id_or_parameters_has_neither_key():
    message = orjson.loads(build_response(InferResponse("", {}), SIGNATURE))
    assert message == {"model_name": "adder", "model_version": "3", "outputs": []}


def test_metadata_describes_every_tensor():
    message = orjson.loads(build_metadata(SIGNATURE, "abacus"))
    assert message["versions"] == ["3"]
    assert message["platform"] == "abacus"
    assert message["inputs"][1] == {"name": "b", "datatype": "FP32", "shape": [-1]}
    assert [output["name"] for output in message["outputs"]] == ["sum", "word"]
