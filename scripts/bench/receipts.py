"""Provisional against settled receipts: what a response said its request used, and what the books found a little later.

    python scripts/bench/receipts.py [--quick] [--nvml] [--json FILE]

The quickstart's minilm with one replica, asked by four HTTP clients and one gRPC client at once: 1 to 32 texts per
request, 2 to 150 words each, some clients pausing between requests. Each response's provisional receipt is
kept; when all have settled they are looked up and compared, request by request. `--nvml` gives the replica a stand-in
GPU beside the modelled CPU, whose power changes by chance every second, and nobody pauses.
Bar: median of |provisional - settled| / settled <= 5 %.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import grpc  # noqa: E402
import httpx  # noqa: E402
import numpy as np  # noqa: E402
import yaml  # noqa: E402

from app.protocol.generated import open_inference_pb2 as pb  # noqa: E402
from app.protocol.generated.open_inference_pb2_grpc import GRPCInferenceServiceStub  # noqa: E402
from tests.fixtures.ray_cluster import RayCluster  # noqa: E402
from tests.stubs.nvml.stub import NvmlStub, StubDevice, StubScript  # noqa: E402

MEDIAN_BAR = 0.05
ROWS = (1, 1, 1, 2, 4, 8, 16, 32)
WORDS = (4, 12, 40, 100)
VOCABULARY = ["energy", "model", "request", "server", "carbon", "ledger", "joule", "meter", "slice", "account"]
PAUSES_S = (0.0, 0.0, 0.02, 0.1)
HTTP_CLIENTS = 4
URL = "http://127.0.0.1:8000/v2/models/minilm/infer"
RECEIPTS_URL = "http://127.0.0.1:8000/api/receipts"
PREFIX = "x-joulekeeper-"


@dataclass(frozen=True)
class Told:
    """What a response said."""

    receipt_id: str
    energy_uj: int
    rows: int


def texts_of(count: int, seed: int) -> Iterator[list[str]]:
    """The texts of `count` requests."""
    chance = random.Random(seed)
    for _ in range(count):
        words = chance.choice(WORDS)
        yield [
            " ".join(chance.choices(VOCABULARY, k=max(1, round(words * chance.uniform(0.5, 1.5)))))
            for _ in range(chance.choice(ROWS))
        ]


class Clients:
    """Send requests from several threads, each taking the next of the same list."""

    def __init__(self, requests: Iterator[list[str]], pauses: bool) -> None:
        self._requests, self._pauses = requests, pauses
        self._lock = threading.Lock()
        self.told: list[Told] = []
        self.faults: list[str] = []

    def run(self) -> None:
        """Until all requests are answered. Raises RuntimeError if one failed."""
        ways = [self._by_http] * HTTP_CLIENTS + [self._by_grpc]
        threads = [threading.Thread(target=self._work, args=(way, seed)) for seed, way in enumerate(ways)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.faults:
            raise RuntimeError(self.faults[0])

    def _work(self, way: object, seed: int) -> None:
        chance = random.Random(seed)
        pauses_s = PAUSES_S if self._pauses and seed % 2 else (0.0,)
        try:
            with httpx.Client(timeout=120) as http, grpc.insecure_channel("127.0.0.1:9000") as channel:
                session = GRPCInferenceServiceStub(channel) if way == self._by_grpc else http
                while (texts := self._next()) is not None:
                    told = way(session, texts)  # type: ignore[operator]
                    with self._lock:
                        self.told.append(told)
                    time.sleep(chance.choice(pauses_s))
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")

    def _next(self) -> list[str] | None:
        with self._lock:
            return next(self._requests, None)

    def _by_http(self, session: httpx.Client, texts: list[str]) -> Told:
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        answer = session.post(URL, json={"inputs": [tensor]})
        answer.raise_for_status()
        return told_by(answer.headers, len(texts))

    def _by_grpc(self, session: GRPCInferenceServiceStub, texts: list[str]) -> Told:
        contents = pb.InferTensorContents(bytes_contents=[text.encode() for text in texts])
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="text", datatype="BYTES", shape=[len(texts)], contents=contents
        )
        request = pb.ModelInferRequest(model_name="minilm", inputs=[tensor])
        _, call = session.ModelInfer.with_call(request, metadata=[("application", "minilm")], timeout=120)
        return told_by(dict(call.trailing_metadata()), len(texts))


def told_by(headers: object, rows: int) -> Told:
    if headers.get(f"{PREFIX}energy_uj") is None:  # type: ignore[attr-defined]
        raise RuntimeError(f"a response without energy: {dict(headers)}")  # type: ignore[call-overload]
    return Told(headers[f"{PREFIX}receipt_id"], int(headers[f"{PREFIX}energy_uj"]), rows)  # type: ignore[index]


def settled_receipts(ids: list[str], timeout_s: float = 60) -> dict[str, dict]:
    """The settled receipts by id. Raises RuntimeError when one is missing or does not settle."""
    deadline = time.monotonic() + timeout_s
    while True:
        found: dict[str, dict] = {}
        for start in range(0, len(ids), 500):
            answer = httpx.post(RECEIPTS_URL, json={"ids": ids[start : start + 500]}, timeout=60)
            answer.raise_for_status()
            if answer.json()["missing"]:
                raise RuntimeError(f"receipts are missing: {answer.json()['missing']}")
            found |= {receipt["receipt_id"]: receipt for receipt in answer.json()["receipts"]}
        waiting = sum(receipt["provisional"] for receipt in found.values())
        if not waiting:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"{waiting} receipts did not settle within {timeout_s} s")
        time.sleep(0.5)


def quickstart(nvml: bool) -> dict:
    """The quickstart with one replica of minilm that stays, on the stand-in GPU if `nvml`."""
    config = yaml.safe_load((ROOT / "deployments" / "quickstart.yaml").read_text())
    minilm = next(app for app in config["applications"] if app["name"] == "minilm")
    minilm["deployments"][0] |= {"autoscaling_config": None, "num_replicas": 1}
    minilm["deployments"][0]["ray_actor_options"] = {"num_cpus": 0.5} | ({"num_gpus": 1} if nvml else {})
    return config


def changing_power(seconds: int) -> StubScript:
    """A GPU of 60 W that from now on takes 240 to 360 W, another figure every second."""
    chance, now_ns = random.Random(7), time.monotonic_ns()
    steps = tuple((now_ns + n * 1_000_000_000, chance.randrange(240_000, 360_000)) for n in range(seconds))
    return StubScript(devices=(StubDevice(phases=((0, 60_000), *steps)),))


def run(count: int, nvml: bool) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        environment = {"JOULEKEEPER_SENSORS": "cpu_model"}
        if nvml:
            stub = NvmlStub.compile(state)
            stub.write(StubScript(devices=(StubDevice(phases=((0, 60_000),)),)))
            environment = stub.env() | {"JOULEKEEPER_SENSORS": "nvml,cpu_model"}
        with RayCluster(state, environment=environment) as cluster:
            cluster.deploy(quickstart(nvml))
            time.sleep(5)  # the load settles, the floor and the pace of the host are learned
            if nvml:
                stub.write(changing_power(1800))
            Clients(texts_of(20, seed=2), pauses=False).run()
            time.sleep(4)
            clients = Clients(texts_of(count, seed=1), pauses=not nvml)
            begun = time.monotonic()
            clients.run()
            took_s = time.monotonic() - begun
            receipts = settled_receipts([told.receipt_id for told in clients.told])
    return compared(clients.told, receipts) | {"took_s": took_s}


def compared(told: list[Told], receipts: dict[str, dict]) -> dict:
    """Figures over all requests, and by how long they took."""
    provisional = np.array([one.energy_uj for one in told], float)
    final = np.array([receipts[one.receipt_id]["energy_uj"] for one in told], float)
    duration_ms = np.array([receipts[one.receipt_id]["duration_ns"] for one in told]) / 1e6
    off = np.abs(provisional - final) / np.maximum(final, 1)
    groups = {}
    for name, low, high in (("< 20 ms", 0, 20), ("20..100 ms", 20, 100), (">= 100 ms", 100, np.inf)):
        among = (duration_ms >= low) & (duration_ms < high)
        if among.any():
            groups[name] = {"requests": int(among.sum())} | figures(off[among], provisional[among], final[among])
    return {
        "requests": len(told),
        "grade": "/".join(sorted({receipt["grade"] for receipt in receipts.values()})),
        "duration_ms": {f"p{q}": float(np.quantile(duration_ms, q / 100)) for q in (5, 50, 95)},
        "all": figures(off, provisional, final),
        "by_duration": groups,
    }


def figures(off: np.ndarray, provisional: np.ndarray, final: np.ndarray) -> dict:
    median, p90, p99 = (float(np.quantile(off, q)) for q in (0.5, 0.9, 0.99))
    sums = {"provisional_uj": int(provisional.sum()), "settled_uj": int(final.sum())}
    return {"median": median, "p90": p90, "p99": p99, "bias": float(provisional.sum() / final.sum() - 1)} | sums


def print_table(result: dict) -> None:
    times = ", ".join(f"{name} {value:.0f} ms" for name, value in result["duration_ms"].items())
    print(f"{result['requests']} requests in {result['took_s']:.0f} s ({times}), graded {result['grade']}")
    print(
        f"{'requests':12} {'number':>6} {'median':>8} {'p90':>8} {'p99':>8} {'bias':>8} {'told J':>9} {'settled J':>9}"
    )
    rows = {"all": {"requests": result["requests"]} | result["all"]} | result["by_duration"]
    for name, row in rows.items():
        print(
            f"{name:12} {row['requests']:6} {row['median']:8.2%} {row['p90']:8.2%} {row['p99']:8.2%} "
            f"{row['bias']:+8.2%} {row['provisional_uj'] / 1e6:9.2f} {row['settled_uj'] / 1e6:9.2f}"
        )
    met = result["all"]["median"] <= MEDIAN_BAR
    print(f"median difference: {result['all']['median']:.2%} (bar <= {MEDIAN_BAR:.0%}) {'met' if met else 'MISSED'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 requests, under two minutes")
    parser.add_argument("--nvml", action="store_true", help="beside the CPU a stand-in GPU")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    result = run(200 if options.quick else 1000, options.nvml)
    versions = {name: metadata.version(name) for name in ("ray", "torch")} | {"python": platform.python_version()}
    result |= {"versions": versions, "date": time.strftime("%Y-%m-%d"), "cpus": os.cpu_count(), "nvml": options.nvml}
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({"requests": result["requests"], "grade": result["grade"]} | result["all"]))
    return 0 if result["all"]["median"] <= MEDIAN_BAR else 1


if __name__ == "__main__":
    sys.exit(main())
