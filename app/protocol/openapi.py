"""The OpenAPI description of a model's HTTP door, for the document that the console publishes.

The door is routes by hand, so its description is, too; the tests compare it with the door. Knows nothing of which
models there are: `{model_name}` and `{model_version}` are parameters. Data in, nothing else:

    document["paths"] |= model_paths()
    document["components"]["schemas"] |= model_schemas()
"""

from collections.abc import Iterator
from typing import Any

from app.domain.tensor import Datatype
from app.protocol.coding import CODINGS
from app.protocol.descriptions import triton_type

JsonObject = dict[str, Any]

PREFIX = "/v2/models/{model_name}"
RECEIPT = ("receipt_id", "energy_uj", "carbon_ugco2e", "grade", "provisional", "load_share_uj", "warm_share_uj")
"""Parameters of an answer, and behind `x-joulekeeper-` its headers."""

_TEXT: JsonObject = {"type": "string"}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}
_SHAPE: JsonObject = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_DATATYPE: JsonObject = {"type": "string", "enum": [str(datatype) for datatype in Datatype]}


def model_paths() -> JsonObject:
    """Path to its operations, for a model's default version and for a version by name."""
    return {
        prefix + path: {"parameters": named} | {method: operation}
        for prefix, named in (
            (PREFIX, [_in_path("model_name")]),
            (f"{PREFIX}/versions/{{model_version}}", [_in_path("model_name"), _in_path("model_version")]),
        )
        for path, method, operation in _operations(of_version=len(named) > 1)
    }


def model_schemas() -> JsonObject:
    """Name to schema of everything that the operations refer to."""
    return {"ModelError": _object({"error": _TEXT})} | _inference_schemas() | _description_schemas()


def _inference_schemas() -> JsonObject:
    tensor = {"name": _TEXT, "datatype": _DATATYPE, "shape": _SHAPE}
    parameters = {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string", "null"]}}
    binary_size = {"type": "object", "properties": {"binary_data_size": _COUNT}}
    data = {"type": "array", "description": "Elements in row-major order, flat or nested as `shape` says."}
    asked = {"type": "object", "properties": {"binary_data": {"type": "boolean"}}}
    return {
        "InferenceInput": _object(tensor, parameters=binary_size, data=data),
        "InferenceOutput": _object(tensor, parameters=binary_size, data=data),
        "RequestedOutput": _object({"name": _TEXT}, parameters=asked),
        "InferenceRequest": _object(
            {"inputs": _list(_ref("InferenceInput"))},
            id=_TEXT,
            parameters=parameters,
            outputs=_list(_ref("RequestedOutput")),
        ),
        "InferenceResponse": _object(
            {"model_name": _TEXT, "model_version": _TEXT, "outputs": _list(_ref("InferenceOutput"))},
            id=_TEXT,
            parameters=parameters | {"description": f"The receipt: {', '.join(RECEIPT)}."},
        ),
    }


def _description_schemas() -> JsonObject:
    tensors = _list(_object({"name": _TEXT, "datatype": _DATATYPE, "shape": _SHAPE}))
    types = {"type": "string", "enum": [triton_type(each) for each in Datatype]}
    configured = _list(_object({"name": _TEXT, "data_type": types, "dims": _SHAPE}))
    return {
        "ModelMetadata": _object(
            {"name": _TEXT, "versions": _list(_TEXT), "platform": _TEXT, "inputs": tensors, "outputs": tensors}
        ),
        "ModelReadiness": _object({"name": _TEXT, "version": _TEXT, "ready": {"type": "boolean"}}),
        "ModelConfiguration": _object(
            {"name": _TEXT, "platform": _TEXT, "max_batch_size": _COUNT, "input": configured, "output": configured}
        ),
        "ModelStatistics": _object({"model_stats": _list({"type": "object"})}),
    }


def _operations(of_version: bool) -> Iterator[tuple[str, str, JsonObject]]:
    suffix = "_of_version" if of_version else ""
    yield "", "get", _question(f"model_metadata{suffix}", "What the model takes and gives", "ModelMetadata")
    ready = _question(f"model_ready{suffix}", "Whether the model is loaded", "ModelReadiness")
    ready["responses"]["503"] = _answer("It is not", "ModelReadiness")
    yield "/ready", "get", ready
    yield "/config", "get", _question(f"model_config{suffix}", "Triton's model configuration", "ModelConfiguration")
    yield "/stats", "get", _question(f"model_stats{suffix}", "What one replica has counted", "ModelStatistics")
    yield "/infer", "post", _inference(f"model_infer{suffix}")


def _inference(identifier: str) -> JsonObject:
    binary = {"type": "string", "format": "binary"}
    answer = _answer("The outputs, and the receipt as parameters and headers", "InferenceResponse")
    answer["content"]["application/octet-stream"] = {"schema": binary}
    answer["headers"] = {f"x-joulekeeper-{name}": {"schema": _TEXT} for name in RECEIPT}
    answer["headers"]["inference-header-content-length"] = {"schema": _COUNT}
    return {
        "operationId": identifier,
        "summary": "Inference, in JSON or with binary tensor data behind it",
        "tags": ["models"],
        "parameters": [
            _optional("query", "settle", {"type": "boolean"}),
            _optional("query", "settle_timeout_s", {"type": "number", "exclusiveMinimum": 0, "maximum": 60}),
            _optional("header", "inference-header-content-length", _COUNT),
            _optional("header", "content-encoding", {"type": "string", "enum": [*CODINGS, "identity"]}),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("InferenceRequest")},
                "application/octet-stream": {"schema": binary},
            },
        },
        "responses": {"200": answer, "default": _answer("A refusal", "ModelError")},
    }


def _question(identifier: str, summary: str, schema: str) -> JsonObject:
    responses = {"200": _answer(summary, schema), "default": _answer("A refusal", "ModelError")}
    return {"operationId": identifier, "summary": summary, "tags": ["models"], "responses": responses}


def _answer(description: str, schema: str) -> JsonObject:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _in_path(name: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _optional(where: str, name: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": where, "required": False, "schema": schema}


def _object(required: JsonObject, **optional: JsonObject) -> JsonObject:
    return {"type": "object", "required": list(required), "properties": required | optional}


def _list(items: JsonObject) -> JsonObject:
    return {"type": "array", "items": items}


def _ref(name: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{name}"}
