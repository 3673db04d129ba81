"""One local cluster for all jobs that tests run in their own process.

def test_a_job(state: Path) -> None:              # books, models and runs are below `state`
    result = run_job(load_job(JOBS / "digits.yaml"), run="mine")
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from app.config import settings


@pytest.fixture(scope="package")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local cluster of two CPUs whose processes keep their state below a directory of these tests."""
    directory = tmp_path_factory.mktemp("state")
    patch = pytest.MonkeyPatch()
    patch.setenv("JOULEKEEPER_STATE_DIR", str(directory))
    settings.cache_clear()
    # Nobody looks at its dashboard, which takes seconds of both cores to start.
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield directory
    finally:
        ray.shutdown()
        patch.undo()
        settings.cache_clear()
