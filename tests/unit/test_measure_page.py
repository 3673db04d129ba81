"""The page about measuring one's own code: its examples run, its names exist."""

import asyncio
import importlib
import re
from pathlib import Path

import pytest
from ray.train.v2._internal.callbacks.env_callback import _initialize_env_callbacks

from app.config import settings
from app.training.callback import METERS_ITSELF, EnergyCallback

PAGE = Path(__file__).resolve().parents[2] / "docs" / "measure.md"


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_block_of_code_runs_without_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("JOULEKEEPER_METERING", "off")
    settings.cache_clear()
    found: dict[str, object] = {}
    exec(examples()[0], found)
    assert found["cleaned"] == ["a", "b"]
    assert asyncio.run(found["fetch"]()) == ["a", "b", "a"]  # type: ignore[operator]
    assert capsys.readouterr().out.split() == ["None", "None"]
    settings.cache_clear()


def test_the_callback_is_what_ray_finds_under_the_name_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = set(re.findall(r"RAY_TRAIN_CALLBACKS=(\S+)", PAGE.read_text()))
    module, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(module), attribute) is EnergyCallback
    monkeypatch.setenv("RAY_TRAIN_CALLBACKS", name)
    assert [type(each) for each in _initialize_env_callbacks()] == [EnergyCallback]
    assert METERS_ITSELF in PAGE.read_text()
