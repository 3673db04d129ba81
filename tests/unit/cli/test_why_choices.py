"""`joulekeeper why DEPLOYMENT`: what was decided about it, from the records of the host that keeps the books."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from app.config import settings
from app.domain.decision import Choice, Course, Fact, Saving
from app.engine.decision_files import directory_of, keep_choice

FIRST = Choice(
    at_s=1_780_000_000.0,
    action="answer with int8 80%, half 20%",
    reasons=("the budget does not pay for the best answers all day",),
    subject="digits",
    topic="variant",
    facts=(
        Fact(name="budget of the day", value=5.0, unit="gCO2e", basis="set"),
        Fact(name="an answer of half", value=None, unit="J", basis="not known"),
    ),
    courses=(Course(name="always fp32", carbon_g=4.0, quality=0.9867), Course(name="the mix", carbon_g=1.5)),
    chosen="the mix",
    expected=Saving(carbon_g=2.5, share=0.625, against="always fp32"),
    before={"batch": 8},
    after={"batch": 16},
)
OUTCOME = Choice(
    at_s=1_780_086_400.0,
    action="the day has ended",
    reasons=("budget: 5 gCO2e a day",),
    subject="digits",
    topic="variant",
    about=1,
    realised=Saving(carbon_g=2.25, energy_j=20.0, against="always fp32"),
)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    for each in (FIRST, OUTCOME):
        keep_choice(directory_of(tmp_path, "digits"), each)
    yield
    settings.cache_clear()


def test_why_of_a_deployment_tells_facts_courses_and_what_came_of_it(records: None) -> None:
    result = CliRunner().invoke(cli, ["why", "digits"])
    assert result.exit_code == 0, result.output
    for part in (
        "answer with int8 80%, half 20%",
        "2.5 gCO2e, 62.5%",
        "2.25 gCO2e, 20 J",
        "budget of the day",
        "not known",
        "the mix *",
        "before: batch 8",
        "after: batch 16",
        "expected: 2.5 gCO2e, 62.5% less than always fp32 (modelled)",
    ):
        assert part in result.output
    told = json.loads(CliRunner().invoke(cli, ["why", "digits", "--json"]).output)
    assert [each["about"] for each in told] == [None, 1]
