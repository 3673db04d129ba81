"""Twenty variants of a model in one pool, and as twenty deployments: memory, joules per request, p95 under a Zipf load.

    python scripts/bench/multiplex.py [--quick] [--variants 20] [--json FILE]

Sides, one after the other on a fresh cluster, with the same requests at the same moments (Poisson arrivals, seeded;
variant k is asked for in proportion to 1/k^1.1): a pool with room for all variants, a pool with room for six, and a
deployment per variant. Each variant is a published MLP of 9 MB. Memory is the replicas' PSS: shared pages count once;
joules are what the books charged to requests, loads and warm models of these variants in the window, over the requests
answered; latency is from the planned moment of a request to its answer, loads included.
"""

import argparse
import asyncio
import json
import platform
import random
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402
import yaml  # noqa: E402

from tests.fixtures.ray_cluster import RayCluster  # noqa: E402

BASE = "http://127.0.0.1:8000"
SIZES = (64, 1024, 1024, 1024, 10)
ZIPF = 1.1
WORK = ("request", "load", "warm")
SETTLE_S = 8
ROOM = 6


def publish_variants(root: Path, count: int) -> int:
    """Versions 1 to `count` of model `tone`; returns the bytes of one."""
    import torch
    from safetensors.torch import save_file

    from app.domain.tensor import Datatype, TensorSpec
    from app.models.architectures import build
    from app.models.blueprint import Mlp
    from app.models.card import ModelCard
    from app.models.repository import RepositorySettings, open_repository

    blueprint = Mlp(sizes=SIZES)
    card = ModelCard(
        name="tone",
        created="",
        runner="builtin",
        architecture=blueprint,
        inputs=(TensorSpec("x", Datatype.FP32, (-1, SIZES[0])),),
        outputs=(TensorSpec("y", Datatype.FP32, (-1, SIZES[-1])),),
    )
    repository = open_repository(RepositorySettings(str(root)))
    for seed in range(count):
        torch.manual_seed(seed)
        weights = build(blueprint).state_dict()
        repository.publish(
            "tone", lambda directory, weights=weights: save_file(weights, directory / "model.safetensors"), card
        )
    return sum(tensor.nbytes for tensor in weights.values())


def arrivals(count: int, rate_hz: float, seconds: float) -> list[tuple[float, int]]:
    """Moments and variants, from 1."""
    chance = random.Random(4)
    weights = [1 / rank**ZIPF for rank in range(1, count + 1)]
    found, now = [], 0.0
    while (now := now + chance.expovariate(rate_hz)) < seconds:
        found.append((now, chance.choices(range(1, count + 1), weights)[0]))
    return found


def applications(side: str, count: int, one_bytes: int) -> list[dict]:
    """What is deployed beside the console."""
    if side == "deployments":
        return [
            {
                "name": f"tone{number}",
                "route_prefix": f"/v2/models/tone{number}",
                "import_path": "app.serving.build:model",
                "args": {"name": f"tone{number}", "source": f"repository:tone@{number}"},
                "deployments": [replica({"num_cpus": 0.05})],
            }
            for number in range(1, count + 1)
        ]
    room = count if side == "pool" else ROOM
    return [
        {
            "name": "tone",
            "route_prefix": "/v2/models/tone",
            "import_path": "app.serving.pool:pool",
            "args": {"name": "tone", "source": "repository:tone", "max_memory_mb": (room + 0.5) * one_bytes / 1e6},
            "deployments": [replica({"num_cpus": 1})],
        }
    ]


def replica(options: dict) -> dict:
    """One replica that stays, so that both sides are measured awake."""
    return {"name": "Model", "autoscaling_config": None, "num_replicas": 1, "ray_actor_options": options}


def url_of(side: str, variant: int) -> str:
    if side == "deployments":
        return f"{BASE}/v2/models/tone{variant}/infer"
    return f"{BASE}/v2/models/tone/versions/{variant}/infer"


async def ask(side: str, plan: list[tuple[float, int]]) -> list[float]:
    """Send every request at its moment; latencies in ms. Raises on any that is not answered."""
    body = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, SIZES[0]], "data": [0.5] * SIZES[0]}]}
    ).encode()
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        began = time.monotonic()

        async def one(moment_s: float, variant: int) -> float:
            await asyncio.sleep(max(0.0, began + moment_s - time.monotonic()))
            (await client.post(url_of(side, variant), content=body)).raise_for_status()
            return (time.monotonic() - began - moment_s) * 1e3

        return await asyncio.gather(*(one(*each) for each in plan))


def work_uj() -> dict[str, int]:
    """What the books have charged so far to the three accounts of work."""
    rows = httpx.get(f"{BASE}/api/report", params={"by": "account"}, timeout=30).raise_for_status().json()["rows"]
    found = dict.fromkeys(WORK, 0)
    for row in rows:
        name = row["group"]["account"]
        if name in found:
            found[name] += row["energy_uj"]
    return found


def replica_pss_mb() -> float:
    """Of all replicas of our models; pages that several map count once."""
    total = 0
    for process in psutil.process_iter():
        try:
            title = " ".join(process.cmdline())
            if title.startswith("ray::ServeReplica") and "tone" in title:
                total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def measure(side: str, count: int, one_bytes: int, models: Path, plan: list[tuple[float, int]]) -> dict:
    console = next(
        app
        for app in yaml.safe_load((ROOT / "deployments" / "quickstart.yaml").read_text())["applications"]
        if app["name"] == "console"
    )
    with tempfile.TemporaryDirectory() as directory:
        environment = {"JOULEKEEPER_SENSORS": "cpu_model", "JOULEKEEPER_MODELS": str(models)}
        with RayCluster(Path(directory), environment=environment) as cluster:
            asked_s = time.monotonic()
            cluster.deploy({"applications": [console, *applications(side, count, one_bytes)]})
            up_s = time.monotonic() - asked_s
            warm_up = [(0.05 * number, variant) for number, variant in enumerate(range(1, count + 1))]
            asyncio.run(ask(side, warm_up))
            time.sleep(SETTLE_S)
            before = work_uj()
            latencies_ms = asyncio.run(ask(side, plan))
            memory_mb = replica_pss_mb()
            time.sleep(SETTLE_S)
            after = work_uj()
    spent = {name: (after[name] - before[name]) / len(plan) / 1e6 for name in WORK}
    return {
        "side": side,
        "memory_mb": memory_mb,
        "j_per_request": sum(spent.values()),
        **{f"{name}_j": joules for name, joules in spent.items()},
        "p50_ms": float(np.percentile(latencies_ms, 50)),
        "p95_ms": float(np.percentile(latencies_ms, 95)),
        "up_s": up_s,
        "requests": len(plan),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--sides", nargs="+", default=["pool", "pool of 6", "deployments"])
    parser.add_argument("--quick", action="store_true", help="8 variants, 8 seconds, without the side in between")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.variants, chosen.seconds, chosen.sides = 8, 8.0, ["pool", "deployments"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ray", "torch"))
    print(f"{chosen.variants} variants, {chosen.rate:g}/s for {chosen.seconds:g} s; {versions}; {platform.processor()}")
    with tempfile.TemporaryDirectory() as models:
        one_bytes = publish_variants(Path(models), chosen.variants)
        plan = arrivals(chosen.variants, chosen.rate, chosen.seconds)
        columns = ("memory_mb", "j_per_request", "request_j", "load_j", "warm_j", "p50_ms", "p95_ms", "up_s")
        print(f"{'side':<12}" + "".join(f"{name:>15}" for name in columns), flush=True)
        found = []
        for side in chosen.sides:
            found.append(measure(side, chosen.variants, one_bytes, Path(models), plan))
            print(f"{side:<12}" + "".join(f"{found[-1][name]:>15.3f}" for name in columns), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2))
    figures = "; ".join(
        f"{one['side']}: {one['memory_mb']:.0f} MB, {one['j_per_request']:.3f} J, p95 {one['p95_ms']:.1f} ms"
        for one in found
    )
    print(f"FIGURES {figures}")


if __name__ == "__main__":
    main()
