"""The OpenAPI document of the whole service: the console's routes, and beside them the models' doors.

Knows nothing of which models are deployed. FastAPI describes the console; what it says of refusals is put right, since
every one of them is `{"error": "..."}`.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.protocol.openapi import model_paths, model_schemas
from app.protocol.openapi_openai import openai_paths, openai_schemas

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


def publish(api: FastAPI) -> None:
    """Let `api` publish the whole document at its `openapi_url`."""
    api.openapi = lambda: _document(api)  # type: ignore[method-assign]


def _document(api: FastAPI) -> dict[str, Any]:
    if api.openapi_schema is None:
        document = get_openapi(title=api.title, version=api.version, routes=api.routes)
        refusals = {told: {"$ref": f"#/components/schemas/{told}"} for told in ("ModelError", "OpenAIError")}
        for path in document["paths"].values():
            for method in _METHODS & path.keys():
                path[method]["responses"].pop("422", None)
                shape = "OpenAIError" if "openai" in path[method].get("tags", ()) else "ModelError"
                path[method]["responses"]["default"] = {
                    "description": "A refusal",
                    "content": {"application/json": {"schema": refusals[shape]}},
                }
        document["paths"] |= model_paths() | openai_paths()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas |= model_schemas() | openai_schemas()
        api.openapi_schema = document
    return api.openapi_schema
