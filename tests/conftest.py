"""Wires the shared fixtures in; holds nothing else."""

import os
import sys
from pathlib import Path

# With --import-mode=importlib pytest leaves sys.path alone; `app` and `tests` are imported from the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Ray reads it once a process, and a token that an earlier Ray left on the machine would turn authentication on: the GCS
# of a test's cluster could then not call its driver, and would take the driver's actors for orphans.
os.environ["RAY_AUTH_MODE"] = "disabled"

# gRPC reads it when it is imported. A test that runs a receiver forks Ray's processes from beside its threads: with
# gRPC's handlers a child of such a fork now and then aborts or hangs before it has become what it is to be.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ["tests.fixtures.nvml", "tests.fixtures.postgres"]
