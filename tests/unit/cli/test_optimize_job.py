"""optimize on a job file: measured windows, earlier runs and the plan become lines of it, and are taken back."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from app.cli import optimize_files
from app.config import settings
from app.engine.decision_files import choices_in, directory_of
from app.engine.job_report import JobReport
from app.policy.power_search import PowerSetting, Window
from app.policy.worker_groups import Wish
from app.training.pace import PACE_FILE, Pace, WorldPace
from app.training.reports import keep_report
from app.training.run_files import RunFiles
from app.training.tuning import Tuning
from app.training.tunings import keep_tuning, tuned_of
from tests.fixtures.paper_grid import NOON_S, clean_in_five_hours

Call = Callable[..., Any]
JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The mlp job, on one to two workers; the grid is dear for five hours and then clean."""
    clock = clean_in_five_hours(monkeypatch)
    monkeypatch.setattr(optimize_files, "SystemClock", lambda: clock)
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path / "state"))
    settings.cache_clear()
    path = tmp_path / "mlp.yaml"
    path.write_text((JOBS / "mlp.yaml").read_text())
    yield path
    settings.cache_clear()


def tuned() -> None:
    """A search that found 16 rows to take a quarter less than the job's 32."""
    first = Window(PowerSetting(32, 1), 0.001, 2000.0, 2.0)
    best = Window(PowerSetting(16, 1), 0.0011, 1500.0, 1.5)
    keep_tuning(settings().state_dir, tuned_of("mlp", Tuning([first, best], best, 8), float(NOON_S), "one CPU"))


def ran(run: str, started_s: float, energy_uj: int) -> None:
    """A run of ten epochs; with one worker a step took 8 J, with two 12."""
    storage = str(settings().state_dir / "jobs")
    report = JobReport(
        run=run, job="mlp", tenant="default", kind="train", finished=True, started_s=started_s, seconds=60.0,
        attempts=1, epochs=10, energy_uj=energy_uj, carbon_ugco2e=1, grade="counter", source="ledger", lost_uj=0,
        restart_uj=0,
        metrics={}, utilisation=None, scheduling_efficiency=1.0, energy_utilisation=None, compression_ratio=None,
        embodied_ugco2e=0, sci_per_epoch_ugco2e=None, sci_per_model_ugco2e=None, curve=(), workers=(),
    )  # fmt: skip
    keep_report(storage, report)
    worlds = (WorldPace(world=1, step_s=0.2, power_w=40.0), WorldPace(world=2, step_s=0.17, power_w=12 / 0.17))
    pace = Pace(run=run, epoch_steps=20, worlds=worlds, setup_s=5.0)
    RunFiles.open(storage, run).write(PACE_FILE, pace.model_dump_json())


def test_what_nobody_ran_is_not_known_and_it_says_what_to_run(job: Path, call: Call) -> None:
    view = json.loads(call("optimize", job, "--json").stdout)
    assert {each["setting"]: each["saving"]["basis"] for each in view["advice"]} == dict.fromkeys(
        ("power cap", "batch", "workers", "precision", "hour", "zone"), "not known"
    )
    shown = call("optimize", job).stdout
    assert "`joulekeeper tune JOB.yaml` measures" in shown
    assert "--slack-hours 24" in shown
    assert (view["expected"], view["difference"]) == (None, "")


def test_what_was_measured_and_planned_becomes_a_diff_and_together_they_multiply(job: Path, call: Call) -> None:
    tuned()
    ran("mlp-1", NOON_S - 7200, 3_000_000_000)
    view = json.loads(call("optimize", job, "--slack-hours", "12", "--json").stdout)
    known = {each["setting"]: each for each in view["advice"]}
    assert known["batch"]["change"] == {"batch_size": 16}
    assert known["workers"]["change"] == {"workers": 1}
    assert known["workers"]["saving"]["share"] == pytest.approx(1 - 8 / 12)
    assert known["hour"]["saving"]["share"] == pytest.approx(0.75, abs=0.01)
    shares = [known[name]["saving"]["share"] for name in ("batch", "workers", "hour")]
    left = (1 - shares[1]) * (1 - shares[2])  # a batch size waits to be named
    assert view["expected"]["share"] == pytest.approx(1 - left)
    assert view["expected"]["basis"] == "forecast"
    assert "+start: {slack_hours: 12.0}" in view["difference"].splitlines()
    assert not any(line.startswith("+batch_size") for line in view["difference"].splitlines())
    assert "batch_size: 32" in job.read_text()  # nothing is written unasked


def test_written_and_undone_the_file_is_as_it_was_and_both_are_on_record(job: Path, call: Call) -> None:
    tuned()
    before = job.read_text()
    assert "applied" in call("optimize", job, "--write", "--only", "batch").stdout
    assert yaml.safe_load(job.read_text()) == yaml.safe_load(before) | {"batch_size": 16}
    assert "is as it was before record 1" in call("optimize", job, "--undo").stdout
    assert job.read_text() == before
    records = choices_in(directory_of(settings().state_dir, "mlp"))
    assert [each.action for each in records.values()] == ["applied", "undone"]
    assert "nothing that was applied" in call("optimize", job, "--undo").stderr


def test_a_file_that_was_changed_since_is_not_overwritten(job: Path, call: Call) -> None:
    tuned()
    call("optimize", job, "--apply", "--only", "batch")
    job.write_text(job.read_text() + "# mine\n")
    result = call("optimize", job, "--undo")
    assert (result.exit_code, "it was changed since" in result.stderr) == (1, True)
    assert job.read_text().endswith("# mine\n")


def test_the_next_run_tells_what_came_of_it(job: Path, call: Call) -> None:
    tuned()
    ran("mlp-1", NOON_S - 7200, 3_000_000_000)
    call("optimize", job, "--apply", "--only", "batch")
    ran("mlp-2", NOON_S + 7200, 2_400_000_000)
    # 300 J an epoch before, 240 J since.
    assert "what was applied before saved 20.0 %: 240 J an epoch instead of 300 J" in call("optimize", job).stdout


def test_for_energy_the_hour_and_the_zone_are_nothing(job: Path, call: Call) -> None:
    view = json.loads(call("optimize", job, "--for", "energy", "--slack-hours", "12", "--hours", "2", "--json").stdout)
    known = {each["setting"]: each for each in view["advice"]}
    assert [known[name]["saving"]["share"] for name in ("hour", "zone")] == [0.0, 0.0]


def test_zones_are_held_against_home_by_the_table(job: Path, call: Call) -> None:
    view = json.loads(
        call("optimize", job, "--slack-hours", "12", "--hours", "2", "--zone", "SWE", "--zone", "POL", "--json").stdout
    )
    zone = next(each for each in view["advice"] if each["setting"] == "zone")
    figures = {fact["name"].split()[-1]: fact["value"] for fact in zone["facts"]}
    assert zone["proposed"] == "SWE"
    assert zone["saving"]["share"] == pytest.approx(1 - figures["SWE"] / figures["world"])
    assert zone["saving"]["basis"] == "modelled"
    assert zone["change"] == {"place": {"zones": ["world", "SWE", "POL"], "home": "world"}}


class FakeKubeRay:
    """One RayCluster with a group of three."""

    def __init__(self) -> None:
        self.size_now = Wish(3, 1, 5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def size(self, name: str, wishes: Mapping[str, Wish]) -> dict[str, Wish]:
        before, self.size_now = self.size_now, wishes["workers"]
        return {"workers": before}


def test_on_kubernetes_the_worker_group_is_sized_with_the_job_and_put_back(
    job: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    kuberay = FakeKubeRay()
    monkeypatch.setattr(optimize_files, "open_kuberay", lambda: kuberay)
    ran("mlp-1", NOON_S - 7200, 3_000_000_000)
    call("optimize", job, "--apply", "--raycluster", "ray", "--group", "workers")
    assert kuberay.size_now == Wish(1, 0, 1)  # one worker takes less than two
    call("optimize", job, "--undo")
    assert kuberay.size_now == Wish(3, 1, 5)
