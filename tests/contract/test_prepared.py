"""The module that Ray imports in every worker process: nearly nothing in most, everything in one that waits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROBE = """
import json, sys
import app.serving.prepared
from app.serving.prepared import MODULES
client = sys.modules.get("app.metering.client")
print(json.dumps({
    "loaded": sorted(sys.modules),
    "missing": [name for name in MODULES if name not in sys.modules],
    "waited": bool(client and client.WorkClient.waited),
    "cuda": "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized(),
}))
"""


def probe(**environment):
    clean = {name: value for name, value in os.environ.items() if name != "RAY_JOB_ID"}
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("environment", [{}, {"RAY_JOB_ID": "01000000"}], ids=["no worker", "worker of a job"])
def test_a_worker_that_ray_starts_for_a_job_imports_nothing_more(environment):
    found = probe(**environment)
    assert not {"ray", "torch", "numpy", "pydantic", "app.metering.client"} & set(found["loaded"])
    assert not found["waited"]


def test_a_worker_of_no_job_has_all_that_a_replica_imports_and_no_accelerator():
    found = probe(RAY_JOB_ID="ffffffff")
    assert found["missing"] == []
    assert {"torch", "ray.serve._private.replica"} <= set(found["loaded"])
    assert "transformers" not in found["loaded"]
    assert found["waited"]
    assert not found["cuda"]
