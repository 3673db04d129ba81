"""The Open Inference Protocol's JSON: bodies to requests, responses to bodies.

Knows nothing of HTTP servers, routes or headers. Tensors travel as JSON. The binary tensor extension is
refused for inputs; outputs asked for in binary come as JSON, as the absent `binary_data_size` tells.

    request = parse_request(body, signature)
    body = build_response(InferResponse(request.id, outputs, parameters), signature)

`parse_request` raises InvalidInput.
"""

from typing import Any

import numpy as np
import orjson

from app.domain.tensor import TensorSpec
from app.errors import InvalidInput
from app.protocol.messages import (
    InferRequest,
    InferResponse,
    ModelSignature,
    check_complete,
    check_requested,
    input_spec,
)
from app.protocol.tensors import from_json, to_json

JSON = "application/json"


def parse_request(body: bytes, signature: ModelSignature) -> InferRequest:
    """The request in `body`, its inputs checked against `signature`."""
    message = _object(body)
    identifier = message.get("id", "")
    if not isinstance(identifier, str):
        raise InvalidInput(f"id must be a string, got {identifier!r}")
    inputs: dict[str, np.ndarray] = {}
    for tensor in _tensors(message, "inputs"):
        spec = input_spec(signature, tensor["name"], inputs)
        _refuse_binary(tensor)
        inputs[spec.name] = from_json(spec, tensor.get("datatype"), tensor.get("shape"), tensor.get("data"))
    check_complete(signature, inputs)
    requested = tuple(tensor["name"] for tensor in _tensors(message, "outputs"))
    return InferRequest(identifier, inputs, check_requested(signature, requested), _parameters(message))


def build_response(response: InferResponse, signature: ModelSignature) -> bytes:
    """The body of `response`, tensor data flat. Raises InvalidInput for BYTES that are not UTF-8."""
    message: dict[str, Any] = {"model_name": signature.name, "model_version": signature.version}
    if response.id:
        message["id"] = response.id
    if response.parameters:
        message["parameters"] = response.parameters
    message["outputs"] = [_output(signature.outputs[name], array) for name, array in response.outputs.items()]
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)


def build_metadata(signature: ModelSignature, platform: str) -> bytes:
    """The body that describes the model."""
    return orjson.dumps(
        {
            "name": signature.name,
            "versions": [signature.version],
            "platform": platform,
            "inputs": [_described(spec) for spec in signature.inputs.values()],
            "outputs": [_described(spec) for spec in signature.outputs.values()],
        }
    )


def build_readiness(name: str, version: str, ready: bool) -> bytes:
    """The body that says whether the model answers."""
    return orjson.dumps({"name": name, "version": version, "ready": ready})


def build_error(message: str) -> bytes:
    """The body of every refusal."""
    return orjson.dumps({"error": message})


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        raise InvalidInput("the body is empty; send a JSON object with `inputs`")
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise InvalidInput(f"the body must be a JSON object, got {type(message).__name__}; send one with `inputs`")
    return message


def _tensors(message: dict[str, Any], key: str) -> list[dict[str, Any]]:
    tensors = message.get(key)
    if tensors is None:
        if key == "inputs":
            raise InvalidInput("`inputs` is missing; send an array of tensors")
        return []
    if not isinstance(tensors, list):
        raise InvalidInput(f"`{key}` must be an array of tensors, got {type(tensors).__name__}")
    for position, tensor in enumerate(tensors):
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise InvalidInput(f"`{key}`[{position}] must be an object with a string `name`")
    return tensors


def _refuse_binary(tensor: dict[str, Any]) -> None:
    parameters = tensor.get("parameters")
    if isinstance(parameters, dict) and "binary_data_size" in parameters:
        raise InvalidInput(
            f"input {tensor['name']!r}: binary tensor data is not supported over HTTP; send `data` as JSON, or use gRPC"
        )


def _parameters(message: dict[str, Any]) -> dict[str, Any]:
    parameters = message.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput(f"`parameters` must be an object, got {type(parameters).__name__}")
    return parameters


def _output(spec: TensorSpec, array: np.ndarray) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.datatype,
        "shape": array.shape,
        "data": to_json(spec.datatype, array),
    }


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
