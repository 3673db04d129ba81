"""Words of an OpenAPI document, for those that describe the doors: schemas, answers, and where a model is named.

Knows nothing of any door.
"""

from typing import Any

JsonObject = dict[str, Any]

PREFIX = "/v2/models/{model_name}"

TEXT: JsonObject = {"type": "string"}
FLAG: JsonObject = {"type": "boolean"}
COUNT: JsonObject = {"type": "integer", "minimum": 0}


def model_prefixes() -> tuple[tuple[str, list[JsonObject], str], ...]:
    """For a model's default version and for one by name: path, its parameters, what ends the names of operations."""
    model, version = _in_path("model_name"), _in_path("model_version")
    return (PREFIX, [model], ""), (f"{PREFIX}/versions/{{model_version}}", [model, version], "_of_version")


def _in_path(name: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def answer_of(description: str, schema: str) -> JsonObject:
    """A response in JSON."""
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def object_of(required: JsonObject, **optional: JsonObject) -> JsonObject:
    """An object; other keys may be in it."""
    return {"type": "object", "required": list(required), "properties": required | optional}


def list_of(items: JsonObject) -> JsonObject:
    """An array of any length."""
    return {"type": "array", "items": items}


def ref(name: str) -> JsonObject:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}
