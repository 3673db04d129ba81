"""Access left open on a Serve that listens beyond this machine: nobody is served, and all are told why."""

from pathlib import Path

import pytest

from tests.fixtures.access_table import MODEL, await_status, config
from tests.fixtures.ray_cluster import RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


def test_open_on_all_interfaces_serves_nobody_and_says_why(tmp_path_factory):
    exposed = config() | {"http_options": {"host": "0.0.0.0", "port": 8000}}
    with RayCluster(Path(tmp_path_factory.mktemp("exposed"))) as cluster:
        cluster.deploy(exposed)
        for path in (f"/v2/models/{MODEL}", "/v2"):
            answer = await_status(f"http://127.0.0.1:8000{path}", {}, 403)
            assert "JOULEKEEPER_ACCESS=required" in answer.json()["error"]
