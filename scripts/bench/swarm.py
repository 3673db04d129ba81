"""A swarm of simulated nodes: batches of eight busy GPUs, delivered once per second and node at an accountant's door.

What is simulated is the node: readings and postings are drawn, and batches are sealed before the clock runs. Batches,
their encoding, the connection of each node and the waiting for its answer are those of real meters. Run by scale.py
as a process of its own.

    python scripts/bench/swarm.py '{"host": ..., "port": ..., "key": hex, "first": 0, "nodes": 500, "seconds": 30, ...}'
"""

import asyncio
import json
import os
import random
import resource
import struct
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.domain.account import IDLE_WATCHED, request_account, warm_account  # noqa: E402
from app.engine.delivery import Delivery, MeterCondition  # noqa: E402
from app.ledger.batch import GENESIS, Batch  # noqa: E402

GPUS, HZ = 8, 10
_LENGTH = struct.Struct("!I")
_ACCOUNTS = [
    account.labels()
    for account in (request_account("acme", "llama-70b", "1"), warm_account("llama-70b", "1"), IDLE_WATCHED)
]
POSTINGS = GPUS * len(_ACCOUNTS)


class Node:
    """One simulated node: the chain of its journal."""

    def __init__(self, number: int, run: str) -> None:
        self._random = random.Random(number)
        self.name = f"node-{number:04d}"
        self._machine, self._boot = f"{number:032x}", f"{number:08x}-0000-4000-8000-000000000000"
        self._meter = f"{self._machine}:{self.name}:{run}"
        self._uuids = [f"GPU-{number:08x}-1111-4000-8000-{gpu:012x}" for gpu in range(GPUS)]
        self._counters_uj = [self._random.randrange(10**13) for _ in range(GPUS)]
        self._sequence, self._digest = 0, GENESIS
        self._wall_ns, self._now_ns = time.time_ns(), 10**14
        self.posted_uj = 0

    def frame(self) -> bytes:
        """The next second of this node as a message."""
        batch = Batch.sealed(self._meter, 1, self._sequence, self._digest, self._body())
        self._sequence, self._digest = self._sequence + 1, batch.digest
        message = Delivery(MeterCondition(self._meter, self.name, "ray", 1), (batch,)).to_bytes()
        return _LENGTH.pack(len(message)) + message

    def _body(self) -> dict[str, Any]:
        devices, postings = [], []
        begun_ns, self._now_ns = self._now_ns, self._now_ns + 10**9
        for gpu, uuid in enumerate(self._uuids):
            raw = [[begun_ns, self._counters_uj[gpu]]]
            for reading in range(1, HZ + 1):
                at_ns = begun_ns + reading * 10**9 // HZ
                raw.append([at_ns, raw[-1][1] + self._random.randrange(20_000_000, 70_000_000)])
            moved_uj, self._counters_uj[gpu] = raw[-1][1] - raw[0][1], raw[-1][1]
            self.posted_uj += moved_uj
            key = f"{self._machine}/{self._boot}/{uuid}"
            parts_uj = [moved_uj * 7 // 10, moved_uj // 10]
            parts_uj.append(moved_uj - sum(parts_uj))
            postings += [
                {"device": key, "account": account, "energy_uj": uj, "uncertainty_uj": uj // 90, "grade": "counter"}
                for account, uj in zip(_ACCOUNTS, parts_uj, strict=True)
            ]
            devices.append(
                {"key": key, "uuid": uuid, "kind": "gpu", "name": "NVIDIA H100 80GB HBM3", "grade": "counter"}
                | {"wraps_at_uj": None, "absence": None, "raw": raw}
            )
        return self._rest(devices) | {"devices": devices, "postings": postings}

    def _rest(self, devices: list[dict[str, Any]]) -> dict[str, Any]:
        vitals = {"power_mw": 431_234, "utilization": 0.93, "memory_used_bytes": 61_234_567_890}
        vitals |= {"memory_total_bytes": 85_899_345_920, "temperature_c": 63.0}
        condition = {"update_period_ns": 20_000_000, "counter_to_power": 1.0017, "disputed": False, "notes": []}
        return {
            "machine": self._machine,
            "boot": self._boot,
            "node": self.name,
            "wall_ns": self._wall_ns + self._sequence * 10**9,
            "wall_minus_monotonic_ns": 17 * 10**17,
            "parts": [],
            "vitals": dict.fromkeys(self._uuids, vitals),
            "conditions": dict.fromkeys(self._uuids, condition),
            "residents": ["llama-70b@1"],
            "failures": {},
            "lost_slices": 0,
            "resume": {
                "clean": False,
                "devices": {
                    device["uuid"]: {"floor_mw": 71_234.5, "ceiling_mw": 701_234.5, "last": device["raw"][-1]}
                    | {"busy_ns": 0, "cpu_ns": {}}
                    for device in devices
                },
            },
        }


async def live(order: dict[str, Any], frames: list[bytes], begin_at: float, lags: list[float]) -> int:
    """Deliver one frame a second, each answered before the next; returns how many were refused."""
    reader, writer = await asyncio.open_connection(order["host"], order["port"])
    key = bytes.fromhex(order["key"])
    writer.write(_LENGTH.pack(len(key)) + key)
    refused = 0
    for number, frame in enumerate(frames):
        due = begin_at + number
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        writer.write(frame)
        (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        refused += (await reader.readexactly(size))[:1] != b"\0"
        if number >= order["warmup"]:
            lags.append(time.monotonic() - due)
    writer.close()
    return refused


async def run(order: dict[str, Any]) -> dict[str, Any]:
    """All nodes of this process, spread over the second."""
    nodes = [Node(number, order["run"]) for number in range(order["first"], order["first"] + order["nodes"])]
    frames = [[node.frame() for _ in range(order["seconds"])] for node in nodes]
    print("ready", flush=True)
    begin_at = float(sys.stdin.readline())
    used = resource.getrusage(resource.RUSAGE_SELF)
    lags: list[float] = []
    offsets = [begin_at + (order["first"] + i) * 0.6180339887 % 1.0 for i in range(len(nodes))]
    refused = await asyncio.gather(*(live(order, *each, lags) for each in zip(frames, offsets, strict=True)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "refused": sum(refused),
        "posted_uj": sum(node.posted_uj for node in nodes),
        "frame_bytes": len(frames[0][0]),
        "lags": lags,
        "cpu_s": after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime,
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    os.sched_setaffinity(0, set(given["cpus"]))
    print(json.dumps(asyncio.run(run(given))), flush=True)
