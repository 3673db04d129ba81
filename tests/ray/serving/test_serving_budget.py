"""A pool with a day's budget on a real cluster: cheaper variants before it is spent, 429 after, and records of why."""

import time
from collections import Counter

import httpx
import pytest

from app.engine.decision_files import choices_in, directory_of
from tests.fixtures.quickstart import console_alone

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

URL = "http://127.0.0.1:8000/v2/models/busy"
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
SOURCES = {"big": "python:tests.fixtures.busy_answers:Big", "small": "python:tests.fixtures.busy_answers:Small"}
QUALITY = {"big": 0.95, "small": 0.8}


def pool(joules):
    spending = {"joules_per_day": joules}
    args = {"name": "busy", "variants": SOURCES, "quality": QUALITY, "max_memory_mb": 1, "spending": spending}
    deployment = {"name": "Model", "num_replicas": 1, "autoscaling_config": None, "ray_actor_options": {"num_cpus": 0}}
    config = console_alone()
    application = {"name": "busy", "route_prefix": "/v2/models/busy", "import_path": "app.serving.pool:pool"}
    config["applications"].append(application | {"args": args, "deployments": [deployment]})
    return config


def ask(path="/infer"):
    return httpx.post(URL + path, json=BODY, timeout=90)


def test_a_budget_is_kept_and_what_was_decided_is_on_record(running, state):
    running.deploy(pool(joules=5.0))
    running.await_answer("/v2/models/busy/ready")
    answers = []
    # Receipts count at once, the books some seconds later.
    until_s = time.monotonic() + 90
    while time.monotonic() < until_s and (not answers or answers[-1].status_code == 200):
        answers.append(ask())
        time.sleep(0.02)
    served = [each for each in answers if each.status_code == 200]
    by_variant = Counter(each.headers["x-joulekeeper-variant"] for each in served)
    assert by_variant.keys() == {"big", "small"}
    assert all(each.json()["model_version"] == each.headers["x-joulekeeper-variant"] for each in served)
    refused = answers[-1]
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 86_400
    assert "budget of 5 joules a day" in refused.json()["error"]
    assert ask("/versions/small/infer").status_code == 429
    assert httpx.get(URL, timeout=60).status_code == 200
    records = choices_in(directory_of(state, "busy"))
    assert records
    assert {each.topic for each in records.values()} == {"variant"}
