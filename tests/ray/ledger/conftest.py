"""One cluster whose power is modelled from CPU time, on any machine: what code and commands put on its books."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.ray_cluster import RayCluster

BIN = Path(sys.executable).parent


@pytest.fixture(scope="package")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster's state directory."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="package")
def running(state: Path) -> Iterator[RayCluster]:
    """Three CPUs, since a run of Ray Train takes two; nothing deployed by itself."""
    environment = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "JOULEKEEPER_SENSORS": "cpu_model"}
    with RayCluster(state, cpus=3, environment=environment) as cluster:
        yield cluster
