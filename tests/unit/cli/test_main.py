"""The command as a whole: help, versions, what it may import, its reference."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.cli.reference import reference

ROOT = Path(__file__).parents[3]


def test_help_names_every_command(call: Callable[..., Any]) -> None:
    result = call("--help")
    assert result.exit_code == 0
    for name in (
        "probe",
        "watch",
        "report",
        "receipt",
        "ledger",
        "train",
        "models",
        "deploy",
        "edge",
        "certificate",
        "version",
    ):
        assert name in result.stdout


def test_an_unknown_command_is_wrong_usage(call: Callable[..., Any]) -> None:
    assert call("proob").exit_code == 2
    assert call("ledger", "proob").exit_code == 2


def test_versions_are_told_without_importing_what_they_are_of(call: Callable[..., Any]) -> None:
    result = call("version")
    assert result.exit_code == 0
    assert result.stdout.startswith("joulekeeper ")
    assert "ray 2." in result.stdout


def test_train_ends_with_the_status_of_the_run(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gone_on = ModuleType("app.training.run"), []

    def main(path: Path, measure: object, of: str) -> int:
        gone_on.append(of)
        return 1 if path.name == "bad.yaml" else 0

    run.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app.training.run", run)
    assert call("train", tmp_path / "good.yaml").exit_code == 0
    assert call("train", tmp_path / "bad.yaml", "--run", "digits-1").exit_code == 1
    assert gone_on == ["", "digits-1"]


def test_the_reference_is_current() -> None:
    written = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "write it again: python -m app.cli.reference > docs/reference/cli.md"
