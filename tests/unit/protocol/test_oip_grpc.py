"""Messages to requests, responses to messages, and the wire numbers that clients rely on."""

import pickle

import numpy as np
import pytest

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.grpc_descriptions import build_metadata
from app.protocol.messages import InferResponse, ModelSignature
from app.protocol.oip_grpc import build_response, parse_request
from app.protocol.tensors import bytes_array, dtype_of

SIGNATURE = ModelSignature.of(
    "minilm",
    "1",
    inputs=[TensorSpec("text", Datatype.BYTES, (-1,))],
    outputs=[TensorSpec("embedding", Datatype.FP32, (-1, 2))],
)


def text_request(**changes):
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[2], contents=pb.InferTensorContents(bytes_contents=[b"a", b"b"])
    )
    return pb.ModelInferRequest(**({"model_name": "minilm", "id": "x", "inputs": [tensor]} | changes))


def raw_text(*contents, shape=(2,)):
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=shape)
    return text_request(inputs=[tensor], raw_input_contents=contents)


def one_input(datatype, contents):
    signature = ModelSignature.of("m", "1", [TensorSpec("x", datatype, (-1,))], [])
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype.value, shape=[1], contents=contents)
    return parse_request(pb.ModelInferRequest(inputs=[tensor]), signature).inputs["x"]


def test_typed_and_raw_contents_are_the_same_request():
    typed = parse_request(text_request(), SIGNATURE)
    raw = parse_request(raw_text(b"\x01\x00\x00\x00a\x01\x00\x00\x00b"), SIGNATURE)
    assert typed.id == raw.id == "x"
    assert typed.inputs["text"].tolist() == raw.inputs["text"].tolist() == [b"a", b"b"]


@pytest.mark.parametrize(
    ("datatype", "contents", "value"),
    [
        (Datatype.BOOL, pb.InferTensorContents(bool_contents=[True]), True),
        (Datatype.INT8, pb.InferTensorContents(int_contents=[-128]), -128),
        (Datatype.INT64, pb.InferTensorContents(int64_contents=[-(2**63)]), -(2**63)),
        (Datatype.UINT16, pb.InferTensorContents(uint_contents=[65535]), 65535),
        (Datatype.UINT64, pb.InferTensorContents(uint64_contents=[2**64 - 1]), 2**64 - 1),
        (Datatype.FP64, pb.InferTensorContents(fp64_contents=[0.1]), 0.1),
    ],
)
def test_typed_contents_are_read_from_the_field_of_their_datatype(datatype, contents, value):
    array = one_input(datatype, contents)
    assert array.dtype == dtype_of(datatype)
    assert array.tolist() == [value]


@pytest.mark.parametrize(
    ("datatype", "contents", "says"),
    [
        (
            Datatype.INT8,
            pb.InferTensorContents(int_contents=[128]),
            "INT8 must lie within -128 and 127, got 128",
        ),
        (
            Datatype.FP32,
            pb.InferTensorContents(fp64_contents=[1]),
            "FP32 data belongs in fp32_contents, got fp64",
        ),
        (Datatype.FP32, pb.InferTensorContents(), "shape \\[1\\] needs 1 elements, data has 0"),
        (Datatype.FP16, pb.InferTensorContents(fp32_contents=[1]), "FP16 has no typed contents"),
    ],
)
def test_contents_that_do_not_fit_are_refused(datatype, contents, says):
    with pytest.raises(InvalidInput, match=says):
        one_input(datatype, contents)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (text_request(inputs=[]), "input 'text' is missing"),
        (text_request(raw_input_contents=[b""]), "contents beside raw_input_contents"),
        (raw_text(b"", b""), "raw_input_contents has 2 entries for 1 inputs"),
        (raw_text(b"", shape=(-1,)), "sizes in shape must be >= 0"),
        (
            text_request(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="nothing")]),
            "output 'nothing' is unknown",
        ),
    ],
)
def test_a_bad_message_is_refused_with_the_reason(message, says):
    with pytest.raises(InvalidInput, match=says):
        parse_request(message, SIGNATURE)


def test_parameters_keep_their_type():
    message = text_request()
    message.parameters["a"].bool_param = True
    message.parameters["b"].int64_param = -1
    message.parameters["c"].string_param = "s"
    message.parameters["d"].double_param = 0.5
    message.parameters["nothing"].Clear()
    assert parse_request(message, SIGNATURE).parameters == {"a": True, "b": -1, "c": "s", "d": 0.5}


RESPONSE = InferResponse(
    "x",
    {"embedding": np.array([[1, 2]], np.float32)},
    {"receipt_id": "r", "energy_uj": 5, "provisional": True},
)


def test_a_typed_request_is_answered_typed():
    message = build_response(RESPONSE, SIGNATURE, raw=False)
    assert list(message.outputs[0].contents.fp32_contents) == [1.0, 2.0]
    assert list(message.outputs[0].shape) == [1, 2]
    assert not message.raw_output_contents
    assert message.parameters["receipt_id"].string_param == "r"
    assert message.parameters["energy_uj"].int64_param == 5
    assert message.parameters["provisional"].WhichOneof("parameter_choice") == "bool_param"


def test_a_raw_request_is_answered_raw():
    message = build_response(RESPONSE, SIGNATURE, raw=True)
    assert not message.outputs[0].HasField("contents")
    assert np.frombuffer(message.raw_output_contents[0], "<f4").tolist() == [1.0, 2.0]


def test_an_output_without_a_typed_form_makes_the_whole_answer_raw():
    signature = ModelSignature.of(
        "m", "1", [], [TensorSpec("half", Datatype.FP16, (1,)), TensorSpec("word", Datatype.BYTES, (1,))]
    )
    outputs = {"half": np.array([1], np.float16), "word": bytes_array([b"w"], (1,))}
    message = build_response(InferResponse("", outputs), signature, raw=False)
    assert list(message.raw_output_contents) == [b"\x00\x3c", b"\x01\x00\x00\x00w"]


def test_metadata_describes_every_tensor():
    message = build_metadata(SIGNATURE, "abacus")
    assert (message.name, list(message.versions), message.platform) == ("minilm", ["1"], "abacus")
    assert list(message.outputs[0].shape) == [-1, 2]


def test_field_numbers_are_those_of_the_standard():
    numbers = {
        name: {field.name: field.number for field in pb.DESCRIPTOR.message_types_by_name[name].fields}
        for name in (
            "ModelInferRequest",
            "ModelInferResponse",
            "InferTensorContents",
            "ModelMetadataResponse",
        )
    }
    assert pb.DESCRIPTOR.package == "inference"
    assert numbers["ModelInferRequest"] == {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "inputs": 5,
        "outputs": 6,
        "raw_input_contents": 7,
    }
    assert numbers["ModelInferResponse"]["outputs"] == 5
    assert numbers["ModelInferResponse"]["raw_output_contents"] == 6
    assert list(numbers["InferTensorContents"].values()) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers["ModelMetadataResponse"] == {
        "name": 1,
        "versions": 2,
        "platform": 3,
        "inputs": 4,
        "outputs": 5,
    }


def test_messages_can_be_pickled():
    # Serve pickles the message on its way to a model that has no replica yet.
    assert pickle.loads(pickle.dumps(text_request())) == text_request()
