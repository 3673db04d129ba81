"""The console's deployment, without a cluster: what Serve is given, and that nobody is asked to make it."""

import inspect

import pytest
from fastapi.testclient import TestClient
from grpc_health.v1.health_pb2_grpc import HealthServicer
from pydantic import ValidationError

from app.console.app import Console, ConsoleArgs, ConsoleDeployment, build
from app.protocol.generated import open_inference_pb2_grpc
from app.serving.replica import ModelReplica


def test_the_deployment_is_always_on_and_holds_no_cpu() -> None:
    assert ConsoleDeployment.num_replicas == 1
    assert ConsoleDeployment.ray_actor_options["num_cpus"] == 0
    assert build(ConsoleArgs()) is not None


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        ConsoleArgs.model_validate({"colour": "red"})


def test_the_application_answers_before_anybody_was_asked() -> None:
    with TestClient(Console().__serve_build_asgi_app__(), client=("127.0.0.1", 4711)) as client:
        assert client.get("/healthz").json() == {"ok": True}
        assert client.get("/v2").json()["name"] == "joulekeeper"


@pytest.mark.parametrize("service", [open_inference_pb2_grpc.GRPCInferenceServiceServicer, HealthServicer])
def test_every_method_of_the_grpc_services_is_there(service: type) -> None:
    methods = [name for name, _ in inspect.getmembers(service, inspect.isfunction)]
    assert methods
    assert [name for name in methods if not hasattr(Console, name)] == []
    assert [name for name in methods if not hasattr(ModelReplica, name)] == []
