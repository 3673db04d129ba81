"""`joulekeeper optimize` on a model that serves: a replica tells what it found, a change is deployed and taken back."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fixtures.quickstart import application, quickstart
from tests.fixtures.ray_cluster import ROOT, RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

URL = "http://127.0.0.1:8000/v2/models/minilm/infer"
BODY = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a sentence"]}]}


@pytest.fixture(scope="module")
def cluster(running):
    config = quickstart(max_replicas=1, downscale_delay_s=60)
    application(config, "minilm")["args"] |= {"batching": {"objective_p95_ms": 400}}
    running.deploy(config)
    return running


def optimize(state, *options):
    command = [sys.executable, "-m", "app", "optimize", "minilm", *options]
    environment = {
        "RAY_ADDRESS": RayCluster.address, "RAY_AUTH_MODE": "disabled", "JOULEKEEPER_STATE_DIR": str(state),
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def deployed(cluster):
    return cluster.applications()["minilm"]["deployed_app_config"]


def test_what_a_replica_found_is_the_advice_and_a_change_is_deployed_and_taken_back(cluster, state):
    with httpx.Client(timeout=90) as client:
        with ThreadPoolExecutor(8) as clients:  # an epoch of the governor has a hundred answers
            assert {each.status_code for each in clients.map(lambda _: client.post(URL, json=BODY), range(240))} == {
                200
            }
        for _ in range(11):
            time.sleep(0.15)
            client.post(URL, json=BODY)
    before = deployed(cluster)
    view = json.loads(optimize(state, "--p95-ms", "300", "--only", "batch", "--apply", "--json"))
    found = {each["setting"]: each for each in view["advice"]}
    assert found["batch"]["courses"], "the governor of the replica has measured a limit"
    facts = {fact["name"]: fact["value"] for fact in found["keep-alive"]["facts"]}
    assert facts["load"] > 0
    assert facts["gaps"] >= 10
    assert deployed(cluster)["args"]["batching"] == {"objective_p95_ms": 300.0}
    assert "is as it was" in optimize(state, "--undo")
    assert deployed(cluster) == before
