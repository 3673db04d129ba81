"""The floors of the house: what import-linter sees, and what it cannot see because it happens at run time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"

RAY_FLOORS = ("metering", "serving", "training", "energy", "compression", "data", "console", "cli")
TORCH_ROOMS = ("app.models", "app.training", "app.compression")
"""Rooms whose modules may import torch; what a controller or a command imports lies outside them."""

WATCHED = ("torch", "transformers", "sklearn")
CONTROLLER_SIDE = ("app.serving.build", "app.metering.", "app.console.", "app.cli.", "app.config")
MODELLESS = ("admission", "embedding", "engine", "options", "pending", "text")
"""Modules of app.models.generation that need no model: whoever builds or prices a language model may import them."""

PROBE = """
import importlib, json, sys
loaded = {}
for name in sys.argv[2:]:
    importlib.import_module(name)
    for heavy in json.loads(sys.argv[1]):
        if heavy in sys.modules:
            loaded.setdefault(heavy, name)
print(json.dumps(loaded))
"""


def modules() -> list[str]:
    """Every module of the package by its dotted name, generated code left out."""
    paths = (path.relative_to(ROOT) for path in sorted(APP.rglob("*.py")) if "generated" not in path.parts)
    names = (".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return [name for name in names if not name.endswith("__main__")]


def first_importers(watched: tuple[str, ...], names: list[str]) -> dict[str, str]:
    """Import `names` in turn in a fresh interpreter: each of `watched` that got loaded, with the first to load it."""
    command = [sys.executable, "-c", PROBE, json.dumps(watched), *names]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_imports_go_down_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0, "run .venv/bin/lint-imports to see which import goes up"


def test_nothing_below_metering_loads_ray() -> None:
    below = [name for name in modules() if name.partition("app.")[2].partition(".")[0] not in RAY_FLOORS]
    light = [name for name in below if not name.startswith(TORCH_ROOMS)]
    assert first_importers(("ray",), light) == {}


def test_what_controllers_and_commands_import_loads_no_torch() -> None:
    names = [name for name in modules() if name.startswith(CONTROLLER_SIDE)]
    assert first_importers(WATCHED, names) == {}


def test_generation_without_a_model_loads_no_torch() -> None:
    names = ["app.domain.generation", *(f"app.models.generation.{name}" for name in MODELLESS)]
    assert first_importers(WATCHED, names) == {}
