"""The main job, end to end, on one cluster and one ledger: serve, train by `ray job submit`, serve what was trained.

As a user does it: the commands of the README in processes of their own, on real data, until all is asleep again.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import orjson
import pytest

from app.models.repository import RepositorySettings, open_repository
from app.training.data import load_data
from tests.fixtures.quickstart import quickstart
from tests.fixtures.ray_cluster import DASHBOARD, ROOT, RayCluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def cluster(running):
    running.deploy(quickstart())
    return running


def run(state, *command, timeout_s=240):
    environment = os.environ | {
        "RAY_ADDRESS": RayCluster.address,
        "RAY_AUTH_MODE": "disabled",
        "JOULEKEEPER_STATE_DIR": str(state),
    }
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s)


def classify(rows):
    tensor = {"name": "image", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    url = "http://127.0.0.1:8000/v2/models/digits/infer"
    answer = httpx.post(url, json={"inputs": [tensor]}, timeout=60).raise_for_status().json()
    return next(output["data"] for output in answer["outputs"] if output["name"] == "class")


def test_a_submitted_job_trains_a_model_that_is_served_beside_the_quickstart(cluster, state):
    job = [str(BIN / "ray"), "job", "submit", "--address", DASHBOARD, "--working-dir", "."]
    done = run(state, *job, "--", "python", "-m", "app", "train", "deployments/jobs/digits.yaml")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    card = open_repository(RepositorySettings(str(state / "models"))).card("digits", "1")
    assert card.metrics["accuracy"] >= 0.97
    assert card.energy.energy_uj > 0

    done = run(state, str(BIN / "joulekeeper"), "deploy", "deployments/digits.yaml")
    assert done.returncode == 0, done.stderr
    assert set(cluster.applications()) == {"console", "minilm", "digits"}
    data = load_data("builtin:digits", test_share=0.25, seed=7)
    labels = data.test_y.tolist()
    found = [digit for start in range(0, len(labels), 50) for digit in classify(data.test_x[start : start + 50])]
    accuracy = sum(one == other for one, other in zip(found, labels, strict=True)) / len(labels)
    assert accuracy == pytest.approx(card.metrics["accuracy"], abs=1e-9)


def test_left_idle_everything_sleeps_and_the_resources_are_free(cluster, state):
    for model in ("minilm", "digits"):
        cluster.await_replicas(model, 0, timeout_s=120)
    shown = ""
    for _ in range(15):  # `ray status` shows what the autoscaler last heard
        shown = run(state, str(BIN / "ray"), "status").stdout
        if "0.0/3.0 CPU" in shown:
            return
        time.sleep(1)
    raise AssertionError(shown)


def test_the_books_of_it_all_balance(cluster, state):
    done = run(state, str(BIN / "joulekeeper"), "ledger", "audit", "--json")
    assert done.returncode == 0, done.stderr
    audit = orjson.loads(done.stdout)
    assert [device["difference_uj"] for device in audit["devices"]] == [0]
    assert audit["gap_share"] <= 0.02
    report = orjson.loads(run(state, str(BIN / "joulekeeper"), "report", "--by", "account", "--json").stdout)
    charged = {row["group"]["account"]: row["energy_uj"] for row in report["rows"]}
    assert min(charged[account] for account in ("job", "request", "load", "warm", "idle", "system")) > 0
