"""What measuring costs: CPU per device and sample, wall time per measured window, and the meter actor in a Ray cluster.

The overhead part of accuracy.py. Eight devices by the NVML stand-in, 10 Hz; all samplers run in the same seconds, and
an actor that does nothing beside the meter actor. CPU is that of a process and all below it, by the kernel's clock.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from peers.environments import peer_python
from side_by_side import Cast, our_environment

from app.sensors.process_table import cpu_time_ns
from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubScript

DEVICES, HZ = 8, 10
LEARNING_S = 14  # a meter compares counter and power at every reading in its first 11 s, then once a second
METER_BAR = 0.01
SAMPLERS = {
    "joulekeeper": "the meter: reads, attributes, journals",
    "zeus": "PowerMonitor, one power domain",
    "codecarbon": "EmissionsTracker, measure_power_secs=0.1",
}
POLLERS = {
    "joulekeeper_loop": "the sensor alone, every 100 ms",
    "zeus_loop": "ZeusMonitor, a window every 100 ms",
}
"""They read counters in a loop and do nothing with them; shown, no bar."""
EVERYBODY = SAMPLERS | POLLERS
WINDOWS = ("joulekeeper", "zeus", "codecarbon")
_WALL_COUNT = {"joulekeeper": 20_000, "zeus": 2_000, "codecarbon": 300}
_UUID = "GPU-00000000-0000-0000-0000-000000000000"


def stub_of(directory: Path) -> NvmlStub:
    """Eight devices whose power never stands still, as that of real ones."""
    dice, now_ns = random.Random(1), time.monotonic_ns()
    phases = [
        tuple((now_ns + step * 50_000_000, 60_000 + dice.randint(0, 3_000)) for step in range(6_000))
        for _ in range(DEVICES)
    ]
    stub = NvmlStub.compile(directory)
    stub.write(StubScript(devices=tuple(StubDevice(phases=own) for own in phases)))
    return stub


def cpu_ns(pid: int) -> int:
    """CPU time of a process and all its descendants."""
    process = psutil.Process(pid)
    return sum(cpu_time_ns(child.pid) or 0 for child in [process, *process.children(recursive=True)])


def _start_sampler(cast: Cast, name: str) -> None:
    peer, loops = name.split("_")[0], name in POLLERS
    if peer == "joulekeeper":
        cast.start(name, sys.executable, "joulekeeper_meter.py", *(["read"] if loops else []))
    else:
        mode = "loop" if loops else "sample"
        cast.start(name, peer_python(peer), f"{peer}_peer.py", mode, DEVICES, HZ)


def sampling(rounds: int, seconds: float) -> dict[str, list[float]]:
    """CPU microseconds per device and sample, by sampler and round."""
    found: dict[str, list[float]] = {name: [] for name in EVERYBODY}
    with tempfile.TemporaryDirectory(prefix="costs-") as path:
        directory = Path(path)
        stub = stub_of(directory)
        with Cast(directory, our_environment(stub, directory)) as cast:
            for name in EVERYBODY:
                _start_sampler(cast, name)
            pids = {name: cast.hear(name, "ready")["pid"] for name in EVERYBODY}
            time.sleep(3)  # past whatever they learn at their start
            for _ in range(rounds):
                before = {name: cpu_ns(pid) for name, pid in pids.items()}
                begun = time.monotonic()
                time.sleep(seconds)
                samples = (time.monotonic() - begun) * HZ * DEVICES
                for name, pid in pids.items():
                    found[name].append((cpu_ns(pid) - before[name]) / 1_000 / samples)
            cast.tell("stop", {})
    return found


def windows() -> dict[str, dict[str, float]]:
    """Wall and CPU microseconds of one measured window over one device, by tool, one tool after the other."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="costs-") as path:
        directory = Path(path)
        stub = stub_of(directory)
        with Cast(directory, our_environment(stub, directory)) as cast:
            for name in WINDOWS:
                count = _WALL_COUNT[name]
                if name == "joulekeeper":
                    cast.start(name, sys.executable, "joulekeeper_work.py", _UUID, count)
                else:
                    cast.start(name, peer_python(name), f"{name}_peer.py", "wall", 1, count)
                answer = cast.hear(name, "answer")
                found[name] = {
                    "wall_us": statistics.median(answer["wall_s"]) * 1e6,
                    "cpu_us": answer["cpu_s"] * 1e6,
                }
    return found


class Nothing:
    """An actor that does nothing: what any Ray actor costs."""

    def pid(self) -> int:
        return os.getpid()


def _pid_of(title: str, timeout_s: float = 90) -> int:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or []).startswith(title):
                return process.pid
        time.sleep(0.5)
    raise RuntimeError(f"no process {title} within {timeout_s:.0f} s")


def meter_actor(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Shares of a core of the meter actor and of an idle actor, by round."""
    import ray  # only this part needs a cluster

    from app.metering.accountant import connect_books
    from tests.fixtures.ray_cluster import RayCluster

    shares: dict[str, list[float]] = {"meter": [], "idle_actor": []}
    with tempfile.TemporaryDirectory(prefix="costs-") as path:
        state = Path(path)
        environment: Mapping[str, str] = stub_of(state).env() | {
            "JOULEKEEPER_SAMPLE_HZ": str(HZ),
            "JOULEKEEPER_IDLE_SAMPLE_HZ": str(HZ),
        }
        with RayCluster(state, environment=environment) as cluster:
            ray.init(address=cluster.address, log_to_driver=False, namespace="bench")
            try:
                connect_books(create=True).ensure_meter(ray.get_runtime_context().get_node_id())
                idle_actor = ray.remote(num_cpus=0)(Nothing).remote()
                pids = {"meter": _pid_of("ray::Meter"), "idle_actor": ray.get(idle_actor.pid.remote(), timeout=90)}
                time.sleep(LEARNING_S)
                for _ in range(rounds):
                    before = {name: cpu_time_ns(pid) or 0 for name, pid in pids.items()}
                    time.sleep(seconds)
                    for name, pid in pids.items():
                        shares[name].append(((cpu_time_ns(pid) or 0) - before[name]) / 1e9 / seconds)
            finally:
                ray.shutdown()
    return shares


def measured(quick: bool) -> dict:
    """All three parts."""
    rounds, seconds = (5, 2.0) if quick else (7, 4.0)
    result: dict = {"windows": windows(), "sampling_us": sampling(rounds, seconds)}
    shares = meter_actor(rounds, seconds)
    above = [meter - idle for meter, idle in zip(shares["meter"], shares["idle_actor"], strict=True)]
    result["meter"] = {name: statistics.median(values) for name, values in shares.items()}
    result["meter"] |= {"above": statistics.median(above), "rounds": shares}
    return result


def print_table(result: dict) -> None:
    print(f"\n{f'CPU per device-sample, {DEVICES} devices at {HZ} Hz':58} {'us':>7}")
    for name, what in EVERYBODY.items():
        print(f"{name.split('_')[0] + ': ' + what:58} {statistics.median(result['sampling_us'][name]):7.1f}")
    meter = result["meter"]
    beside = meter["above"] * 1e6 / HZ / DEVICES
    print(f"{'joulekeeper: meter actor in Ray, above an idle actor':58} {beside:7.1f}")
    print(f"\n{'one measured window, one device':40} {'wall us':>9} {'CPU us':>9}")
    for name in WINDOWS:
        row = result["windows"][name]
        print(f"{name:40} {row['wall_us']:9.1f} {row['cpu_us']:9.1f}")
    print(f"meter actor: {meter['meter']:.2%} of a core; an idle actor: {meter['idle_actor']:.2%}")


def verdicts(result: dict) -> list[tuple[str, str, str, bool]]:
    """What, measured, bar, met."""
    samples = {name: statistics.median(result["sampling_us"][name]) for name in SAMPLERS}
    ours, best = samples["joulekeeper"], min(value for name, value in samples.items() if name != "joulekeeper")
    wall = {name: row["wall_us"] for name, row in result["windows"].items()}
    our_wall = wall.pop("joulekeeper")
    least = min(wall.values())
    above = result["meter"]["above"]
    return [
        ("CPU per device-sample of a sampler", f"{ours:.1f} us", f"below the peers' {best:.1f} us", ours < best),
        (
            "wall per window",
            f"{our_wall:.1f} us",
            f"below the peers' {least:.1f} us",
            our_wall < least,
        ),
        ("meter above an idle actor, of a core", f"{above:.2%}", f"< {METER_BAR:.0%}", above < METER_BAR),
    ]
