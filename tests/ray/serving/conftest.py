"""One cluster, open to this machine, for all that is served: each module deploys what it needs, and nothing else stays.

@pytest.fixture(scope="module")
def cluster(running):
    running.deploy(quickstart(downscale_delay_s=3))
    return running
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models.repository import RepositorySettings, open_repository
from tests.fixtures.edge import Edge
from tests.fixtures.language_model import card, write_language_model
from tests.fixtures.ray_cluster import RayCluster


@pytest.fixture(scope="package")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster's state directory, with the language model `tiny` in its repository."""
    directory = tmp_path_factory.mktemp("cluster")
    open_repository(RepositorySettings(str(directory / "models"))).publish("tiny", write_language_model, card())
    return directory


@pytest.fixture(scope="package")
def running(state: Path) -> Iterator[RayCluster]:
    """With nothing deployed by itself."""
    with RayCluster(state) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def edge(running: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """On 8443 and 9443, in front of Serve on 8000 and 9000."""
    with Edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge
