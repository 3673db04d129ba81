"""What an accountant costs per node: 10, 100 and 1,000 simulated nodes of eight GPUs, one batch per second each.

    python scripts/bench/scale.py [--quick] [--json FILE]

The accountant is the real actor on a local Ray cluster with its real store (SQLite), held on one core; the nodes are
swarm.py's, on the others. Lag is from the instant a batch is due until the node has the answer that it is committed.
The meter's own cost is that of the head's real meter over eight NVML stand-ins at 10 Hz.
Bars: every batch of 1,000 nodes is booked in its second (p99 lag <= 1 s, nothing waits at the end) on one core; the CPU
that one more node costs differs by at most 20 % between 10 to 100 and 100 to 1,000 nodes.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from scripts.bench.swarm import GPUS, POSTINGS  # noqa: E402
from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubScript  # noqa: E402

SIZES = (10, 100, 1000)
FLAT_BAR, LAG_BAR_S = 0.20, 1.0
WARMUP_S = 8


def process_titled(title: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith(title):
            return process
    raise RuntimeError(f"no process {title}")


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def ahead_of_others(task: int) -> None:
    """What else runs on this machine must not decide how long a batch waits; without the right to it, it does."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, task, -15)


def share(process: psutil.Process, seconds: float) -> float:
    """Part of a core that a process uses."""
    before = cpu_s(process)
    time.sleep(seconds)
    return (cpu_s(process) - before) / seconds


class Asker(threading.Thread):
    """Asks for the status every two seconds while deliveries flow."""

    def __init__(self, books: Any) -> None:
        super().__init__(daemon=True)
        self._books, self._done, self.seconds = books, threading.Event(), []

    def run(self) -> None:
        while not self._done.wait(2):
            begun = time.monotonic()
            self._books.status()
            self.seconds.append(time.monotonic() - begun)

    def stop(self) -> float:
        """The median answer."""
        self._done.set()
        self.join()
        return statistics.median(self.seconds) if self.seconds else float("nan")


def measure(books: Any, accountant: psutil.Process, nodes: int, seconds: int, cpus: list[int]) -> dict[str, Any]:
    """One size: `seconds` of steady deliveries after a warm-up in which devices and accounts become known."""
    plate, run = books.door(), f"{time.time_ns():x}"
    order = {"host": plate.host, "port": plate.port, "key": plate.key.hex(), "run": run, "cpus": cpus}
    order |= {"seconds": WARMUP_S + seconds, "warmup": WARMUP_S, "first": 0, "nodes": nodes}
    before_rss = accountant.memory_info().rss
    total_before_uj = books.report("account").energy_uj
    command = [sys.executable, str(ROOT / "scripts" / "bench" / "swarm.py"), json.dumps(order)]
    swarm = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ahead_of_others(swarm.pid)
    try:
        assert swarm.stdout is not None
        assert swarm.stdin is not None
        swarm.stdout.readline()
        begin_at = time.monotonic() + 0.5
        swarm.stdin.write(f"{begin_at}\n")
        swarm.stdin.flush()
        asker = Asker(books)
        time.sleep(begin_at + WARMUP_S - time.monotonic())
        asker.start()
        used_s, begun = cpu_s(accountant), time.monotonic()
        time.sleep(max(0.0, begin_at + WARMUP_S + seconds - 1 - time.monotonic()))
        core = (cpu_s(accountant) - used_s) / (time.monotonic() - begun)
        rss = accountant.memory_info().rss
        told = json.loads(swarm.stdout.readline())
        status_s = asker.stop()
    finally:
        swarm.kill()
        swarm.wait()
    booked_uj = books.report("account").energy_uj - total_before_uj
    if told["refused"] or booked_uj != told["posted_uj"]:
        raise RuntimeError(f"{nodes} nodes: {told['refused']} refused, booked {booked_uj} of {told['posted_uj']} uJ")
    lags = sorted(told["lags"])
    return {
        "nodes": nodes,
        "batches_per_s": len(lags) / seconds,
        "postings_per_s": len(lags) / seconds * POSTINGS,
        "core_share": core,
        "cpu_ms_per_node_s": core * 1e3 / nodes,
        "rss_mib": rss / 2**20,
        "rss_kib_per_node": (rss - before_rss) / 2**10 / nodes,
        "lag_p50_ms": lags[len(lags) // 2] * 1e3,
        "lag_p99_ms": lags[int(len(lags) * 0.99)] * 1e3,
        "status_ms": status_s * 1e3,
        "batch_bytes": told["frame_bytes"],
        "swarm_core_share": told["cpu_s"] / (WARMUP_S + seconds),
    }


def await_meter(books: Any, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not books.status().nodes:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no meter within {timeout_s} s")
        time.sleep(0.5)


def run(quick: bool) -> dict[str, Any]:
    seconds = 12 if quick else 40
    cores = sorted(os.sched_getaffinity(0))
    directory = Path(tempfile.mkdtemp(prefix="scale-"))
    stub = NvmlStub.compile(directory).with_script(directory / "nvml.script")
    stub.write(StubScript(devices=tuple(StubDevice(phases=((0, 60_000),)) for _ in range(GPUS)), tick_ms=20))
    os.environ |= stub.env() | {
        "JOULEKEEPER_STATE_DIR": str(directory),
        "JOULEKEEPER_IDLE_SAMPLE_HZ": "10",
        "RAY_AUTH_MODE": "disabled",
        "PYTHONPATH": str(ROOT),
    }
    import ray

    from app.metering.accountant import connect_books

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="bench")
    try:
        books = connect_books(create=True)
        await_meter(books)
        meter = process_titled("ray::Meter")
        time.sleep(5)
        result: dict[str, Any] = {"meter_core_share": share(meter, 5 if quick else 20)}
        result["meter_rss_mib"] = meter.memory_info().rss / 2**20
        books.close_books()  # the rest of the machine belongs to accountant and swarm
        accountant = process_titled("ray::Accountant")
        for thread in accountant.threads():
            os.sched_setaffinity(thread.id, {cores[0]})
            ahead_of_others(thread.id)
        result["idle_core_share"] = share(accountant, 5)
        others = cores[1:] or cores
        result["sizes"] = [measure(books, accountant, nodes, seconds, others) for nodes in SIZES]
        result["marginal_ms"] = {
            f"{less['nodes']} to {more['nodes']}": (more["core_share"] - less["core_share"])
            * 1e3
            / (more["nodes"] - less["nodes"])
            for less, more in pairwise(result["sizes"])
        }
        result["store_mib"] = sum(path.stat().st_size for path in directory.glob("books.sqlite*")) / 2**20
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)
    return result


def judged(result: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """(what, measured, bar, met)."""
    largest = result["sizes"][-1]
    fewer, more = result["marginal_ms"].values()
    growth = more / fewer - 1
    lag_s = largest["lag_p99_ms"] / 1e3
    return [
        (f"{largest['nodes']} nodes on one core", f"{largest['core_share']:.0%}", "< 100%", largest["core_share"] < 1),
        (f"{largest['nodes']} nodes, lag p99", f"{lag_s:.2f} s", f"<= {LAG_BAR_S:.0f} s", lag_s <= LAG_BAR_S),
        ("CPU of one more node, large against small", f"{growth:+.0%}", f"<= +{FLAT_BAR:.0%}", growth <= FLAT_BAR),
    ]


def print_table(result: dict[str, Any]) -> None:
    columns = (
        "nodes",
        "batches/s",
        "postings/s",
        "of a core",
        "ms/node/s",
        "RSS MiB",
        "lag p50 ms",
        "p99 ms",
        "status ms",
    )
    keys = ("nodes", "batches_per_s", "postings_per_s", "core_share", "cpu_ms_per_node_s", "rss_mib")
    keys += ("lag_p50_ms", "lag_p99_ms", "status_ms")
    forms = ("d", ".0f", ".0f", ".1%", ".3f", ".0f", ".0f", ".0f", ".0f")
    print(" ".join(f"{column:>11}" for column in columns))
    for size in result["sizes"]:
        print(" ".join(f"{size[key]:>11{form}}" for key, form in zip(keys, forms, strict=True)))
    print(f"accountant without nodes: {result['idle_core_share']:.1%} of a core; one more node, ms of CPU a second:")
    for span, cost in result["marginal_ms"].items():
        print(f"  {span} nodes: {cost:.3f}")
    first, last = result["sizes"][0], result["sizes"][-1]
    grown = (last["rss_mib"] - first["rss_mib"]) * 1024 / (last["nodes"] - first["nodes"])
    print(f"memory of one more node: {grown:.0f} KiB; a delivery of one batch: {last['batch_bytes']} bytes")
    meter = f"{result['meter_core_share']:.2%} of a core, {result['meter_rss_mib']:.0f} MiB"
    print(f"a meter over {GPUS} GPUs at 10 Hz: {meter}")
    for what, measured, bar, met in judged(result):
        print(f"{what}: {measured} (bar {bar}) {'met' if met else 'MISSED'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes, noisier")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    result = run(options.quick)
    versions = {name: metadata.version(name) for name in ("ray", "sqlalchemy")} | {"python": platform.python_version()}
    result |= {"versions": versions, "date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "quick": options.quick}
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({what: measured for what, measured, _, _ in judged(result)}))
    return 0 if all(met for *_, met in judged(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
