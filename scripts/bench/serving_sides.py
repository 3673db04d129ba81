"""The sides of the serving benchmark: how each is started, where it answers, and that those not asked cost nothing.

All sides of a stage are up at the same time, one worker or replica each, so that they can be asked in turns of seconds:
the machine itself is half as fast again at one moment as at another. What is not asked is stopped (SIGSTOP): a peer's
processes, or the whole Ray cluster. Joulekeeper and bare Ray Serve with the same flags share a cluster; plain Ray
Serve, whose flags are others, has a stage of its own.

    with Stage(["joulekeeper", "fastapi"], ["noop"], directory) as stage, stage.serving("noop") as targets:
        stage.wake("fastapi")
        targets["fastapi"].ask()
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil
from peers.environments import serving_python
from serving_load import LoadFailed, NotUpYet, Target

from app.access.desk import KEYS_FILE
from app.access.keys import KeyFile
from scripts.bench.peers.workloads import SOURCES, request_of
from tests.fixtures.ray_cluster import ROOT, RayCluster

PEERS = Path(__file__).with_name("peers")
OURS = "joulekeeper"
BARE = frozenset({"ray-same-flags", "ray-plain"})
RAY = BARE | {OURS}
BARE_PREFIX = "/bare"
PLAIN = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0", "RAY_SERVE_ENABLE_HA_PROXY": "0"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PORTS = {"fastapi": 8011, "litserve": 8012, "mlserver": 8013}
RAY_PORT = 8000
READY_S = 90.0
SETTLE_S, RAY_SETTLE_S = 0.2, 2.0
"""After waking: what waited while it was stopped is done first. Of that Ray has plenty."""
MAX_ONGOING = 256
"""More than the load ever has in flight, for every Ray side: none refuses."""


class Ground:
    """A process with all below it, stopped and woken together."""

    def __init__(self, root: psutil.Process, settle_s: float = SETTLE_S) -> None:
        self._root, self.settle_s = root, settle_s
        self._parked = False

    def park(self) -> None:
        """Stop it all; it uses no CPU then."""
        if not self._parked:
            self._each(psutil.Process.suspend)
            self._parked = True

    def wake(self) -> bool:
        """Let it run; whether it was stopped."""
        was_parked = self._parked
        if was_parked:
            self._each(psutil.Process.resume)
            self._parked = False
        return was_parked

    def end(self) -> None:
        """End it all."""
        self.wake()  # a stopped process does not end when told to
        family = [self._root, *self._root.children(recursive=True)] if self._root.is_running() else []
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(member)
            _, family = psutil.wait_procs(family, timeout=3)

    def _each(self, act: Callable[[psutil.Process], None]) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [self._root, *self._root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    act(process)


class Stage:
    """Sides that are up together. Starts its Ray cluster, if it needs one, on entering; ends everything on leaving."""

    def __init__(self, sides: Sequence[str], workloads: Sequence[str], directory: Path) -> None:
        self.sides = tuple(sides)
        self._workloads, self._directory = workloads, directory
        self._stack = contextlib.ExitStack()
        self._grounds: dict[str, Ground] = {}
        self._headers: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        on_ray = [side for side in self.sides if side in RAY]
        if on_ray:
            with self._stack:  # what was started is ended if the rest fails
                cluster = self._stack.enter_context(RayCluster(self._directory, environment=self._flags(on_ray)))
                cluster.deploy({"applications": _applications(on_ray, self._workloads)})
                self._grounds.update(dict.fromkeys(on_ray, Ground(cluster.head, RAY_SETTLE_S)))
                self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for ground in self._grounds.values():
            ground.wake()
        self._stack.close()

    @contextlib.contextmanager
    def serving(self, workload: str) -> Iterator[dict[str, Target]]:
        """Where each side answers `workload`; its peers run as long. Raises LoadFailed if one does not come up."""
        with contextlib.ExitStack() as peers:
            for ground in self._grounds.values():
                ground.wake()
            for side in self.sides:
                if side in PORTS:
                    self._grounds[side] = peers.enter_context(self._peer(side, request_of(workload).model))
            try:
                yield {side: _answering(self._target(side, workload)) for side in self.sides}
            finally:
                for side in PORTS:
                    self._grounds.pop(side, None)

    def rest(self) -> None:
        """Let nobody run."""
        for ground in self._grounds.values():
            ground.park()

    def wake(self, side: str) -> None:
        """Let `side` run, and nobody else."""
        ground = self._grounds[side]
        for other in self._grounds.values():
            if other is not ground:
                other.park()
        if ground.wake():
            time.sleep(ground.settle_s)

    def _flags(self, on_ray: Sequence[str]) -> dict[str, str]:
        if "ray-plain" in on_ray:
            return {**ONE_THREAD, **PLAIN}
        if OURS in on_ray:
            self._headers[OURS] = {"authorization": f"Bearer {_key(self._directory)}"}
        return {**ONE_THREAD, "JOULEKEEPER_ACCESS": "required"}

    def _target(self, side: str, workload: str) -> Target:
        request = request_of(workload)
        path = f"{BARE_PREFIX}{request.path}" if side in BARE else request.path
        headers = {**request.headers, **self._headers.get(side, {})}
        return Target(PORTS.get(side, RAY_PORT), path, request.body, headers)

    @contextlib.contextmanager
    def _peer(self, name: str, model: str) -> Iterator[Ground]:
        # FastAPI is in the product's own environment, the version that Ray Serve runs.
        python = sys.executable if name == "fastapi" else str(serving_python(name))
        command = [python, str(PEERS / f"{name}_peer.py"), model, str(PORTS[name])]
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
        with (self._directory / f"{name}-{model}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=self._directory, env=environment, stdout=log, stderr=log)
        ground = Ground(psutil.Process(process.pid))
        try:
            yield ground
        finally:
            ground.end()
            process.wait(10)


def _key(state_directory: Path) -> str:
    """A new API key of a tenant that may ask every model, as `joulekeeper keys create` makes it."""
    keys = KeyFile(state_directory / "access" / KEYS_FILE)
    return keys.create("bench", ["infer:*"], time.time(), None, "serving benchmark")[1]


def _applications(on_ray: Sequence[str], workloads: Sequence[str]) -> list[dict]:
    models = sorted({request_of(workload).model for workload in workloads})
    applications = []
    if OURS in on_ray:
        # As scripts/up runs it: console, accountant and meter, and a replica for each model.
        applications = [{"name": "console", "route_prefix": "/", "import_path": "app.console.app:build"}]
        for model in models:
            arguments = {"name": model, "source": SOURCES[model]}
            applications.append(_application(model, "", "app.serving.build:model", arguments))
    if BARE & {*on_ray}:
        for model in models:
            arguments = {"workload": model}
            applications.append(_application(model, BARE_PREFIX, "scripts.bench.peers.ray_peer:build", arguments))
    return applications


def _application(model: str, prefix: str, import_path: str, arguments: Mapping[str, str]) -> dict:
    deployment = {
        "name": "Model",
        "num_replicas": 1,
        "autoscaling_config": None,
        "max_ongoing_requests": MAX_ONGOING,
        "ray_actor_options": {"num_cpus": 0.1},
    }
    return {
        "name": f"{prefix}/{model}".strip("/").replace("/", "-"),
        "route_prefix": f"{prefix}/v2/models/{model}",
        "import_path": import_path,
        "args": dict(arguments),
        "logging_config": {"enable_access_log": False},  # as no side writes one
        "deployments": [deployment],
    }


def _answering(target: Target) -> Target:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            target.ask()
            return target
        except (OSError, NotUpYet) as error:
            if time.monotonic() > deadline:
                raise LoadFailed(f"{target.path} on port {target.port} does not answer: {error}") from error
            time.sleep(0.1)
