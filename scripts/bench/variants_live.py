"""A day of the grid in a minute or two: a pool with a carbon budget on Ray, beside the optimum of what it was asked.

    python scripts/bench/variants.py --live [--quick]

A local server speaks Electricity Maps v3 with hours of a few seconds (live_day_run.py: California, 13 October 2021,
actual and the real day-ahead forecast). Three variants that take 30, 12 and 6 ms of CPU time (their quality is said:
0.95, 0.92, 0.8) are measured, a budget half way between the cheapest and the best one is set, and the pool answers
requests that name no variant from then until the first whole day is over. The load is Azure's (variants_day.py), drawn
at random within each hour. Grams are the accountant's, the optimum is of the joules and the hours as they were.
"""

import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.domain.decision import Choice
from app.engine.decision_files import choices_in, directory_of
from app.policy.variants import Variant
from scripts.bench.live_day_run import BEFORE_HOURS, FILE_OF_DAY, DayServer, Hours, environment_of
from scripts.bench.variants_day import STEPS, service_load
from scripts.bench.variants_optimum import best_day
from tests.fixtures.quickstart import console_alone
from tests.fixtures.ray_cluster import RayCluster

HOUR_S, QUICK_HOUR_S, DAY_HOURS = 4.0, 2.5, 24
RATE_HZ, MEAN_FLOOR, SHARE = 6.0, 0.85, 0.5
QUALITY = {"big": 0.95, "middle": 0.92, "small": 0.8}
URL = "http://127.0.0.1:8000"
NAME = "busy"
_CALIBRATION, _SETTLED_S, _NEAR, _OVER = 30, 6.0, 0.95, 0.02
_BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}


@dataclass
class Load:
    """What came of every request."""

    sent: list[tuple[float, int, str]] = field(default_factory=list)
    """When it was sent, status and variant."""
    retry_after: set[str] = field(default_factory=set)


def live(data: Path, quick: bool) -> tuple[dict[str, Any], bool]:
    """Figures of one day, and whether they meet their bars."""
    hour_s = QUICK_HOUR_S if quick else HOUR_S
    hours = Hours(data / FILE_OF_DAY, "plain")
    with tempfile.TemporaryDirectory(prefix="joulekeeper-variants-") as directory, DayServer(hours, hour_s) as server:
        state = Path(directory)
        with RayCluster(state, environment=environment_of(server.url, state)) as cluster:
            figures = _day(cluster, server, hours, hour_s, data)
        figures["decisions"] = _decisions(state)
    faults = _faults(figures)
    return figures | {"faults": faults}, not faults


def _day(cluster: RayCluster, server: DayServer, hours: Hours, hour_s: float, data: Path) -> dict[str, Any]:
    cluster.deploy(_config(None))
    cluster.await_answer(f"/v2/models/{NAME}/ready")
    joules = {name: _measured_j(name) for name in QUALITY}
    counts = service_load(data, 1).reshape(DAY_HOURS, STEPS).sum(axis=1)
    counts *= RATE_HZ * hour_s * DAY_HOURS / counts.sum()
    truth = np.array(hours.actual[BEFORE_HOURS : BEFORE_HOURS + DAY_HOURS])
    g_per_j = truth / 3.6e6
    weight = float(counts @ g_per_j)
    budget_g = weight * (joules["small"] + SHARE * (joules["big"] - joules["small"]))
    day_s = DAY_HOURS * hour_s
    cluster.deploy(_config({"gco2e_per_day": budget_g, "mean_quality": MEAN_FLOOR, "period_hours": day_s / 3600}))
    cluster.await_answer(f"/v2/models/{NAME}/ready")
    start_s = (time.time() // day_s + 1) * day_s
    server.begin(start_s)
    load = asyncio.run(_ask(start_s, hour_s, counts))
    time.sleep(_SETTLED_S)
    return _judged(load, start_s, hour_s, budget_g, g_per_j)


def _config(spending: dict[str, float] | None) -> dict[str, Any]:
    sources = {name: f"python:tests.fixtures.busy_answers:{name.title()}" for name in QUALITY}
    args: dict[str, Any] = {"name": NAME, "variants": sources, "quality": QUALITY, "max_memory_mb": 1}
    deployment = {"name": "Model", "num_replicas": 1, "autoscaling_config": None, "ray_actor_options": {"num_cpus": 0}}
    config = console_alone()
    config["applications"].append(
        {
            "name": NAME,
            "route_prefix": f"/v2/models/{NAME}",
            "import_path": "app.serving.pool:pool",
            "args": args | ({"spending": spending} if spending else {}),
            "deployments": [deployment],
        }
    )
    return config


def _measured_j(name: str) -> float:
    url = f"{URL}/v2/models/{NAME}/versions/{name}/infer?settle=true&settle_timeout_s=10"
    with httpx.Client(timeout=60) as client:
        client.post(url, json=_BODY).raise_for_status()
        told = [client.post(url, json=_BODY).json()["parameters"]["energy_uj"] for _ in range(_CALIBRATION)]
    return sum(told) / len(told) / 1e6


async def _ask(start_s: float, hour_s: float, counts: np.ndarray) -> Load:
    """Now and then until the day that begins at `start_s` is over."""
    load, chance, tasks = Load(), random.Random(7), set()
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=64)) as client:
        while (now_s := time.time()) < start_s + DAY_HOURS * hour_s:
            hour = int((now_s - start_s) // hour_s) % DAY_HOURS
            task = asyncio.create_task(_one(client, load))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(min(hour_s, chance.expovariate(max(0.05, counts[hour] / hour_s))))
        await asyncio.gather(*tasks)
    return load


async def _one(client: httpx.AsyncClient, load: Load) -> None:
    sent_s = time.time()
    answer = await client.post(f"{URL}/v2/models/{NAME}/infer", json=_BODY)
    variant = answer.headers.get("x-joulekeeper-variant", "") if answer.status_code == 200 else ""
    load.sent.append((sent_s, answer.status_code, variant))
    if answer.status_code == 429:
        load.retry_after.add(answer.headers["retry-after"])


def _judged(load: Load, start_s: float, hour_s: float, budget_g: float, g_per_j: np.ndarray) -> dict[str, Any]:
    end_s = start_s + DAY_HOURS * hour_s
    of_day = [each for each in load.sent if start_s <= each[0] < end_s]
    answered = Counter(variant for _, status, variant in of_day if status == 200)
    report = httpx.get(f"{URL}/api/report", params={"by": "model", "since": f"{start_s:.3f}", "until": f"{end_s:.3f}"})
    rows = [row for row in report.raise_for_status().json()["rows"] if row["group"].get("model") == NAME]
    by_version: Counter[str] = Counter()
    for row in rows:
        by_version[row["group"].get("version", "")] += row["energy_uj"]
    grams = sum(row["carbon_ugco2e"] for row in rows) / 1e6
    joules = {name: by_version[name] / 1e6 / count for name, count in answered.items()}
    known = tuple(Variant(name, joules.get(name), QUALITY[name]) for name in QUALITY if name in joules)
    asked = np.zeros(DAY_HOURS)
    for sent_s, _, _ in of_day:
        asked[int((sent_s - start_s) // hour_s)] += 1
    other_g = by_version["pool"] / 1e6 * float(g_per_j.mean())
    quality = sum(QUALITY[name] * count for name, count in answered.items())
    best, best_answers, _ = best_day(known, asked, g_per_j, max(1e-12, budget_g - other_g), MEAN_FLOOR)
    return {
        "hour_s": hour_s,
        "asked": len(of_day),
        "answered": dict(answered),
        "refused": sum(status == 429 for _, status, _ in of_day),
        "failed": sum(status not in (200, 429) for _, status, _ in of_day),
        "retry_after_s": sorted(load.retry_after)[:3],
        "joules": {name: round(value, 6) for name, value in joules.items()},
        "warm_and_load_j": by_version["pool"] / 1e6,
        "budget_g": budget_g,
        "grams": grams,
        "of_budget": grams / budget_g,
        "mean": quality / max(1, sum(answered.values())),
        "of_optimum": quality / best,
        "optimum_mean": best / best_answers,
    }


def _decisions(state: Path) -> list[dict[str, Any]]:
    found: dict[int, Choice] = choices_in(directory_of(state, NAME))
    return [{"at_s": each.at_s, "action": each.action, "why": each.reasons} for each in found.values()]


def _faults(figures: dict[str, Any]) -> list[str]:
    faults = []
    if figures["of_budget"] > 1 + _OVER:
        faults.append(f"it spent {figures['of_budget']:.1%} of its budget")
    if figures["mean"] < MEAN_FLOOR:
        faults.append(f"the mean is {figures['mean']:.4f}, below {MEAN_FLOOR}")
    if figures["of_optimum"] < _NEAR:
        faults.append(f"quality answered is {figures['of_optimum']:.3f} of the optimum's")
    if figures["failed"] or not figures["decisions"]:
        faults.append(f"{figures['failed']} requests failed, {len(figures['decisions'])} decisions are kept")
    return faults


def show(figures: dict[str, Any]) -> None:
    """One day as text."""
    seconds, spent, budget = figures["hour_s"] * DAY_HOURS, figures["grams"] * 1e6, figures["budget_g"] * 1e6
    print(f"a day in {seconds:.0f} s: {figures['asked']} requests, {figures['refused']} refused")
    print(f"answered {figures['answered']}; J of an answer {figures['joules']}")
    print(f"{spent:.1f} ug of {budget:.1f} ug ({figures['of_budget']:.1%}), {figures['warm_and_load_j']:.2f} J warm")
    print(
        f"mean quality {figures['mean']:.4f}, the optimum's {figures['optimum_mean']:.4f}; "
        f"{figures['of_optimum']:.4f} of its quality answered"
    )
    for each in figures["decisions"]:
        print(f"  {each['action']}: {each['why'][0] if each['why'] else ''}")
    print("; ".join(figures["faults"]) or "met", flush=True)


def dump(figures: dict[str, Any]) -> str:
    """The last line."""
    return json.dumps({key: value for key, value in figures.items() if key != "decisions"} | {"cpus": os.cpu_count()})
