"""The batch endpoint on a real cluster: requests go through the model's own doors, a killed console loses none."""

import json
import os
import signal
import time

import httpx
import pytest

from app.engine.decision_files import choices_in, directory_of
from tests.fixtures.quickstart import awake_model, console_alone

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

URL = "http://127.0.0.1:8000"
MODEL = "echo"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def cluster(running):
    config = console_alone()
    config["applications"].append(
        awake_model(MODEL, source="python:tests.fixtures.echo:Echo", source_args={"datatypes": ["FP32"]})
    )
    running.deploy(config)
    running.await_answer(f"/v2/models/{MODEL}/ready")
    return running


def submit(requests, window="60s"):
    body = {"inputs": [{"name": "fp32", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    url = f"/v2/models/{MODEL}/infer"
    lines = [json.dumps({"custom_id": f"c{n}", "method": "POST", "url": url, "body": body}) for n in range(requests)]
    lines.append(json.dumps({"custom_id": "bad", "method": "POST", "url": url, "body": {"inputs": []}}))
    sent = httpx.post(
        f"{URL}/v1/files", data={"purpose": "batch"}, files={"file": ("x.jsonl", "\n".join(lines))}, timeout=60
    )
    sent.raise_for_status()
    wanted = {"input_file_id": sent.json()["id"], "endpoint": url, "completion_window": window}
    made = httpx.post(f"{URL}/v1/batches", json=wanted, timeout=60)
    made.raise_for_status()
    return made.json()["id"]


def over(batch_id):
    """What it is told as once it is over; the console may be away for a moment."""
    deadline = time.monotonic() + PATIENCE_S
    told = {}
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{URL}/v1/batches/{batch_id}", timeout=30)
            told = answer.json() if answer.status_code == 200 else told
        except httpx.TransportError:
            pass
        if told.get("status") in ("completed", "expired", "failed", "cancelled"):
            return told
        time.sleep(0.5)
    raise AssertionError(f"{batch_id} is not over: {told}")


def test_a_batch_is_answered_by_the_model_and_its_receipts_are_on_the_books(cluster, state):
    told = over(submit(5))
    assert (told["status"], told["request_counts"]) == ("completed", {"total": 6, "completed": 5, "failed": 1})
    content = httpx.get(f"{URL}/v1/files/{told['output_file_id']}/content", timeout=60).text
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"c{n}" for n in range(5)]
    assert all(line["response"]["body"]["outputs"][0]["data"] == [1.0] for line in lines)
    ids = [line["joulekeeper"]["receipt_id"] for line in lines]
    found = httpx.post(f"{URL}/api/receipts", json={"ids": ids}, timeout=60).json()
    assert {each["receipt_id"] for each in found["receipts"]} == set(ids)
    # what the batch says is what the books say once they have settled
    ours = told["joulekeeper"]
    if not ours["provisional"]:
        assert sum(each["energy_uj"] for each in found["receipts"]) <= ours["energy_uj"]
    errors = httpx.get(f"{URL}/v1/files/{told['error_file_id']}/content", timeout=60).text
    assert json.loads(errors)["response"]["status_code"] == 400
    choices = list(choices_in(directory_of(state, told["id"])).values())
    assert [each.action for each in choices] == ["start", "ended"]


def test_a_console_that_is_killed_loses_nothing(cluster):
    batch_id = submit(400)
    (console,) = cluster.replicas("console", "console")
    os.kill(console["pid"], signal.SIGKILL)
    told = over(batch_id)
    assert told["status"] == "completed"
    assert told["request_counts"] == {"total": 401, "completed": 400, "failed": 1}
