"""Real jobs on a real local cluster: a worker is lost, the result is published and served as it was measured."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from app.config import settings
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.load import load_runner
from app.training.data import load_data
from app.training.job import load_job
from app.training.parts import Tracking
from app.training.reports import read_report
from app.training.run import run_job
from app.training.summary import formula_lines

pytestmark = pytest.mark.ray

JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


def test_a_job_whose_worker_is_killed_resumes_and_its_result_is_served_as_measured(state: Path) -> None:
    boards = state / "boards"
    job = load_job(JOBS / "digits.yaml").model_copy(update={"tracking": Tracking(tensorboard=str(boards))})
    killer = _KillAWorker(state / "jobs" / "digits-test", after_epochs=4)
    killer.start()

    result = run_job(job, run="digits-test")
    killer.join(timeout=10)

    assert killer.epochs_saved >= 4, killer.trouble
    assert result.attempts == 2
    assert killer.epochs_saved <= result.resumed_after < job.epochs
    assert result.metrics["accuracy"] >= 0.97
    assert sorted(result.attempts_uj) == [1, 2]
    assert min(result.attempts_uj.values()) > 0
    assert sum(result.attempts_uj.values()) == result.energy.energy_uj
    assert result.published == "digits@1"
    assert _served_accuracy(state) == pytest.approx(result.metrics["accuracy"])
    assert open_repository(settings().repository).card("digits", "1").energy == result.energy
    assert sorted(each.name for each in (boards / "digits-test").iterdir()) == ["attempt-1", "attempt-2"]
    report = read_report(str(state / "jobs"), "digits-test")
    assert report == result.report
    assert [point.epoch for point in report.curve] == list(range(1, job.epochs + 1))
    assert {point.attempt for point in report.curve} == {1, 2}
    spent_uj = [point.spent_uj for point in report.curve]
    assert spent_uj == sorted(spent_uj)
    assert result.attempts_uj[1] < spent_uj[-1] <= report.energy_uj
    assert (report.scheduling_efficiency, len(report.workers)) == (0.5, 2)
    assert 0 < (report.utilisation or 0) < 1
    assert 0 < (report.energy_utilisation or 0) <= 1
    assert report.sci_per_epoch_ugco2e == pytest.approx(report.carbon_ugco2e / job.epochs)


def test_the_seed_example_is_exported_and_shows_its_formulas_with_measured_figures(state: Path) -> None:
    job = load_job(JOBS / "seed.yaml").model_copy(update={"epochs": 5})

    result = run_job(job, run="seed-test")

    lines = formula_lines(result)
    assert lines[0].startswith("E = P x t")
    assert any(line.startswith("E = sum over servers") for line in lines)
    assert [row.node for row in result.servers] == [settings().node]
    assert result.servers[0].product_uj == pytest.approx(result.servers[0].booked_uj, rel=0.35)
    data = load_data(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
    runner = load_runner("repository:seed", repository=settings().repository)
    predicted = runner.run({"features": data.test_x})["prediction"]
    r2 = 1 - float(((predicted - data.test_y) ** 2).mean()) / float(data.test_y.var())
    assert r2 == pytest.approx(result.metrics["r2"], abs=1e-4)


def _served_accuracy(state: Path) -> float:
    job = load_job(JOBS / "digits.yaml")
    data = load_data(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
    runner = load_runner("repository:digits@1", repository=RepositorySettings(str(state / "models")))
    answers = runner.run({"image": data.test_x})["class"]
    return float(np.mean(answers == data.test_y))


class _KillAWorker(threading.Thread):
    """Waits for checkpoints of a run, then ends one of its workers with SIGKILL."""

    def __init__(self, run: Path, after_epochs: int) -> None:
        super().__init__(daemon=True)
        self._run, self._after_epochs = run, after_epochs
        self.epochs_saved = 0
        self.trouble = ""

    def run(self) -> None:
        deadline = time.monotonic() + 120
        while self._saved() < self._after_epochs:
            if time.monotonic() > deadline:
                self.trouble = f"{self._saved()} epochs saved in 120 s below {self._run}"
                return
            time.sleep(0.05)
        victim = _train_workers()[-1]
        self.epochs_saved = self._saved()
        os.kill(victim, signal.SIGKILL)

    def _saved(self) -> int:
        """Epochs in the newest checkpoint that is complete: Ray notes it in its snapshot when it is."""
        snapshot = self._run / "checkpoint_manager_snapshot.json"
        try:
            return int(json.loads(snapshot.read_text())["checkpoint_results"][-1]["metrics"]["epoch"])
        except (OSError, ValueError, LookupError):
            return 0


def _train_workers() -> list[int]:
    """Processes of Ray Train workers below this test's own cluster."""
    family = psutil.Process().children(recursive=True)
    return [child.pid for child in family if "RayTrainWorker" in " ".join(child.cmdline())]
