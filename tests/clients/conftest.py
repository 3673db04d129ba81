"""The cluster that outside clients talk to, and the doors they take: Serve's own here; the edge's beside them."""

from pathlib import Path

import pytest

from tests.fixtures.client_programs import Doors
from tests.fixtures.edge import Edge
from tests.fixtures.quickstart import awake_model, quickstart
from tests.fixtures.ray_cluster import RayCluster

ECHO = "python:tests.fixtures.echo:Echo"
LARGE = {"datatypes": ["FP32"], "shape": [-1, -1], "batch": False}
MAX_BODY_BYTES = 80_000_000


@pytest.fixture(scope="session")
def served_cluster(tmp_path_factory):
    """minilm, a model of every datatype, and one for large tensors."""
    config = quickstart(downscale_delay_s=600)
    config["applications"] += [
        awake_model("everything", source=ECHO, source_args={"batch": False}),
        awake_model("numbers", source=ECHO, source_args=LARGE, max_body_bytes=MAX_BODY_BYTES),
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
