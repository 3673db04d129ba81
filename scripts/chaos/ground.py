"""The ground a chaos run stands on: two Ray nodes on one machine that take each other for two hosts.

Each node has a state directory, a machine id and a scripted GPU of its own. The second node can be killed and comes
back on the same state directory, as a host does whose raylet crashed. Ends what it started, by pid.

    with TwoNodes(directory, "sqlite:////tmp/books.sqlite") as ground:
        ground.second.kill(); ground.second.start()
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import psutil

from scripts.chaos.power import ScriptedGpu
from tests.fixtures.ray_cluster import FAST_MODE, ROOT, RayCluster
from tests.stubs.nvml.stub import NvmlStub

NODES = ("head", "second")
CPUS = 1
"""Of each node. Room for a replica and one training worker, so that the two workers of a job part."""
_STARTS, _STEADY_S = 4, 45.0

_FASTER_DEATHS = {
    # Ray notices the death of a raylet after 15 s by default.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_health_check_timeout_ms": "3000",
}


def node_environment(name: str, directory: Path, stub: NvmlStub, store_url: str) -> dict[str, str]:
    """What makes a process belong to node `name`."""
    environment = {
        "JOULEKEEPER_STATE_DIR": str(directory / name),
        "JOULEKEEPER_MACHINE": name,
        "JOULEKEEPER_NODE": name,
        "JOULEKEEPER_SENSORS": "nvml,cpu_model",
        "JOULEKEEPER_SETTLE_LAG_S": "1",
        "JOULEKEEPER_LINGER_S": "3",
        "JOULEKEEPER_DATABASE_URL": store_url,
        "OMP_NUM_THREADS": "1",
    }
    return {**stub.env(), **environment, **_FASTER_DEATHS}


class SecondNode:
    """A raylet beside the head's, and what runs below it."""

    def __init__(self, environment: Mapping[str, str], log_path: Path) -> None:
        self._environment, self._log_path = dict(environment), log_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Join the cluster; returns at once."""
        command = [
            str(Path(sys.executable).with_name("ray")),
            *("start", f"--address={RayCluster.address}", "--block", f"--num-cpus={CPUS}", "--num-gpus=1"),
            *("--disable-usage-stats", f"--object-store-memory={80 * 1024 * 1024}"),
        ]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def bring_back(self) -> None:
        """End what is left and start anew; again where the raylet gives up, as it does when its agents start late."""
        for _ in range(_STARTS):
            self.end()
            self.start()
            if self._stays():
                return

    def _stays(self) -> bool:
        """Whether a raylet comes up, and is still there when its agents must have answered."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STEADY_S)
        return self.raylet is not None

    @property
    def raylet(self) -> psutil.Process | None:
        """The raylet that runs now."""
        return next((child for child in self._family() if child.name() == "raylet"), None)

    def end(self) -> None:
        """End what is left of it, and wait until it is gone."""
        if self._process is None:
            return
        family = self._family()
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            _, family = psutil.wait_procs(family, timeout=4)
        self._process.wait(10)
        self._process = None

    def _family(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            head = psutil.Process(self._process.pid)
            return [head, *head.children(recursive=True)]
        return []


class TwoNodes:
    """A head and a second node with everything that belongs to them. Starts on entering, is gone on leaving."""

    def __init__(self, directory: Path, store_url: str) -> None:
        self.directory = directory
        library = NvmlStub.compile(directory)
        self.gpus: dict[str, ScriptedGpu] = {}
        environments = {}
        for name in NODES:
            (directory / name).mkdir()
            self.gpus[name] = ScriptedGpu.create(library, directory / f"{name}.script", f"GPU-{name}")
            environments[name] = node_environment(name, directory, self.gpus[name].stub, store_url)
        self.head = RayCluster(directory / "head", cpus=CPUS, environment=environments["head"])
        everywhere = {**os.environ, **FAST_MODE, "PYTHONPATH": str(ROOT)}
        self.second = SecondNode({**everywhere, **environments["second"]}, directory / "second-node.log")
        # Training drivers run beside the head; everything else is given its node's environment by its raylet.
        self.driver_environment = {**everywhere, **environments["head"], "RAY_ADDRESS": RayCluster.address}

    def __enter__(self) -> Self:
        self.head.__enter__()
        try:
            self.second.start()
            wait_until(lambda: self.second.raylet is not None, "the second raylet runs", 60)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End both nodes."""
        self.second.end()
        self.head.close()

    def state_of(self, node: str) -> Path:
        """State directory of a node."""
        return self.directory / node

    def workers(self) -> Iterator[tuple[str, psutil.Process, str]]:
        """Every process of a Ray worker: its node, itself, its title (`ray::Meter`, `ray::ServeReplica:...`)."""
        second = self.second.raylet
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline())
                if title.startswith("ray::"):
                    node = "second" if second is not None and process.ppid() == second.pid else "head"
                    yield node, process, title


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Poll `condition` until it is true. Raises RuntimeError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout_s} s in vain until {what}")
        time.sleep(0.2)
