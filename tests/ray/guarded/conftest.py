"""One cluster that serves nobody without a key; its modules deploy what they need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models.repository import RepositorySettings, open_repository
from tests.fixtures.access_table import House
from tests.fixtures.language_model import card, write_language_model
from tests.fixtures.ray_cluster import RayCluster


@pytest.fixture(scope="package")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster's state directory, with the language model `tiny` in its repository."""
    directory = tmp_path_factory.mktemp("guarded")
    open_repository(RepositorySettings(str(directory / "models"))).publish("tiny", write_language_model, card())
    return directory


@pytest.fixture(scope="package")
def house(state: Path) -> House:
    """Keys, rules and an issuer, there before the cluster is."""
    return House(state)


@pytest.fixture(scope="package")
def running(state: Path, house: House) -> Iterator[RayCluster]:
    """With nothing deployed by itself."""
    with RayCluster(state, environment={"JOULEKEEPER_ACCESS": "required"}) as cluster:
        yield cluster
