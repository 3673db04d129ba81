"""tune: what it asks for, and how the result is shown."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import settings
from app.policy.power_search import PowerSetting, SearchGoal, Window
from app.training import tune_job
from app.training.tuning import Tuning

Call = Callable[..., Any]
JOB = Path(__file__).parents[3] / "deployments" / "jobs" / "digits.yaml"
FIRST = Window(PowerSetting(8, 300_000), 0.01, 2e6, 2.0)
BEST = Window(PowerSetting(16, 175_000), 0.0125, 1.5e6, 1.5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """A search that remembers what it was asked and always finds the same."""
    found: list[Any] = []

    def search(job: Any, sizes: list[int], goal: SearchGoal, *, window_s: float, tell: Callable[[str], None]) -> Tuning:
        found.append((job.name, sizes, goal, window_s))
        tell("batch 8: measured")
        return Tuning([FIRST, BEST], BEST, 45)

    monkeypatch.setattr(tune_job, "tune_job", search)
    monkeypatch.setenv("JOULEKEEPER_METERING", "false")
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    yield found
    settings.cache_clear()


def test_the_result_is_the_lines_of_a_job_file_and_progress_goes_to_stderr(asked: list[Any], call: Call) -> None:
    result = call("tune", str(JOB))
    lines = ["batch_size: 16", "resources: {power_limit_w: 175}   # beside cpu and gpu"]
    assert result.stdout.splitlines()[1:] == lines
    assert result.stderr == "batch 8: measured\n"
    # The job of 8 rows a worker: a quarter to four times.
    assert asked == [("digits", [2, 4, 16, 32], SearchGoal(), 5.0)]


def test_what_is_given_is_asked_for_and_json_has_the_figures(asked: list[Any], call: Call) -> None:
    given = ("--batch-size", "16", "--eta", "0.5", "--epochs", "8=14", "--epochs", "16=15.5", "--window-s", "2")
    found = json.loads(call("tune", str(JOB), *given, "--json").stdout)
    assert asked == [("digits", [16], SearchGoal(eta=0.5, samples_to_target={8: 14.0, 16: 15.5}), 2.0)]
    assert found == {
        "batch_size": 16,
        "power_limit_w": 175.0,
        "joules_per_sample": 1.5,
        "seconds_per_sample": 0.0125,
        "saving": 0.25,
        "windows": 2,
        "settings": 45,
    }


def test_epochs_that_are_no_pair_are_wrong_usage(asked: list[Any], call: Call) -> None:
    result = call("tune", str(JOB), "--epochs", "many")
    assert result.exit_code == 2
    assert "SIZE=EPOCHS" in result.stderr
    assert asked == []
