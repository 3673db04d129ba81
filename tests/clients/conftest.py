"""The cluster that outside clients talk to, and the doors they take: Serve's own here; the edge's beside them."""

from pathlib import Path

import pytest
import yaml

from tests.fixtures.client_programs import Doors
from tests.fixtures.edge import Edge
from tests.fixtures.ray_cluster import ROOT, RayCluster

ECHO = "python:tests.fixtures.echo:Echo"
LARGE = {"datatypes": ["FP32"], "shape": [-1, -1], "batch": False}
MAX_BODY_BYTES = 80_000_000


def served_model(name: str, source: str, **arguments: object) -> dict[str, object]:
    """An application with one model that stays awake and needs no CPU of its own."""
    deployment = {"name": "Model", "num_replicas": 1, "autoscaling_config": None, "ray_actor_options": {"num_cpus": 0}}
    return {
        "name": name,
        "route_prefix": f"/v2/models/{name}",
        "import_path": "app.serving.build:model",
        "args": {"name": name, "source": source} | arguments,
        "deployments": [deployment],
    }


@pytest.fixture(scope="session")
def served_cluster(tmp_path_factory):
    """minilm, a model of every datatype, and one for large tensors."""
    config = yaml.safe_load((ROOT / "deployments" / "quickstart.yaml").read_text())
    minilm = next(application for application in config["applications"] if application["name"] == "minilm")
    minilm["deployments"][0]["autoscaling_config"]["downscale_delay_s"] = 600
    config["applications"] += [
        served_model("everything", ECHO, source_args={"batch": False}),
        served_model("numbers", ECHO, source_args=LARGE, max_body_bytes=MAX_BODY_BYTES),
    ]
    with RayCluster(Path(tmp_path_factory.mktemp("clients"))) as cluster:
        cluster.deploy(config)
        yield cluster


@pytest.fixture(scope="session")
def serve_doors(served_cluster):
    """Serve's own doors."""
    return Doors()


@pytest.fixture(scope="session")
def edge_doors(served_cluster, tmp_path_factory):
    """The edge's: TLS, and no application named."""
    with Edge(Path(tmp_path_factory.mktemp("edge"))) as edge:
        edge.await_models("minilm", "everything", "numbers")
        yield Doors(edge.host_and_port, edge.grpc, str(edge.ca), names_application=False)


@pytest.fixture(scope="session", params=["serve", "edge"])
def doors(request):
    """Both, one after the other."""
    return request.getfixturevalue(f"{request.param}_doors")
