"""Traces of grid intensity with their forecasts and profiles of elastic jobs, as the shifting benches use them.

Reads files and forecasts every hour from what was known before it; knows nothing of policies. A forecast is made with
app/carbon/forecast.py, learned again every week from the hours before. Of a provider's day-ahead forecast, an hour's
value counts as known `known` says when: "day": from 24 h before it (what the trace says of it), "column": as far ahead
as anybody asks, "midnight": from 00:00 UTC of its day, the strictest reading of what the authors' method did.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.carbon.forecast import Forecast, IntensityModel
from app.policy.shifting import Rate

Floats = NDArray[np.float64]
DAY_H = 24
HORIZON_H = 48
WARM_UP_H = 28 * DAY_H
_LEARN_EVERY_H = 7 * DAY_H
DAYAHEAD, YEAR_2022 = "carbon_forecasts_dacf_2021H2", "carbon_us_eia_2022"
POWER_PROFILES, SPEED_PROFILES = "profile_elastic_power_carbonscaler", "profile_elastic_ddp_adaptdl"
ORIGINS = """\
carbon_forecasts_dacf_2021H2  github.com/carbonfirst/DACF, data/<zone>/ (Apache-2.0; Maji et al., e-Energy 2022)
carbon_us_eia_2022            github.com/HewlettPackard/dc-rl, data/CarbonIntensity/ (MIT; US EIA, public domain)
profile_elastic_power_carbonscaler  github.com/umassos/CarbonScaler, src/profiles/ (MIT; Hanafy et al. 2024)
profile_elastic_ddp_adaptdl   github.com/petuum/adaptdl, branch osdi21-artifact, sched/traces/ (Apache-2.0)"""
_T4_W = 70.0
"""Power of a worker where a profile has none: the board limit of the GPU it was measured on (NVIDIA, "T4 Tensor Core
GPU", data sheet 2019, read 2026-11-22)."""
MOST_WORKERS = 8


@dataclass(frozen=True)
class Trace:
    """Hourly g/kWh of one zone; `said`: what a provider had forecast for each hour, None without a provider."""

    name: str
    actual: Floats
    said: Floats | None = None

    def hours(self) -> range:
        """At which jobs may arrive, so that two days lie behind them."""
        return range(WARM_UP_H, len(self.actual) - HORIZON_H)


def day_ahead(folder: Path, zone: str) -> Trace:
    path = folder / DAYAHEAD / f"{zone}_actual_vs_dayahead.csv"
    rows = list(csv.DictReader(path.open(newline="")))
    actual, said = (np.array([float(row[name]) for row in rows]) for name in list(rows[0])[1:3])
    return Trace(f"{zone} 2021", actual, said)


def year_2022(folder: Path, zone: str) -> Trace:
    """Blank hours take the value before them, as the trace's notes ask."""
    rows = csv.DictReader((folder / YEAR_2022 / "ci_5zones_2022_hourly.csv").open(newline=""))
    values: list[float] = []
    for row in rows:
        values.append(float(row[zone]) if row[zone] else values[-1])
    return Trace(f"{zone} 2022", np.array(values))


def forecasts(trace: Trace, known: str, until: int | None = None) -> Iterator[tuple[int, Forecast]]:
    """For every hour that a job may live in, what was to be expected of the HORIZON_H hours from it on."""
    model: IntensityModel | None = None
    for at in range(WARM_UP_H, min(until or len(trace.actual), len(trace.actual) - 1)):
        past = trace.actual[:at]
        said = None if trace.said is None else trace.said[:at]
        if model is None or (at - WARM_UP_H) % _LEARN_EVERY_H == 0:
            model = IntensityModel(past, said)
        yield at, model.forecast(past, HORIZON_H, coming_of(trace, at, known), said)


def coming_of(trace: Trace, at: int, known: str) -> Floats | None:
    """What the provider has said by hour `at` of those from it on, NaN where nothing yet."""
    if trace.said is None:
        return None
    coming = np.full(HORIZON_H, np.nan)
    ahead = {"day": DAY_H, "column": HORIZON_H, "midnight": DAY_H - at % DAY_H}[known]
    said = trace.said[at : at + ahead]
    coming[: len(said)] = said
    return coming


def profiles(folder: Path) -> dict[str, dict[int, Rate]]:
    """By name, speed (1: one worker's) and power by number of workers, 1 to MOST_WORKERS where measured."""
    found = {name: _with_power(folder / POWER_PROFILES / f"{name}.csv") for name in ("nbody100k", "nbody10k")}
    for name in ("imagenet", "bert"):
        found[name] = _of_placements(folder / SPEED_PROFILES / f"{name}_placements.csv")
    return found


def _with_power(path: Path) -> dict[int, Rate]:
    rows = {int(row["nodes"]): row for row in csv.DictReader(path.open(newline=""))}
    alone = float(rows[1]["throughput"])
    return {
        nodes: Rate(float(row["throughput"]) / alone, float(row["power"]))
        for nodes, row in rows.items()
        if 1 <= nodes <= MOST_WORKERS
    }


def _of_placements(path: Path) -> dict[int, Rate]:
    """Each number of workers on as few machines as were measured, with the largest batch per worker that all have."""
    by_workers: dict[int, dict[int, tuple[int, float]]] = {}
    for row in csv.DictReader(path.open(newline="")):
        digits = row["placement"]
        workers, batch = sum(map(int, digits)), int(row["local_bsz"])
        of_batch = by_workers.setdefault(workers, {})
        if batch not in of_batch or len(digits) < of_batch[batch][0]:
            of_batch[batch] = len(digits), float(row["step_time"])
    counts = [workers for workers in sorted(by_workers) if workers <= MOST_WORKERS]
    batch = max(set.intersection(*(set(by_workers[workers]) for workers in counts)))
    alone_s = by_workers[1][batch][1]
    return {workers: Rate(workers * alone_s / by_workers[workers][batch][1], workers * _T4_W) for workers in counts}
