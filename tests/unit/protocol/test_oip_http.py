"""Bodies to requests, responses to bodies: JSON, and binary data behind it."""

import numpy as np
import orjson
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput, TooLarge
from app.protocol.coding import expand, shrink
from app.protocol.descriptions import build_config, build_metadata
from app.protocol.messages import InferResponse, ModelSignature
from app.protocol.oip_http import Framing, HttpInference
from app.protocol.tensors import bytes_array

SIGNATURE = ModelSignature.of(
    "adder",
    "3",
    inputs=[TensorSpec("a", Datatype.FP32, (-1,)), TensorSpec("b", Datatype.FP32, (-1,))],
    outputs=[TensorSpec("sum", Datatype.FP32, (-1,)), TensorSpec("word", Datatype.BYTES, (-1,))],
)
ANSWER = InferResponse("", {"sum": np.array([0.5, 2], np.float32), "word": bytes_array([b"\xff", b""], (2,))})


def tensor(name, **changes):
    return {"name": name, "datatype": "FP32", "shape": [1], "data": [1.5]} | changes


def body(**changes):
    return orjson.dumps({"inputs": [tensor("a"), tensor("b")]} | changes)


def parse_request(sent, signature=SIGNATURE, **framing):
    return HttpInference(sent, signature, Framing(**framing)).decode()


def build_response(response, **changes):
    inference = HttpInference(body(**changes), SIGNATURE)
    inference.decode()
    return inference.encode(response)


def binary(name, size, **changes):
    sent = {"name": name, "datatype": "FP32", "shape": [size // 4], "parameters": {"binary_data_size": size}}
    return sent | changes


def framed(*inputs, raw=b"", padding=0, **changes):
    """A body with `raw` behind its JSON, as one buffer that can be written to, and the framing to read it with."""
    head = orjson.dumps({"inputs": list(inputs)} | changes)
    return bytearray(padding) + head + raw, Framing(json_bytes=len(head), padding=padding)


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
        (body(inputs=[tensor("a", shape=[2, 0], data=[])]), "shape must be"),
        (
            body(inputs=[tensor("a", parameters={"binary_data_size": 4})]),
            "send Inference-Header-Content-Length, the length of the JSON",
        ),
        (
            body(inputs=[tensor("a", parameters={"shared_memory_region": "r"})]),
            "input 'a': parameter 'shared_memory_region' is not supported",
        ),
        (body(inputs=[tensor("a", parameters=[])]), "input 'a': `parameters` must be an object, got list"),
        (body(outputs=[{"name": "product"}]), "output 'product' is unknown to adder; it gives 'sum', 'word'"),
        (body(outputs={}), "`outputs` must be an array"),
        (body(outputs=[{"name": "sum", "parameters": {"classification": 3}}]), "'classification' is not supported"),
        (body(outputs=[{"name": "sum", "parameters": {"binary_data": 1}}]), "binary_data must be true or false, got 1"),
        (body(parameters={"binary_data_output": "yes"}), "binary_data_output must be true or false, got 'yes'"),
        (body(id=7), "id must be a string, got 7"),
        (body(parameters=[1]), "`parameters` must be an object, got list"),
    ],
)
def test_a_bad_body_is_refused_with_the_reason(sent, says):
    with pytest.raises(InvalidInput, match=says):
        parse_request(sent, SIGNATURE)


def test_a_size_of_zero_lets_no_other_size_grow_beyond_bounds():
    signature = ModelSignature.of("m", "1", [TensorSpec("x", Datatype.FP64, (-1, -1))], [])
    sent = orjson.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [2**62, 0], "data": []}]})
    with pytest.raises(InvalidInput, match="sizes of an empty tensor may multiply to"):
        parse_request(sent, signature)


def test_binary_data_are_read_in_the_order_of_the_inputs_beside_json():
    raw = np.array([1, 2], "<f4").tobytes() + np.array([7], "<f4").tobytes()
    sent, framing = framed(binary("b", 8), binary("a", 4), raw=raw)
    request = HttpInference(sent, SIGNATURE, framing).decode()
    assert request.inputs["b"].tolist() == [1, 2]
    assert request.inputs["a"].tolist() == [7]
    sent, framing = framed(tensor("a"), binary("b", 8), raw=raw[:8])
    request = HttpInference(sent, SIGNATURE, framing).decode()
    assert (request.inputs["a"].tolist(), request.inputs["b"].tolist()) == ([1.5], [1, 2])


def test_aligned_binary_numbers_are_a_view_of_the_body_and_can_be_written_to():
    head = len(framed(binary("a", 8), binary("b", 4))[0])
    sent, framing = framed(binary("a", 8), binary("b", 4), raw=bytes(12), padding=-head % 16)
    request = HttpInference(sent, SIGNATURE, framing).decode()
    for array in request.inputs.values():
        assert np.shares_memory(array, np.frombuffer(sent, np.uint8))
        assert array.flags.writeable


def test_unaligned_or_read_only_binary_numbers_are_copied():
    head = len(framed(binary("a", 8), binary("b", 4))[0])
    for sent, framing in (
        framed(binary("a", 8), binary("b", 4), raw=bytes(12), padding=-head % 16 + 1),
        (bytes(framed(binary("a", 8), binary("b", 4), raw=bytes(12))[0]), Framing(json_bytes=head)),
    ):
        array = HttpInference(sent, SIGNATURE, framing).decode().inputs["a"]
        assert array.flags.aligned
        assert array.flags.writeable
        assert not np.shares_memory(array, np.frombuffer(sent, np.uint8))


@pytest.mark.parametrize(
    ("inputs", "raw", "says"),
    [
        ((binary("a", 8), binary("b", 4)), bytes(11), "input 'b': its binary data end at byte 12, 11 follow the JSON"),
        ((binary("a", 8), binary("b", 4)), bytes(13), "13 bytes of binary data follow the JSON, inputs take 12"),
        ((binary("a", 8), tensor("b")), b"", "input 'a': its binary data end at byte 8, 0 follow"),
        ((tensor("a"), tensor("b")), b"x", "1 bytes of binary data follow the JSON, inputs take 0"),
        ((binary("a", -4), tensor("b")), b"", "binary_data_size must be a whole number >= 0, got -4"),
        ((binary("a", 8, parameters={"binary_data_size": True}),), b"", "a whole number >= 0, got True"),
        ((binary("a", 8, data=[1, 2]),), bytes(8), "input 'a' has `data` beside binary_data_size"),
        ((binary("a", 8, shape=[3]),), bytes(8), "shape \\[3\\] needs 12 bytes of FP32, got 8"),
    ],
)
def test_binary_data_that_do_not_fit_are_refused(inputs, raw, says):
    sent, framing = framed(*inputs, raw=raw)
    with pytest.raises(InvalidInput, match=says):
        HttpInference(sent, SIGNATURE, framing).decode()


def test_a_header_length_beyond_the_body_is_refused():
    with pytest.raises(InvalidInput, match="Inference-Header-Content-Length is 99, but the body has 2 bytes"):
        parse_request(b"{}", json_bytes=99)


def test_a_body_without_json_is_the_only_input():
    numbers = ModelSignature.of("m", "1", [TensorSpec("x", Datatype.FP16, (-1, 2))], SIGNATURE.outputs.values())
    inference = HttpInference(np.arange(6, dtype="<f2").tobytes(), numbers, Framing(json_bytes=0))
    assert inference.decode().inputs["x"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert inference.encode(ANSWER).json_bytes is not None
    text = ModelSignature.of("m", "1", [TensorSpec("x", Datatype.BYTES, (-1, 1))], [])
    read = parse_request(b"\x05hello", text, json_bytes=0).inputs["x"]
    assert (read.shape, read[0, 0]) == ((1, 1), b"\x05hello")
    with pytest.raises(InvalidInput, match="needs a model with one input"):
        parse_request(bytes(8), json_bytes=0)
    with pytest.raises(InvalidInput, match="needs 4 bytes of FP16, got 5"):
        parse_request(bytes(5), numbers, json_bytes=0)


def test_a_response_carries_its_receipt_and_flat_tensors():
    response = InferResponse(
        "seven",
        {"sum": np.array([0.1, 2], np.float32), "word": bytes_array(["ü".encode()], (1,))},
        {"receipt_id": "r1", "energy_uj": 12, "provisional": True},
    )
    assert orjson.loads(build_response(response).body) == {
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
    message = orjson.loads(build_response(InferResponse("", {})).body)
    assert message == {"model_name": "adder", "model_version": "3", "outputs": []}


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({"parameters": {"binary_data_output": True}}, [8, 9]),
        ({"outputs": [{"name": "sum", "parameters": {"binary_data": True}}]}, [8]),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "sum", "parameters": {"binary_data": False}}, {"name": "word"}],
            },
            [None, 9],
        ),
    ],
)
def test_outputs_asked_for_as_binary_data_follow_the_json(asked, sizes):
    names = [output["name"] for output in asked.get("outputs", [{"name": "sum"}, {"name": "word"}])]
    answer = build_response(InferResponse("", {name: ANSWER.outputs[name] for name in names}), **asked)
    assert answer.media_type == "application/octet-stream"
    outputs = orjson.loads(answer.body[: answer.json_bytes])["outputs"]
    assert [output.get("parameters", {}).get("binary_data_size") for output in outputs] == sizes
    assert all(("data" in output) is (size is None) for output, size in zip(outputs, sizes, strict=True))
    assert len(answer.body) == answer.json_bytes + sum(size or 0 for size in sizes)
    if sizes[-1] == 9:
        assert answer.body.endswith(b"\x01\x00\x00\x00\xff\x00\x00\x00\x00")


def test_bytes_that_are_not_text_cannot_be_json():
    with pytest.raises(InvalidInput, match="ask for binary data"):
        build_response(ANSWER)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_compressed_bodies_are_read_up_to_the_bound(coding):
    plain = body(id="x" * 1000)
    assert parse_request(shrink(coding, plain), coding=coding, max_bytes=len(plain)).id == "x" * 1000
    with pytest.raises(TooLarge, match=f"more than {len(plain) - 1} bytes when decompressed"):
        parse_request(shrink(coding, plain), coding=coding, max_bytes=len(plain) - 1)
    sent, framing = framed(binary("a", 8), binary("b", 4), raw=bytes(12))
    both = Framing(framing.json_bytes, coding=coding, max_bytes=1000)
    assert HttpInference(shrink(coding, bytes(sent)), SIGNATURE, both).decode().inputs["a"].tolist() == [0, 0]


def test_an_answer_is_compressed_when_it_is_large_enough_and_gets_smaller():
    large = InferResponse("", {"sum": np.zeros(1000, np.float32)})
    for over, coding in ((100, "zstd"), (10_000, "")):
        inference = HttpInference(body(), SIGNATURE, Framing(answer_coding="zstd", answer_coding_over_bytes=over))
        inference.decode()
        answer = inference.encode(large)
        assert answer.coding == coding
    plain = HttpInference(body(), SIGNATURE).encode(large).body
    inference = HttpInference(body(), SIGNATURE, Framing(answer_coding="gzip"))
    answer = inference.encode(large)
    assert answer.plain_bytes == len(plain)
    assert expand("gzip", answer.body, len(plain)) == plain
    assert inference.encode(InferResponse("", {})).coding == ""


def test_metadata_and_configuration_describe_every_tensor():
    message = orjson.loads(build_metadata(SIGNATURE, "abacus"))
    assert message["versions"] == ["3"]
    assert message["platform"] == "abacus"
    assert message["inputs"][1] == {"name": "b", "datatype": "FP32", "shape": [-1]}
    assert [output["name"] for output in message["outputs"]] == ["sum", "word"]
    config = orjson.loads(build_config(SIGNATURE, "abacus"))
    assert config["max_batch_size"] == 0
    assert config["output"][1] == {"name": "word", "data_type": "TYPE_STRING", "dims": [-1]}
