"""A real group grows into what becomes free, and a run that a signal stopped goes on to the very same weights."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file

from app.training.board import progress_of
from app.training.job import TrainJob, load_job
from app.training.run import run_job
from app.training.run_files import RunFiles
from app.training.summary import summary

pytestmark = pytest.mark.ray

JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


def digits(**changes: object) -> TrainJob:
    return load_job(JOBS / "digits.yaml").model_copy(update={"publish": None, "target": None, **changes})


def after_steps(run: str, steps: int, act: Callable[[], None]) -> threading.Thread:
    """`act`, once `run` has done so many steps of its first epoch or a whole one; a thread to be joined."""

    def watch() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            seen = json.loads(progress_of(run) or "{}")
            if seen.get("epoch", 0) >= 1 or seen.get("step", 0) >= steps:
                act()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def newest_weights(state: Path, run: str) -> dict[str, torch.Tensor]:
    files = RunFiles.open(str(state / "jobs"), run)
    return load_file(Path(files.path(files.checkpoints()[0])) / "model.safetensors")


def test_a_run_that_a_signal_stopped_goes_on_to_the_very_same_weights(state: Path) -> None:
    job = digits(epochs=4)
    job = job.model_copy(update={"workers": job.workers.model_copy(update={"min": 1, "max": 1})})
    whole = run_job(job, run="whole")

    said: list[str] = []
    killer = after_steps("stopped", 20, lambda: os.kill(os.getpid(), signal.SIGINT))
    stopped = run_job(job, run="stopped", tell=said.append)
    killer.join(timeout=10)
    assert not stopped.reached
    assert any("can go on: joulekeeper train JOB.yaml --run stopped" in text for text in said)

    resumed = run_job(job, run="stopped")

    assert resumed.attempts == 2
    assert resumed.metrics == whole.metrics
    expected, found = newest_weights(state, "whole"), newest_weights(state, "stopped")
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    (restart,) = resumed.restarts.restarts
    assert restart.resumed_after > 0
    assert restart.lost_steps == 0
    assert resumed.restarts.lost_uj == 0


@ray.remote(num_cpus=1.5)
class Tenant:
    """Holds what a second worker would need."""

    def here(self) -> bool:
        return True


def test_a_group_starts_with_what_is_free_and_grows_without_doing_a_step_twice(state: Path) -> None:
    tenant = Tenant.remote()
    assert ray.get(tenant.here.remote(), timeout=90)
    job = digits(epochs=30)
    job = job.model_copy(update={"workers": job.workers.model_copy(update={"min": 1, "max": 2, "resize_every_s": 1.0})})
    leaver = after_steps("grows", 20, lambda: ray.kill(tenant))

    result = run_job(job, run="grows")
    leaver.join(timeout=10)

    assert result.attempts == 2
    (restart,) = result.restarts.restarts
    assert (restart.world_before, restart.world) == (1, 2)
    assert restart.resumed_after > 0
    assert restart.lost_steps == 0
    assert restart.lost_uj == 0
    assert restart.setup_uj > 0
    assert result.metrics["accuracy"] >= 0.97
    assert any(text.startswith("restarts: 1; lost work") for text in summary(result, formulas=False))
