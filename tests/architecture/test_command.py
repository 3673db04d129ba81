"""The command in a process of its own: what it imports, and that the module is the command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("words", [["--help"], ["probe", "--json"], ["version"]])
def test_what_needs_no_cluster_imports_neither_ray_nor_torch(words: list[str]) -> None:
    script = (
        "import sys\n"
        "from app.cli.main import cli\n"
        f"cli({words!r}, standalone_mode=False)\n"
        "heavy = {'ray', 'torch', 'numpy', 'fastapi', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "app", "version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
