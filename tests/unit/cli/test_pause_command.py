"""`joulekeeper pause`: asks a run that is there, and says so where none is."""

import pytest
from typer.testing import CliRunner

from app.cli import pause as command
from app.cli.main import cli
from app.training import board


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(command, "connect", lambda: None)
    monkeypatch.setattr(board, "is_running", lambda run: run == "digits-1")
    monkeypatch.setattr(board, "ask_to_stop", lambda run, reason: asked.append((run, reason)))
    return asked


def test_a_run_is_asked_to_stop(asked: list[tuple[str, str]]) -> None:
    result = CliRunner().invoke(cli, ["pause", "digits-1"])
    assert result.exit_code == 0
    assert asked == [("digits-1", "paused")]
    assert "digits-1 is asked to leave a checkpoint" in result.output


def test_a_run_that_is_not_there_is_named(asked: list[tuple[str, str]]) -> None:
    result = CliRunner().invoke(cli, ["pause", "digits-2"])
    assert result.exit_code == 1
    assert asked == []
    assert "no run 'digits-2' trains on this cluster" in result.output
