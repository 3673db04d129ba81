"""The first request to a model at zero replicas: Joulekeeper against plain Ray Serve with the same torch model.

    python scripts/bench/cold_start.py [--quick] [--json FILE]

Two Ray clusters run side by side on this machine and are asked in turn, ten times (three with --quick), each time for a
model that was awake once and sleeps; all files were read before. Joulekeeper is the quickstart with its console. Plain
Ray Serve is cold_peer.py: no flags, FastAPI, the same encoder; once with Serve's default autoscaling, which hears of
requests every ten seconds (a model for each round: half a minute passes before such a one sleeps again), and once with
the intervals of the quickstart. Where the time went is read from the logs of Serve's controller and of the replica.
Bar: median of Joulekeeper <= 0.3 x median of plain Ray Serve, of either kind.
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import yaml  # noqa: E402

from tests.fixtures.ray_cluster import RayCluster  # noqa: E402

BAR = 0.3
SIDES = ("Joulekeeper", "plain Ray Serve", "plain, our intervals")
TUNED = "tuned"
OURS = "/v2/models/minilm/infer"
TENSORS = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["one joule"]}]}
TEXTS = {"texts": ["one joule"]}
PATIENCE_S = 60.0
PARTS = {
    "decide": "request held, controller decides",
    "create": "replica asked for, process there",
    "imports": "import torch",
    "load": "tokenizer and weights",
    "first runs": "first run, and until it is warm",
    "ready": "doors open, controller knows",
    "answer": "route known, answered",
}
_STAMP = re.compile(r"^\w+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) ")
_TIMES = re.compile(r"(imports|load|first runs) (\d+) ms")
LOGS_AT_ONCE = {"RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1"}


class PlainCluster(RayCluster):
    """Ray without any of our variables, beside the other cluster."""

    address = "127.0.0.1:6390"
    dashboard = "http://127.0.0.1:8275"
    ports = (6390, 8100, 8275)
    options = (
        *("--port=6390", "--dashboard-port=8275", "--ray-client-server-port=9990"),
        "--dashboard-agent-listen-port=0",
    )
    mode: Mapping[str, str] = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


class Door:
    """The HTTP port of one cluster and where its logs are."""

    def __init__(self, cluster: RayCluster, port: int, session: Path) -> None:
        self.cluster, self._port, self._logs = cluster, port, session / "logs" / "serve"

    def ask(self, path: str, body: object) -> tuple[float, float]:
        """Send one request; when it was sent and when it was answered (Unix seconds). Raises RuntimeError."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        connection.connect()
        content = json.dumps(body).encode()
        sent = time.time()
        connection.request("POST", path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        answered = time.time()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {said[:300]!r}")
        return sent, answered

    def sleep(self, *applications: str) -> None:
        """Wait until they have no replica and the workers that wait have nothing left to prepare."""
        for application in applications:
            self.cluster.await_replicas(application, 0)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not _are_quiet():
            time.sleep(0.5)

    def parts(self, application: str, sent: float, answered: float) -> dict[str, float]:
        """Where the time of the last request went, in seconds, by the logs."""
        controller = [
            line for line in _lines(self._logs, "controller_[0-9]*.log", sent) if f"app='{application}'" in line[1]
        ]
        loaded = _first(_lines(self._logs, f"replica_{application}_*.log", sent), "first runs ")
        decided, ready = _first(controller, "from 0 to 1 replicas"), _first(controller, "started successfully")
        times = {name: int(ms) / 1000 for name, ms in _TIMES.findall(loaded[1])}
        return {
            "decide": decided[0] - sent,
            "create": loaded[0] - sum(times.values()) - decided[0],
            **{"imports": 0.0, **times},
            "ready": ready[0] - loaded[0],
            "answer": answered - ready[0],
        }


def _are_quiet() -> bool:
    """Whether Ray's waiting workers, watched for a second, use no CPU: what prepares itself is no rest."""
    workers = [each for each in psutil.process_iter(["cmdline"]) if _title(each).startswith("ray::IDLE")]
    before = {each.pid: _cpu_s(each) for each in workers}
    time.sleep(1)
    return all(_cpu_s(each) - before[each.pid] < 0.1 for each in workers)


def _title(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or ())


def _cpu_s(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _lines(directory: Path, pattern: str, since: float) -> list[tuple[float, str]]:
    """Log lines of the files, later than `since`, with their times."""
    found = []
    for path in directory.glob(pattern):
        for line in path.read_text(errors="replace").splitlines():
            stamp = _STAMP.match(line)
            if stamp and (at := datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()) >= since - 0.001:
                found.append((at, line))
    return sorted(found)


def _first(lines: list[tuple[float, str]], words: str) -> tuple[float, str]:
    for line in lines:
        if words in line[1]:
            return line
    raise RuntimeError(f"no log line says {words!r}; Serve's logs may read otherwise in this version")


def joulekeeper_config() -> dict:
    """The quickstart, asleep two seconds after the last request."""
    config = yaml.safe_load((ROOT / "deployments" / "quickstart.yaml").read_text())
    for application in config["applications"]:
        if application["name"] == "minilm":
            application["deployments"][0]["autoscaling_config"]["downscale_delay_s"] = 2
    return config


def plain_config(rounds: int) -> dict:
    """A model for each round, of which nothing is said but where it is, and one with our intervals."""
    scaling = {"min_replicas": 0, "max_replicas": 1, "downscale_delay_s": 2}
    tuned = {"name": "Model", "autoscaling_config": scaling | {"look_back_period_s": 2, "metrics_interval_s": 0.5}}
    applications = [{"name": f"plain{number}"} for number in range(rounds)]
    applications.append({"name": TUNED, "deployments": [tuned]})
    for application in applications:
        application["route_prefix"] = f"/{application['name']}"
        application["import_path"] = "scripts.bench.peers.cold_peer:application"
    return {"http_options": {"host": "127.0.0.1", "port": 8100}, "applications": applications}


def run(rounds: int) -> dict:
    """All sides in turn; seconds of every request, and of its parts."""
    found: dict[str, list[dict]] = {name: [] for name in SIDES}
    with contextlib.ExitStack() as stack:
        ours, theirs = start(stack, rounds)
        applications = [f"plain{number}" for number in range(rounds)] + [TUNED]
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda name: theirs.ask(f"/{name}/infer", TEXTS), applications))
        ours.ask(OURS, TENSORS)
        theirs.sleep(*applications)
        for number in range(rounds):
            turns = ((ours, "minilm", OURS, TENSORS), (theirs, f"plain{number}", "", TEXTS), (theirs, TUNED, "", TEXTS))
            for side, (door, name, path, body) in zip(SIDES, turns, strict=True):
                ours.sleep("minilm")
                door.sleep(name)
                sent, answered = door.ask(path or f"/{name}/infer", body)
                found[side].append({"total": answered - sent} | door.parts(name, sent, answered))
                print(f"round {number + 1} {side}: {answered - sent:.2f} s", file=sys.stderr, flush=True)
    return found


def start(stack: contextlib.ExitStack, rounds: int) -> tuple[Door, Door]:
    """Both clusters with their applications deployed; `stack` ends them."""
    state, plain_state = (Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jk"))) for _ in range(2))
    cluster = stack.enter_context(RayCluster(state, environment=LOGS_AT_ONCE))
    session = Path("/tmp/ray/session_latest").resolve()
    plain = PlainCluster(plain_state, environment=LOGS_AT_ONCE)
    plain.options = (*PlainCluster.options, f"--temp-dir={plain_state / 'ray'}")
    stack.enter_context(plain)
    cluster.deploy(joulekeeper_config())
    plain.deploy(plain_config(rounds))
    return Door(cluster, 8000, session), Door(plain, 8100, plain_state / "ray" / "session_latest")


def figures(found: dict[str, list[dict]]) -> dict:
    """Medians, and the ratios that are judged."""
    sides = {
        name: {
            "p50_s": statistics.median(each["total"] for each in rows),
            "min_s": min(each["total"] for each in rows),
            "max_s": max(each["total"] for each in rows),
            "parts_s": {part: statistics.median(each[part] for each in rows) for part in PARTS},
        }
        for name, rows in found.items()
    }
    ratios = {name: sides[SIDES[0]]["p50_s"] / sides[name]["p50_s"] for name in SIDES[1:]}
    return {"ratio": ratios, **sides}


def print_table(result: dict) -> None:
    print(f"{'seconds, medians':34} " + " ".join(f"{name:>24}" for name in SIDES))
    for part, words in PARTS.items():
        print(f"{words:34} " + " ".join(f"{result[name]['parts_s'][part]:24.3f}" for name in SIDES))
    for key, words in {"p50_s": "sent to answered, p50", "min_s": "fastest", "max_s": "slowest"}.items():
        print(f"{words:34} " + " ".join(f"{result[name][key]:24.3f}" for name in SIDES))
    for name, ratio in result["ratio"].items():
        print(f"first request after zero: {ratio:.2f} x {name} (bar <= {BAR}) {'met' if ratio <= BAR else 'MISSED'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds, under two minutes")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    found = run(3 if options.quick else 10)
    result = figures(found)
    versions = {name: metadata.version(name) for name in ("ray", "torch")} | {"python": platform.python_version()}
    result |= {"versions": versions, "date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "quick": options.quick}
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result | {"runs": found}, indent=1))
    print(json.dumps(result))
    return 0 if max(result["ratio"].values()) <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
