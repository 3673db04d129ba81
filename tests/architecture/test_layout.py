"""What a reader may rely on: a docstring opens every file, `__init__.py` is empty, no drawers for odds and ends."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    ".ci",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "app",
    "cluster.yaml",
    "deployments",
    "docs",
    "pyproject.toml",
    "scripts",
    "tests",
}
HARD_LINES = 500
HARD_FUNCTION_LINES = 40

SOURCES = [path for path in sorted((ROOT / "app").rglob("*.py")) if "generated" not in path.parts]
FILES = [path for path in SOURCES if path.name != "__init__.py"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_packages_open_with_nothing() -> None:
    assert [relative(path) for path in SOURCES if path.name == "__init__.py" and path.read_text().strip()] == []


def test_every_directory_of_the_package_is_a_package() -> None:
    directories = {path.parent for path in FILES}
    assert [relative(each) for each in sorted(directories) if not (each / "__init__.py").exists()] == []


def test_every_file_opens_by_saying_what_it_is() -> None:
    scripts = sorted((ROOT / "scripts").rglob("*.py"))
    silent = [relative(path) for path in [*FILES, *scripts] if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    assert [relative(path) for path in SOURCES if path.stem in {"utils", "util", "helpers", "common", "misc"}] == []


def test_no_file_or_function_outgrows_its_reader() -> None:
    long_files = [relative(path) for path in SOURCES if len(path.read_text().splitlines()) > HARD_LINES]
    long_functions = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= HARD_FUNCTION_LINES
    ]
    assert long_files + long_functions == []


def test_test_files_have_names_of_their_own_and_no_packages() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_the_top_level_holds_what_was_agreed() -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: ignored files cannot be told from others")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    present = {line.split("/")[0] for line in listed if (ROOT / line).exists()}
    assert present - TOP_LEVEL == set()
