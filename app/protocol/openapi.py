"""The OpenAPI description of a model's HTTP door, for the document that the console publishes.

The door is routes by hand, so its description is, too; the tests compare it with the door. Knows nothing of which
models there are: `{model_name}` and `{model_version}` are parameters. Data in, nothing else:

    document["paths"] |= model_paths()
    document["components"]["schemas"] |= model_schemas()
"""

from collections.abc import Iterator

from app.domain.tensor import Datatype
from app.protocol.coding import CODINGS
from app.protocol.descriptions import triton_type
from app.protocol.openapi_schemas import COUNT, TEXT, JsonObject, answer_of, list_of, model_prefixes, object_of, ref

RECEIPT = ("receipt_id", "energy_uj", "carbon_ugco2e", "grade", "provisional", "load_share_uj", "warm_share_uj")
"""Parameters of an answer, and behind `x-joulekeeper-` its headers."""

_SHAPE: JsonObject = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_DATATYPE: JsonObject = {"type": "string", "enum": [str(datatype) for datatype in Datatype]}


def model_paths() -> JsonObject:
    """Path to its operations, for a model's default version and for a version by name."""
    return {
        prefix + path: {"parameters": named} | {method: operation}
        for prefix, named, suffix in model_prefixes()
        for path, method, operation in _operations(suffix)
    }


def model_schemas() -> JsonObject:
    """Name to schema of everything that the operations refer to."""
    return {"ModelError": object_of({"error": TEXT})} | _inference_schemas() | _description_schemas()


def _inference_schemas() -> JsonObject:
    tensor = {"name": TEXT, "datatype": _DATATYPE, "shape": _SHAPE}
    parameters = {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string", "null"]}}
    binary_size = {"type": "object", "properties": {"binary_data_size": COUNT}}
    data = {"type": "array", "description": "Elements in row-major order, flat or nested as `shape` says."}
    asked = {"type": "object", "properties": {"binary_data": {"type": "boolean"}}}
    return {
        "InferenceInput": object_of(tensor, parameters=binary_size, data=data),
        "InferenceOutput": object_of(tensor, parameters=binary_size, data=data),
        "RequestedOutput": object_of({"name": TEXT}, parameters=asked),
        "InferenceRequest": object_of(
            {"inputs": list_of(ref("InferenceInput"))},
            id=TEXT,
            parameters=parameters,
            outputs=list_of(ref("RequestedOutput")),
        ),
        "InferenceResponse": object_of(
            {"model_name": TEXT, "model_version": TEXT, "outputs": list_of(ref("InferenceOutput"))},
            id=TEXT,
            parameters=parameters | {"description": f"The receipt: {', '.join(RECEIPT)}."},
        ),
    }


def _description_schemas() -> JsonObject:
    tensors = list_of(object_of({"name": TEXT, "datatype": _DATATYPE, "shape": _SHAPE}))
    types = {"type": "string", "enum": [triton_type(each) for each in Datatype]}
    configured = list_of(object_of({"name": TEXT, "data_type": types, "dims": _SHAPE}))
    return {
        "ModelMetadata": object_of(
            {"name": TEXT, "versions": list_of(TEXT), "platform": TEXT, "inputs": tensors, "outputs": tensors}
        ),
        "ModelReadiness": object_of({"name": TEXT, "version": TEXT, "ready": {"type": "boolean"}}),
        "ModelConfiguration": object_of(
            {"name": TEXT, "platform": TEXT, "max_batch_size": COUNT, "input": configured, "output": configured}
        ),
        "ModelStatistics": object_of({"model_stats": list_of({"type": "object"})}),
    }


def _operations(suffix: str) -> Iterator[tuple[str, str, JsonObject]]:
    yield "", "get", _question(f"model_metadata{suffix}", "What the model takes and gives", "ModelMetadata")
    ready = _question(f"model_ready{suffix}", "Whether the model is loaded", "ModelReadiness")
    ready["responses"]["503"] = answer_of("It is not", "ModelReadiness")
    yield "/ready", "get", ready
    yield "/config", "get", _question(f"model_config{suffix}", "Triton's model configuration", "ModelConfiguration")
    yield "/stats", "get", _question(f"model_stats{suffix}", "What one replica has counted", "ModelStatistics")
    yield "/infer", "post", _inference(f"model_infer{suffix}")


def _inference(identifier: str) -> JsonObject:
    binary = {"type": "string", "format": "binary"}
    answer = answer_of("The outputs, and the receipt as parameters and headers", "InferenceResponse")
    answer["content"]["application/octet-stream"] = {"schema": binary}
    answer["headers"] = {f"x-joulekeeper-{name}": {"schema": TEXT} for name in RECEIPT}
    answer["headers"]["inference-header-content-length"] = {"schema": COUNT}
    return {
        "operationId": identifier,
        "summary": "Inference, in JSON or with binary tensor data behind it",
        "tags": ["models"],
        "parameters": [
            _optional("query", "settle", {"type": "boolean"}),
            _optional("query", "settle_timeout_s", {"type": "number", "exclusiveMinimum": 0, "maximum": 60}),
            _optional("header", "inference-header-content-length", COUNT),
            _optional("header", "content-encoding", {"type": "string", "enum": [*CODINGS, "identity"]}),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": ref("InferenceRequest")},
                "application/octet-stream": {"schema": binary},
            },
        },
        "responses": {"200": answer, "default": answer_of("A refusal", "ModelError")},
    }


def _question(identifier: str, summary: str, schema: str) -> JsonObject:
    responses = {"200": answer_of(summary, schema), "default": answer_of("A refusal", "ModelError")}
    return {"operationId": identifier, "summary": summary, "tags": ["models"], "responses": responses}


def _optional(where: str, name: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": where, "required": False, "schema": schema}
