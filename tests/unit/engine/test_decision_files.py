"""Records of decisions: numbered, never altered, never two under one number."""

from pathlib import Path

import pytest

from app.domain.decision import Choice, Fact, Saving
from app.engine.decision_files import choices_in, directory_of, keep_choice
from app.errors import InvalidInput

CHOICE = Choice(
    at_s=1.0,
    action="answer with int8",
    reasons=("the budget is short",),
    subject="digits",
    topic="variant",
    facts=(Fact(name="left", value=None, basis="not known"),),
    expected=Saving(carbon_g=1.5, against="always fp32"),
    before={"replicas": 2, "window": [1, 2.5]},
)


def test_records_come_back_as_they_were_in_order(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, "digits@2")
    assert choices_in(directory) == {}
    outcome = CHOICE.model_copy(update={"about": 1, "realised": Saving(carbon_g=1.2)})
    assert [keep_choice(directory, each) for each in (CHOICE, outcome)] == [1, 2]
    assert choices_in(directory) == {1: CHOICE, 2: outcome}


def test_what_is_cut_off_is_passed_over_and_its_number_stays_taken(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, "digits")
    keep_choice(directory, CHOICE)
    (directory / "000002").write_text('{"at_s": 1')
    assert keep_choice(directory, CHOICE) == 3
    assert list(choices_in(directory)) == [1, 3]


def test_the_oldest_leave_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.decision_files._KEEP", 3)
    for _ in range(5):
        keep_choice(tmp_path, CHOICE)
    assert list(choices_in(tmp_path)) == [3, 4, 5]


def test_a_subject_that_is_no_name_reaches_no_file(tmp_path: Path) -> None:
    for wrong in ("", "../jobs", "a/b", ".hidden"):
        with pytest.raises(InvalidInput, match="is no name of a deployment"):
            directory_of(tmp_path, wrong)
