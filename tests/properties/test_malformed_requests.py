"""Whatever a client sends, a request is read or refused with a reason: nothing else is raised."""

import contextlib
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol import oip_grpc
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.messages import InferResponse, ModelSignature
from app.protocol.oip_http import Framing, HttpInference
from app.protocol.tensors import dtype_of

SPECS = [TensorSpec(str(each).lower(), each, (-1, -1) if each == "FP32" else (-1,)) for each in Datatype]
SIGNATURES = [ModelSignature.of("m", "1", [spec], [spec]) for spec in SPECS]

SIZES = st.one_of(
    st.integers(-2, 5), st.sampled_from([2**31, 2**62, 2**63, 2**64, 10**30]), st.booleans(), st.none(), st.text()
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.sampled_from([1e39, -1e308])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
NAMES = st.sampled_from([spec.name for spec in SPECS]) | st.text(max_size=4)
DATATYPES = st.sampled_from([str(each) for each in Datatype]) | VALUES
PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "shared_memory_region", "classification", "other"]),
    VALUES | st.integers(-1, 20),
    max_size=2,
)


@st.composite
def tensors(draw, spec):
    """A tensor that is right, but for what is drawn otherwise."""
    sizes = [draw(st.integers(0, 3)) for _ in spec.shape]
    count = int(np.prod(sizes))
    right = {"name": spec.name, "datatype": str(spec.datatype), "shape": sizes}
    if draw(st.booleans()):
        right["parameters"] = {"binary_data_size": count * 4}
    else:
        right["data"] = [{"b": True, "O": "x"}.get(dtype_of(spec.datatype).kind, 1)] * count
    wrong = {
        "name": NAMES,
        "datatype": DATATYPES,
        "shape": st.lists(SIZES, max_size=3) | VALUES,
        "data": VALUES,
        "parameters": PARAMETERS | VALUES,
    }
    for key in draw(st.sets(st.sampled_from(sorted(wrong)), max_size=2)):
        right[key] = draw(wrong[key])
    return right


@st.composite
def bodies(draw):
    """A signature, a body for it, and how it is framed."""
    signature = draw(st.sampled_from(SIGNATURES))
    spec = next(iter(signature.inputs.values()))
    message = {"inputs": draw(st.lists(tensors(spec), max_size=2) | VALUES)}
    for key, values in (("id", VALUES), ("parameters", PARAMETERS | VALUES), ("outputs", st.lists(tensors(spec)))):
        if draw(st.booleans()):
            message[key] = draw(values)
    told = json.dumps(message).encode()
    body = told + draw(st.binary(max_size=30))
    cut = draw(st.sampled_from([0, 0, 0, 1, 7]))
    body = body[: max(0, len(body) - cut)]
    json_bytes = draw(st.sampled_from([None, 0, len(told), len(told), len(told) + 1, 2**40]))
    coding = draw(st.sampled_from(["", "", "", "gzip", "zstd"]))
    return signature, body, Framing(json_bytes, coding=coding, max_bytes=100_000)


def answer(request, signature):
    """The inputs as outputs, those asked for."""
    outputs = {name: request.inputs[name] for name in request.outputs or signature.outputs}
    return InferResponse(request.id, outputs, {})


@settings(max_examples=400, deadline=None)
@given(bodies())
def test_a_body_is_read_or_refused(case):
    signature, body, framing = case
    inference = HttpInference(body, signature, framing)
    with contextlib.suppress(InvalidInput):
        request = inference.decode()
        (spec,) = signature.inputs.values()
        array = request.inputs[spec.name]
        assert array.dtype == dtype_of(spec.datatype)
        assert array.ndim == len(spec.shape)
        inference.encode(answer(request, signature))


@st.composite
def messages(draw):
    """A signature and a message whose tensors may not fit it."""
    signature = draw(st.sampled_from(SIGNATURES))
    spec = next(iter(signature.inputs.values()))
    message = pb.ModelInferRequest(model_name="m", id=draw(st.text(max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        tensor = message.inputs.add(name=draw(st.just(spec.name) | NAMES))
        tensor.datatype = draw(st.just(str(spec.datatype)) | st.text(max_size=5))
        tensor.shape.extend(draw(st.lists(st.integers(-1, 4) | st.sampled_from([2**40, 2**63 - 1]), max_size=3)))
        contents = tensor.contents
        if draw(st.booleans()):
            contents.int_contents.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
        if draw(st.booleans()):
            contents.fp32_contents.extend(draw(st.lists(st.floats(width=32), max_size=4)))
        if draw(st.booleans()):
            contents.bytes_contents.extend(draw(st.lists(st.binary(max_size=4), max_size=4)))
    message.raw_input_contents.extend(draw(st.lists(st.binary(max_size=20), max_size=2)))
    return signature, message


@settings(max_examples=400, deadline=None)
@given(messages())
def test_a_message_is_read_or_refused(case):
    signature, message = case
    with contextlib.suppress(InvalidInput):
        request = oip_grpc.parse_request(message, signature)
        oip_grpc.build_response(answer(request, signature), signature, raw=bool(message.raw_input_contents))
