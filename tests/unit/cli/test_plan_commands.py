"""`joulekeeper plan` shows a plan before anything runs; `joulekeeper why` what was decided, and what came of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from app.cli.main import cli
from app.config import settings
from app.training.decisions import Decision as Record
from app.training.decisions import Inputs, Option, PlannedPiece, Realised, keep_decision
from app.training.run_files import RunFiles
from tests.fixtures.paper_grid import NOON_S, clean_in_five_hours

JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The digits job; the grid is dear for five hours and then clean, and it is the first of them."""
    clock = clean_in_five_hours(monkeypatch)
    monkeypatch.setattr("app.clock.SystemClock", lambda: clock)
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    path = tmp_path / "job.yaml"
    raw = yaml.safe_load((JOBS / "digits.yaml").read_text())
    path.write_text(yaml.safe_dump(raw | {"start": {"slack_hours": 12, "hours": 2, "power_w": 500}}))
    yield path
    settings.cache_clear()


def said(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_a_plan_shows_energy_carbon_now_and_planned_and_when_it_is_over(job: Path) -> None:
    output = said("plan", str(job))
    # 2 h and a first start of 60 s at 500 W; at once at 400 g/kWh, planned at 100.
    assert "1.00833 kWh" in output
    assert "403 gCO2e" in output
    assert "101 gCO2e" in output
    assert "75.0% less carbon than at once" in output
    assert "2 h with 2: start.hours" in output
    assert "start later" in output


def test_a_plan_as_json_is_a_decision_and_options_stand_over_the_file(job: Path) -> None:
    plan = json.loads(said("plan", str(job), "--slack-hours", "1", "--json"))
    assert plan["inputs"]["deadline_s"] == pytest.approx(NOON_S + 3 * 3600 + 60)
    assert plan["expected_g"] == plan["now_g"]  # no clean hour within the slack
    assert json.loads(said("plan", str(job), "--hours", "4", "--json"))["inputs"]["hours_left"] == pytest.approx(
        4 + 1 / 60
    )


def test_a_job_without_a_start_and_without_slack_is_answered_with_what_to_do(job: Path) -> None:
    result = CliRunner().invoke(cli, ["plan", str(JOBS / "digits.yaml")])
    assert result.exit_code == 1
    assert "start: the job has none and runs at once; add start: {slack_hours: 24}" in result.output


INPUTS = Inputs(
    deadline_s=NOON_S + 7200, hours_left=1.0, workers=0, power_w=500.0, restart_s=20.0, restart_j=10.0,
    known_from=("1 h with 2: start.hours",), source="electricitymaps:FR", grade="forecast", model="days before",
    error=0.08, revision=3, slot_s=3600.0, g_per_kwh=(400.0, 100.0), outlook_s=NOON_S,
)  # fmt: skip


def records() -> list[Record]:
    waits = Record(
        at_s=NOON_S,
        action="wait",
        reasons=("start later: 75.0% less",),
        inputs=INPUTS,
        pieces=(PlannedPiece(start_s=NOON_S + 3600, end_s=NOON_S + 7200, workers=2),),
        options=(Option(name="start now", expected_g=200.0, kwh=0.5, finish_s=NOON_S + 3600),),
        expected_g=50.0,
        now_g=200.0,
        kwh=0.5,
        finish_s=NOON_S + 7200,
    )
    came = Realised(carbon_g=55.0, at_once_g=210.0, kwh=0.5, finish_s=NOON_S + 7200, grade="actual")
    return [waits, waits.model_copy(update={"action": "ended", "realised": came})]


def test_why_tells_the_decision_its_inputs_its_alternatives_and_what_came_of_it(job: Path, tmp_path: Path) -> None:
    files = RunFiles.open(str(tmp_path / "jobs"), "digits-1")
    for each in records():
        keep_decision(files, each)
    output = said("why", "digits-1")
    for part in (
        "expected at first: 150 gCO2e less than at once",
        "came of it: 55 gCO2e instead of 210 gCO2e at once, 155 gCO2e less (73.8%)",
        "start later: 75.0% less",
        "start now",
        "electricitymaps:FR",
        "restart: 20.0 s, 10.0 J",
    ):
        assert part in output
    assert [each["action"] for each in json.loads(said("why", "digits-1", "--json"))] == ["wait", "ended"]


def test_why_of_a_run_without_decisions_says_so(job: Path) -> None:
    result = CliRunner().invoke(cli, ["why", "digits-2"])
    assert result.exit_code == 1
    assert "run 'digits-2'" in result.output
    assert "has no decisions" in result.output
