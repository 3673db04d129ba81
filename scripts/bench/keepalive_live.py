"""The keep-alive policy in a real service, against its own simulation of the same trace.

One model on a stand-in GPU of constant power, so that what is booked on `load` and `warm` is their time; its load
takes four seconds and the start of a process. Requests come by a seeded trace of a few minutes: bursts, and gaps to
either side of the break-even. The simulation gets the same trace and settings, the mean load, and how long a replica
took to stop (drain and process end, seen every half second): what the policy decides is what is compared.
"""

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.policy.keepalive import KeepAlive, KeepAliveSettings
from scripts.bench.keepalive_sim import simulate
from scripts.bench.keepalive_trace import ModelTrace
from tests.fixtures.ray_cluster import RayCluster
from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubScript

WITHIN_BAR = 0.15
POWER_W = 100.0
LOAD_S = 4.0
LOOK_S = 0.5
POLICY = {"cold_price": 0.0, "first_break_even_s": 6.0}
BASE = "http://127.0.0.1:8000"
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}


def offsets_s(seconds: float) -> list[float]:
    """When requests come."""
    chance, found, now_s = np.random.default_rng(4), [], 0.0
    while now_s < seconds - 20:
        for gap_s in chance.uniform(0.5, 3, chance.integers(2, 5)):
            found.append(now_s)
            now_s += gap_s
        now_s += chance.choice([5.0, 20.0, 30.0])
    return found


def application() -> dict[str, Any]:
    scaling = {"min_replicas": 0, "max_replicas": 1, "target_ongoing_requests": 8, "upscale_delay_s": 0}
    scaling |= {
        "downscale_delay_s": 0,
        "downscale_to_zero_delay_s": 0,
        "look_back_period_s": 1,
        "metrics_interval_s": 0.5,
    }
    scaling["policy"] = {"policy_function": "app.serving.autoscale:KeepAlivePolicy", "policy_kwargs": POLICY}
    options = {"num_cpus": 0.5, "num_gpus": 1}
    return {
        "name": "sleeper",
        "route_prefix": "/v2/models/sleeper",
        "import_path": "app.serving.build:model",
        "args": {
            "name": "sleeper",
            "source": "python:scripts.bench.keepalive_model:Sleeper",
            "source_args": {"load_s": LOAD_S},
        },
        "deployments": [{"name": "Model", "autoscaling_config": scaling, "ray_actor_options": options}],
    }


def non_busy_j() -> dict[str, float]:
    groups = httpx.get(f"{BASE}/api/report", params={"by": "account"}, timeout=60).json()["rows"]
    booked = {row["group"]["account"]: row["energy_uj"] / 1e6 for row in groups}
    return {account: booked.get(account, 0.0) for account in ("load", "warm")}


def play(offsets: list[float]) -> list[float]:
    """Ask as the trace says, one after the other; the time each answer took."""
    begun_s, took_s = time.monotonic(), []
    with httpx.Client(timeout=90) as client:
        for offset_s in offsets:
            time.sleep(max(0.0, begun_s + offset_s - time.monotonic()))
            asked_s = time.monotonic()
            client.post(f"{BASE}/v2/models/sleeper/infer", json=BODY).raise_for_status()
            took_s.append(time.monotonic() - asked_s)
    return took_s


class StopWatch(threading.Thread):
    """How long the replica was on its way out, all stops together."""

    def __init__(self, cluster: RayCluster) -> None:
        super().__init__(daemon=True)
        self._cluster, self._over = cluster, threading.Event()
        self.stops, self.seconds = 0, 0.0

    def run(self) -> None:
        stopping, looked_s = False, time.monotonic()
        while not self._over.wait(LOOK_S):
            now_s, was = time.monotonic(), stopping
            stopping = any(one["state"] == "STOPPING" for one in self._cluster.replicas("sleeper"))
            self.stops += stopping and not was
            self.seconds += (now_s - looked_s) * (stopping + was) / 2
            looked_s = now_s

    def mean_s(self) -> float:
        self._over.set()
        self.join()
        return self.seconds / max(self.stops, 1)


def run(quick: bool) -> tuple[dict[str, Any], bool]:
    offsets = offsets_s(100 if quick else 180)
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        stub = NvmlStub.compile(state)
        stub.write(StubScript(devices=(StubDevice(phases=((0, round(POWER_W * 1e3)),)),)))
        with RayCluster(state, environment=stub.env() | {"JOULEKEEPER_SENSORS": "nvml"}) as cluster:
            console = {"name": "console", "route_prefix": "/", "import_path": "app.console.app:build"}
            cluster.deploy({"proxy_location": "HeadOnly", "applications": [console, application()]})
            cluster.await_replicas("sleeper", 0)
            watch = StopWatch(cluster)
            watch.start()
            took_s = play(offsets)
            cluster.await_replicas("sleeper", 0)
            stop_s = watch.mean_s()
            time.sleep(6)  # the last postings
            booked = non_busy_j()
    return compared(offsets, took_s, booked, stop_s)


def compared(
    offsets: list[float], took_s: list[float], booked: dict[str, float], stop_s: float
) -> tuple[dict[str, Any], bool]:
    cold = sum(seconds > LOAD_S / 2 for seconds in took_s)
    load_s = booked["load"] / POWER_W / max(cold, 1)
    # The client waits for each answer: requests that were due during a load come after it.
    trace = ModelTrace(np.array(offsets), np.full(len(offsets), load_s))
    keeper = KeepAlive(KeepAliveSettings(**POLICY))
    simulated = simulate(trace, keeper, POWER_W, POWER_W, stop_s)
    # The simulation ends with the last request, the service goes to sleep after it.
    plan = keeper.plan()
    simulated_j = (
        simulated.warm_s * POWER_W + simulated.load_j + (plan.sleep_at_s - plan.idle_from_s + stop_s) * POWER_W
    )
    live_j = booked["load"] + booked["warm"]
    difference = live_j / simulated_j - 1
    print(f"{'':12s}{'non-busy J':>12s}{'load J':>10s}{'warm J':>10s}{'loads':>8s}")
    print(f"{'live':12s}{live_j:12.0f}{booked['load']:10.0f}{booked['warm']:10.0f}{cold:8d}")
    warm_j = simulated_j - simulated.load_j
    print(f"{'simulated':12s}{simulated_j:12.0f}{simulated.load_j:10.0f}{warm_j:10.0f}{simulated.loads:8d}")
    met = abs(difference) <= WITHIN_BAR
    print(f"live over simulated {difference:+.1%} (bar within {WITHIN_BAR:.0%}): {'met' if met else 'MISSED'}")
    print(json.dumps({"took_s": [round(seconds, 2) for seconds in took_s], "load_s": load_s}))
    figures = {
        "live_j": live_j,
        "simulated_j": simulated_j,
        "difference": difference,
        "load_s": load_s,
        "stop_s": stop_s,
    }
    return figures | {"loads": cold, "simulated_loads": simulated.loads, "requests": len(offsets)}, met
