"""The load of the serving benchmark: wrk with one thread and kept connections, the same for every side.

Also says what else burned CPU meanwhile. Knows nothing of sides. Raises LoadFailed for any answer that is not 200.
"""

import http.client
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPT = Path(__file__).with_name("wrk_report.lua")
TIMEOUT_S = 60


class LoadFailed(RuntimeError):
    """A side answered with something else than 200, or not at all: the run is void."""


class NotUpYet(LoadFailed):
    """404 or 503: what answers does not serve this model, or not yet."""


@dataclass(frozen=True)
class Target:
    """One URL with what is sent to it."""

    port: int
    path: str
    body: bytes
    headers: Mapping[str, str]

    def ask(self) -> bytes:
        """The answer to one request. Raises LoadFailed, or OSError where nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", self.path, self.body, dict(self.headers))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            fault = NotUpYet if response.status in (404, 503) else LoadFailed
            raise fault(f"{self.path} on port {self.port} answered {response.status}: {answer[:300]!r}")
        return answer


@dataclass(frozen=True)
class Burst:
    """What one burst found."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    side_cpu_us: float
    """CPU of all processes of the side per request."""
    load_share: float
    """Part of a core that wrk used: near 1 it would be the bottleneck."""
    foreign_share: float
    """Parts of a core used by anybody else."""


def burst(target: Target, clients: int, seconds: int) -> Burst:
    """Send from `clients` connections for `seconds`, and wait until what was left in flight is answered."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(target.body)
        body.flush()
        begun, side, machine, load = (time.monotonic(), _side_cpu_s(), _machine_cpu_s(), _load_cpu_s())
        found = _wrk(target, clients, seconds, body.name)
        target.ask()  # behind all that wrk left in the queue
    took_s = time.monotonic() - begun
    load_s, machine_s, side_s = (_load_cpu_s() - load, _machine_cpu_s() - machine, _side_cpu_s() - side)
    if found["errors"] or found["timeouts"] or not found["requests"]:
        raise LoadFailed(f"{target.path} on port {target.port}, {clients} clients: {found}")
    return Burst(
        requests_per_s=found["requests"] / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        requests=found["requests"],
        side_cpu_us=side_s * 1e6 / found["requests"],
        load_share=load_s / seconds,
        foreign_share=max(0.0, (machine_s - side_s - load_s) / took_s),
    )


def idle_share(seconds: float) -> float:
    """Part of a core that the running side uses while nobody asks."""
    before = _side_cpu_s()
    time.sleep(seconds)
    return (_side_cpu_s() - before) / seconds


def _wrk(target: Target, clients: int, seconds: int, body_path: str) -> dict[str, float]:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadFailed("wrk is not installed; apt-get install wrk")
    headers = [part for name, value in target.headers.items() for part in ("-H", f"{name}: {value}")]
    command = [wrk, "-t1", f"-c{clients}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", "-s", str(SCRIPT), *headers]
    url = f"http://127.0.0.1:{target.port}{target.path}"
    environment = {**os.environ, "BENCH_BODY": body_path}
    printed = subprocess.run([*command, url], env=environment, capture_output=True, text=True, check=True).stdout
    line = next(line for line in printed.splitlines() if line.startswith("JSON "))
    return dict(json.loads(line.removeprefix("JSON ")))


def _side_cpu_s() -> float:
    """CPU of everything below this process: a side is all that runs there beside wrk, which has ended by then."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _load_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.softirq + times.irq)
