"""Inference over HTTP in the Open Inference Protocol: JSON bodies, and binary tensor data behind them.

Knows nothing of HTTP servers or routes; the few header values that matter come in as arguments. One object reads one
request and answers it in kind, since the request says which outputs shall come as binary data:

    inference = HttpInference(body, signature, Framing(json_bytes=113))
    request = inference.decode()
    answer = inference.encode(InferResponse(request.id, outputs, parameters))

The binary extension is Triton's: https://github.com/triton-inference-server/server/blob/main/docs/protocol/
extension_binary_data.md (read 2026-11-22), raw binary requests included. `decode` raises InvalidInput and TooLarge,
`encode` InvalidInput for BYTES that JSON cannot carry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from app.domain.tensor import Datatype
from app.errors import InvalidInput
from app.protocol.coding import expand, shrink
from app.protocol.json_body import binary_part, flag, object_or_empty, read_object, tensors
from app.protocol.messages import (
    InferRequest,
    InferResponse,
    ModelSignature,
    check_complete,
    check_requested,
    input_spec,
    only_input,
    refuse_elsewhere,
)
from app.protocol.raw_tensors import Buffer, from_raw, to_raw
from app.protocol.tensors import bytes_array, check_count, from_json, to_json

JSON = "application/json"
BINARY = "application/octet-stream"

_NONE: Mapping[str, bool] = {}


@dataclass(slots=True)
class Framing:
    """What the headers of a request say of its body and of the answer wanted."""

    json_bytes: int | None = None
    """Inference-Header-Content-Length: where JSON ends and binary data begin. None: JSON alone."""
    padding: int = 0
    """Bytes before the body in its buffer, by which binary data may come to lie where numbers belong."""
    coding: str = ""
    """content-encoding of the body, one of CODINGS; empty: none."""
    max_bytes: int = 0
    """Bound on the size without `coding`."""
    answer_coding: str = ""
    """Coding of an answer that is larger than `answer_coding_over_bytes`; empty: none."""
    answer_coding_over_bytes: int = 0


@dataclass(slots=True)
class HttpAnswer:
    """A body and what its headers must say of it."""

    body: bytes
    media_type: str = JSON
    json_bytes: int | None = None
    """Inference-Header-Content-Length; None: JSON alone."""
    coding: str = ""
    plain_bytes: int = 0
    """Size of the body before `coding`; 0 without one."""


class HttpInference:
    """One request, from body to body. Not reusable."""

    __slots__ = ("_binary", "_body", "_framing", "_signature")

    def __init__(self, body: bytes | bytearray, signature: ModelSignature, framing: Framing | None = None) -> None:
        self._body = body
        self._signature = signature
        self._framing = framing or Framing()
        self._binary: Mapping[str, bool] = _NONE
        """Which outputs are sent as binary data."""

    def decode(self) -> InferRequest:
        """The request in the body, its inputs checked against the signature."""
        framing = self._framing
        body: Buffer = self._body
        if framing.coding:
            body = expand(framing.coding, self._body, framing.max_bytes)
        if framing.json_bytes is None:
            return self._read(body, None)
        view = memoryview(body)[0 if framing.coding else framing.padding :]
        if framing.json_bytes == 0:
            return self._read_raw(view)
        if framing.json_bytes > len(view):
            raise InvalidInput(
                f"Inference-Header-Content-Length is {framing.json_bytes}, but the body has {len(view)} bytes; "
                "send the length of its JSON part"
            )
        return self._read(view[: framing.json_bytes], view[framing.json_bytes :])

    def encode(self, response: InferResponse) -> HttpAnswer:
        """The body of `response`; JSON data are flat."""
        message: dict[str, Any] = {"model_name": self._signature.name, "model_version": self._signature.version}
        if response.id:
            message["id"] = response.id
        if response.parameters:
            message["parameters"] = response.parameters
        raw: list[bytes | memoryview] = []
        message["outputs"] = [self._output(name, array, raw) for name, array in response.outputs.items()]
        answer = HttpAnswer(orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY))
        if raw:
            answer.json_bytes, answer.media_type = len(answer.body), BINARY
            answer.body = b"".join([answer.body, *raw])
        return self._shrunk(answer) if self._framing.answer_coding else answer

    def _read(self, body: Buffer, binary: memoryview | None) -> InferRequest:
        message = read_object(body)
        identifier = message.get("id", "")
        if not isinstance(identifier, str):
            raise InvalidInput(f"id must be a string, got {identifier!r}")
        inputs: dict[str, np.ndarray] = {}
        position = 0
        for tensor in tensors(message, "inputs"):
            spec = input_spec(self._signature, tensor["name"], inputs)
            part = binary_part(tensor, binary, position) if "parameters" in tensor else None
            if part is None:
                inputs[spec.name] = from_json(spec, tensor.get("datatype"), tensor.get("shape"), tensor.get("data"))
            else:
                inputs[spec.name] = from_raw(spec, tensor.get("datatype"), tensor.get("shape"), part)
                position += len(part)
        if binary is not None and position != len(binary):
            raise InvalidInput(
                f"{len(binary)} bytes of binary data follow the JSON, inputs take {position}; "
                "make every binary_data_size and Inference-Header-Content-Length right"
            )
        check_complete(self._signature, inputs)
        parameters = object_or_empty(message.get("parameters"), "`parameters`")
        requested = check_requested(self._signature, self._wanted(message, parameters))
        return InferRequest(identifier, inputs, requested, parameters)

    def _read_raw(self, body: memoryview) -> InferRequest:
        """A raw binary request: the body is the only input, its shape follows from the size; all is answered binary."""
        self._binary = dict.fromkeys(self._signature.outputs, True)
        spec, shape = only_input(self._signature, len(body))
        if spec.datatype is Datatype.BYTES:
            check_count(spec, shape, 1)
            return InferRequest("", {spec.name: bytes_array([bytes(body)], shape)})
        return InferRequest("", {spec.name: from_raw(spec, spec.datatype, shape, body)})

    def _wanted(self, message: dict[str, Any], parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the outputs asked for; remembers which of them shall be binary."""
        by_default = flag(parameters, "binary_data_output", "`parameters`") if parameters else False
        outputs = tensors(message, "outputs")
        if not outputs:
            self._binary = dict.fromkeys(self._signature.outputs, True) if by_default else _NONE
            return ()
        binary: dict[str, bool] = {}
        for tensor in outputs:
            title = f"output {tensor['name']!r}"
            asked = object_or_empty(tensor.get("parameters"), f"{title}: `parameters`")
            refuse_elsewhere(title, asked)
            binary[tensor["name"]] = flag(asked, "binary_data", title) if "binary_data" in asked else by_default
        self._binary = binary
        return tuple(binary)

    def _output(self, name: str, array: np.ndarray, raw: list[bytes | memoryview]) -> dict[str, Any]:
        spec = self._signature.outputs[name]
        described: dict[str, Any] = {"name": name, "datatype": spec.datatype, "shape": array.shape}
        if self._binary.get(name):
            data = to_raw(spec.datatype, array)
            raw.append(data)
            described["parameters"] = {"binary_data_size": len(data)}
        else:
            described["data"] = to_json(spec.datatype, array)
        return described

    def _shrunk(self, answer: HttpAnswer) -> HttpAnswer:
        if len(answer.body) > self._framing.answer_coding_over_bytes:
            smaller = shrink(self._framing.answer_coding, answer.body)
            if len(smaller) < len(answer.body):
                answer.coding, answer.plain_bytes, answer.body = self._framing.answer_coding, len(answer.body), smaller
        return answer
