"""The published OpenAPI document: it says what the doors do."""

import json
import re

import pytest
from fastapi.testclient import TestClient

from app.console.app import Console
from app.protocol.openapi import PREFIX, model_paths
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
        assert operation["responses"]["default"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/ModelError"
        }
        assert "422" not in operation["responses"]


@pytest.mark.parametrize("path", ["/v2/repository/models/{name}/load", "/api/report", "/metrics", "/v2/health/ready"])
def test_the_console_is_in_it_too(document: dict[str, dict[str, dict[str, object]]], path: str) -> None:
    assert path in document["paths"]
