"""intensity: what holds, what is expected, what was revised, and how the sources are doing; asked of files alone."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.config import settings


@pytest.fixture
def grid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Writes eleven hours of the past with a figure, and thirty hours of forecast of 300."""
    path = tmp_path / "grid.csv"

    def write(g_per_kwh: float) -> None:
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        rows = [f"{(now + timedelta(hours=i)).isoformat()},{g_per_kwh},actual" for i in range(-10, 1)]
        rows += [f"{(now + timedelta(hours=i)).isoformat()},300,forecast" for i in range(1, 31)]
        path.write_text("\n".join(["start,g_per_kwh,grade", *rows]) + "\n")

    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("JOULEKEEPER_ZONE", "FRA")
    monkeypatch.setenv("JOULEKEEPER_INTENSITY", f"file:{path}")
    monkeypatch.setenv("JOULEKEEPER_INTENSITY_MARKET", "constant:12.5")
    monkeypatch.setenv("JOULEKEEPER_INTENSITY_REFRESH_S", "0.001")
    settings.cache_clear()
    return write


@pytest.fixture(autouse=True)
def _forget_settings():
    yield
    settings.cache_clear()


def test_now_and_ahead_are_shown_with_source_and_grade(grid_file: Callable[[float], None], call: Callable[..., Any]):
    grid_file(100)
    result = call("intensity", "--hours", "6")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("Grid FRA at ")
    assert any(line.split() == ["average", "100.0", "actual", "file", "grid.csv"] for line in lines)
    assert any(line.split()[:3] == ["market", "12.5", "yearly"] for line in lines)
    assert sum("10th percentile" in line for line in lines) == 1
    assert "Sources, in order of fallback" in result.output


def test_the_view_for_scripts_holds_the_same(grid_file: Callable[[float], None], call: Callable[..., Any]):
    grid_file(100)
    view = json.loads(call("intensity", "--json", "--hours", "24").output)
    assert view["zone"] == "FRA"
    assert [(held["meaning"], held["g_per_kwh"], held["grade"]) for held in view["held"]] == [
        ("average", 100.0, "actual"),
        ("market", 12.5, "yearly"),
    ]
    assert len(view["expected"]) >= 24
    assert all(slot["low_g_per_kwh"] <= slot["g_per_kwh"] <= slot["high_g_per_kwh"] for slot in view["expected"])
    (source,) = view["sources"]
    assert (source["meaning"], source["quota"], source["fault"]) == ("average", "", "")


def test_the_past_shows_what_was_said_at_first(grid_file: Callable[[float], None], call: Callable[..., Any]):
    grid_file(100)
    assert call("intensity").exit_code == 0
    time.sleep(0.01)
    grid_file(80)
    view = json.loads(call("intensity", "--json", "--since", "3h").output)
    assert {(slot["g_per_kwh"], slot["first_g_per_kwh"]) for slot in view["past"]} == {(80.0, 100.0)}
    assert len(view["past"]) in (3, 4)
    table = call("intensity", "--kept", "--since", "3h").output
    assert "80.0" in table
    assert "100.0" in table


def test_only_what_is_known_is_shown_when_nobody_is_to_be_asked(
    grid_file: Callable[[float], None], call: Callable[..., Any]
):
    grid_file(100)
    result = call("intensity", "--kept")
    assert result.exit_code == 0
    assert "yearly" in result.output
    assert "actual" not in result.output


def test_a_source_that_fails_is_a_warning_and_the_year_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any], grid_file: Callable[[float], None]
):
    monkeypatch.setenv("JOULEKEEPER_INTENSITY", f"file:{tmp_path / 'nowhere.csv'}")
    result = call("intensity")
    assert result.exit_code == 0
    assert "nowhere.csv fails since" in result.output
    assert "56.0  yearly" in result.output


def test_a_past_that_nobody_can_tell_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any], grid_file: Callable[[float], None]
):
    monkeypatch.setenv("JOULEKEEPER_INTENSITY", f"file:{tmp_path / 'nowhere.csv'}")
    result = call("intensity", "--since", "2d")
    assert result.exit_code == 1
    assert "nobody tells the average intensity of that time" in result.output


def test_a_period_that_ends_before_it_begins_is_wrong_usage(call: Callable[..., Any]):
    assert call("intensity", "--since", "1h", "--until", "2h").exit_code == 2
