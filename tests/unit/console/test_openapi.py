"""The published OpenAPI document: it says what the doors do."""

import dataclasses
import json
import re

import pytest
from fastapi.testclient import TestClient

from app.console.app import Console
from app.console.forward import forward_router
from app.protocol.openai_requests import ChatRequest, CompletionRequest
from app.protocol.openapi import model_paths
from app.protocol.openapi_openai import openai_paths, openai_schemas
from app.protocol.openapi_schemas import PREFIX
from app.serving.http_door import HttpDoor


@pytest.fixture(scope="module")
def document() -> dict[str, dict[str, dict[str, object]]]:
    with TestClient(Console().__serve_build_asgi_app__(), client=("127.0.0.1", 4711)) as client:
        return client.get("/openapi.json").json()


def test_every_route_of_a_models_door_is_described_once_for_each_way_to_name_a_version() -> None:
    door = HttpDoor.__new__(HttpDoor)
    HttpDoor.__init__(door, None, None, None)
    routes = {(f"/{path}" if path else "", method.lower()) for path, (method, _) in door._routes.items()}
    for prefix in (PREFIX, f"{PREFIX}/versions/{{model_version}}"):
        described = {
            (path.removeprefix(prefix), method)
            for path, operations in model_paths().items()
            if path.removeprefix(prefix) in {route for route, _ in routes}
            for method in operations.keys() - {"parameters"}
        }
        assert described == routes


def test_every_reference_has_its_schema(document: dict[str, dict[str, dict[str, object]]]) -> None:
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert "InferenceRequest" in used
    assert used <= document["components"]["schemas"].keys()
    assert not any("ValidationError" in name for name in used)


def test_every_operation_has_a_name_of_its_own_and_tells_its_refusals(
    document: dict[str, dict[str, dict[str, object]]],
) -> None:
    operations = [
        operation for path in document["paths"].values() for method, operation in path.items() if method != "parameters"
    ]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        shape = "OpenAIError" if "openai" in operation.get("tags", ()) else "ModelError"
        told = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert told == {"$ref": f"#/components/schemas/{shape}"}
        assert "422" not in operation["responses"]


def test_every_openai_call_is_described_at_the_services_door_and_at_a_models(
    document: dict[str, dict[str, dict[str, object]]],
) -> None:
    forwarded = {route.path for route in forward_router(None, None).routes}
    assert forwarded == {path for path in openai_paths() if path.startswith("/v1/")}
    at_models = {f"{prefix}{path}" for prefix in (PREFIX, f"{PREFIX}/versions/{{model_version}}") for path in forwarded}
    assert forwarded | at_models <= document["paths"].keys()


@pytest.mark.parametrize(
    ("name", "request_type"), [("ChatRequest", ChatRequest), ("CompletionRequest", CompletionRequest)]
)
def test_every_parameter_of_a_generation_is_described(name: str, request_type: type) -> None:
    read = {field.name for field in dataclasses.fields(request_type)} - {"include_usage", "running_usage"}
    spelt = {"prompts": "prompt", "top_logprobs": "logprobs"}
    described = openai_schemas()[name]["properties"].keys()
    assert {spelt.get(field, field) for field in read} <= described


@pytest.mark.parametrize("path", ["/v2/repository/models/{name}/load", "/api/report", "/metrics", "/v2/health/ready"])
def test_the_console_is_in_it_too(document: dict[str, dict[str, dict[str, object]]], path: str) -> None:
    assert path in document["paths"]
