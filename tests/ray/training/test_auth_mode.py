"""A driver whose shell says nothing of Ray's token, beside a cluster that asks for none: its objects reach workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

pytestmark = pytest.mark.ray

DRIVER = """
from app.training.cluster import join_cluster
join_cluster()
import ray
print(ray.get(ray.remote(num_cpus=0)(lambda held: len(held)).remote(ray.put(bytes(1_000_000))), timeout=60))
"""


def test_a_machine_with_a_token_beside_a_cluster_without(state: Path, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    environment |= {"HOME": str(tmp_path), "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["1000000"], done.stderr
