"""Wires the shared fixtures in; holds nothing else."""

import sys
from pathlib import Path

# With --import-mode=importlib pytest leaves sys.path alone; `app` and `tests` are imported from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

pytest_plugins = ["tests.fixtures.nvml", "tests.fixtures.postgres"]
