"""The Open Inference Protocol's protobuf messages to requests, responses to messages.

Knows nothing of gRPC servers or contexts. A request may carry its tensors typed or raw; the response answers
in kind, and raw if an output has a datatype that knows no typed form (FP16, BF16).

`parse_request` raises InvalidInput.
"""

import numpy as np

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.messages import (
    InferRequest,
    InferResponse,
    ModelSignature,
    Parameter,
    check_complete,
    check_requested,
    input_spec,
    refuse_elsewhere,
)
from app.protocol.raw_tensors import from_raw, to_raw
from app.protocol.tensors import (
    bytes_array,
    check_count,
    check_declared,
    check_range,
    dtype_of,
)

_FIELDS = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}
"""Where InferTensorContents holds each datatype; FP16 and BF16 travel only raw."""

_NARROW = frozenset({Datatype.INT8, Datatype.INT16, Datatype.UINT8, Datatype.UINT16})
"""Datatypes that share a field of 32 bits, so that their range must be checked."""


def parse_request(message: pb.ModelInferRequest, signature: ModelSignature) -> InferRequest:
    """The request in `message`, its inputs checked against `signature`."""
    raw = _raw_contents(message)
    inputs: dict[str, np.ndarray] = {}
    for position, tensor in enumerate(message.inputs):
        spec = input_spec(signature, tensor.name, inputs)
        refuse_elsewhere(f"input {tensor.name!r}", tensor.parameters)
        inputs[spec.name] = (
            from_raw(spec, tensor.datatype, tuple(tensor.shape), raw[position]) if raw else _typed(spec, tensor)
        )
    check_complete(signature, inputs)
    for output in message.outputs:
        refuse_elsewhere(f"output {output.name!r}", output.parameters)
    requested = check_requested(signature, tuple(output.name for output in message.outputs))
    return InferRequest(message.id, inputs, requested, _from_parameters(message))


def build_response(response: InferResponse, signature: ModelSignature, raw: bool) -> pb.ModelInferResponse:
    """The message of `response`, its tensors raw if `raw`, which should say how the request came."""
    message = pb.ModelInferResponse(model_name=signature.name, model_version=signature.version, id=response.id)
    for name, value in response.parameters.items():
        _set_parameter(message.parameters[name], value)
    specs = [signature.outputs[name] for name in response.outputs]
    raw = raw or any(spec.datatype not in _FIELDS for spec in specs)
    for spec, array in zip(specs, response.outputs.values(), strict=True):
        tensor = message.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        if raw:
            message.raw_output_contents.append(bytes(to_raw(spec.datatype, array)))
        else:
            getattr(tensor.contents, _FIELDS[spec.datatype]).extend(array.reshape(-1).tolist())
    return message


def build_stream_error(request: pb.ModelInferRequest, message: str) -> pb.ModelStreamInferResponse:
    """The message that tells a stream that `request` failed; its id and model tell which one it was."""
    named = pb.ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    return pb.ModelStreamInferResponse(error_message=message, infer_response=named)


def build_stream_response(response: pb.ModelInferResponse) -> pb.ModelStreamInferResponse:
    """`response` as a message of a stream; it says that its request has no other, as Triton's clients expect."""
    response.parameters["triton_final_response"].bool_param = True
    return pb.ModelStreamInferResponse(infer_response=response)


def _raw_contents(message: pb.ModelInferRequest) -> list[bytes]:
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs; send one for each"
        )
    if raw and any(tensor.HasField("contents") for tensor in message.inputs):
        raise InvalidInput("an input has contents beside raw_input_contents; send one or the other")
    return raw


def _typed(spec: TensorSpec, tensor: pb.ModelInferRequest.InferInputTensor) -> np.ndarray:
    sizes = check_declared(spec, tensor.datatype, tuple(tensor.shape))
    field = _FIELDS.get(spec.datatype)
    if field is None:
        raise InvalidInput(f"input {spec.name!r}: {spec.datatype} has no typed contents; send raw_input_contents")
    wrong = [used.name for used, _ in tensor.contents.ListFields() if used.name != field]
    if wrong:
        raise InvalidInput(f"input {spec.name!r}: {spec.datatype} data belongs in {field}, got {wrong[0]}")
    values = getattr(tensor.contents, field)
    check_count(spec, sizes, len(values))
    if spec.datatype is Datatype.BYTES:
        return bytes_array(list(values), sizes)
    if spec.datatype in _NARROW:
        check_range(spec, values)
    return np.array(values, dtype=dtype_of(spec.datatype)).reshape(sizes)


def _from_parameters(message: pb.ModelInferRequest) -> dict[str, Parameter]:
    chosen = ((name, value, value.WhichOneof("parameter_choice")) for name, value in message.parameters.items())
    return {name: getattr(value, choice) for name, value, choice in chosen if choice}


def _set_parameter(parameter: pb.InferParameter, value: Parameter) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
