"""Traces of requests for many models: a seeded generator, and a reader of real ones (CSV with columns time_s, model).

Popularity is Zipf's. A model's requests come in bursts and alone, both more often at its busy time of day and on
weekdays. The rate of all models together, 2.45 requests/s, is that of the one service of the Azure LLM inference trace
(code, 8,819 requests in an hour, 2023-11-16, Splitwise, ISCA 2024, CC BY 4.0; read 2026-11-22), spread over 80 models.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0
REQUESTS_PER_S = 2.45
LOAD_MEDIAN_S, LOAD_SIGMA_MODELS, LOAD_SIGMA = 22.0, 0.4, 0.15
_GRID_S = 300.0
Times = NDArray[np.float64]


@dataclass(frozen=True)
class ModelTrace:
    """Requests of one model, and how long a load would take that begins with each of them."""

    times_s: Times
    load_s: Times


def generate(
    seed: int, days: int = 24, models: int = 80, requests_per_s: float = REQUESTS_PER_S, timers: int = 0
) -> list[ModelTrace]:
    """`timers` of the models, the last, are instead asked by the clock once in a whole number of hours."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, models + 1)
    counts = popularity / popularity.sum() * requests_per_s * days * DAY_S
    horizon_s = days * DAY_S
    times = [_requests(rng, count, horizon_s) for count in counts[: models - timers]]
    times += [_timed(rng, horizon_s) for _ in range(timers)]
    return [ModelTrace(one, _loads(rng, len(one))) for one in times]


def _requests(rng: np.random.Generator, count: float, horizon_s: float) -> Times:
    when = _rhythm(rng, horizon_s)
    in_bursts = rng.uniform(0.5, 0.95)
    burst_size = rng.lognormal(np.log(15), 0.5)
    lone_s = when(rng.poisson(count * (1 - in_bursts)))
    starts_s = when(rng.poisson(count * in_bursts / burst_size))
    sizes = rng.geometric(1 / burst_size, len(starts_s))
    gaps_s = rng.lognormal(np.log(rng.lognormal(np.log(4), 0.5)), 1.0, sizes.sum())
    first = np.cumsum(sizes) - sizes
    gaps_s[first] = 0
    since_s = np.cumsum(gaps_s)
    burst_s = np.repeat(starts_s - since_s[first], sizes) + since_s
    times_s = np.sort(np.concatenate([lone_s, burst_s]))
    return times_s[times_s < horizon_s]


def _rhythm(rng: np.random.Generator, horizon_s: float):
    """Draws instants: most around one hour of the day, fewer at weekends."""
    grid_s = np.arange(0, horizon_s, _GRID_S)
    peak_h, sharpness, weekend = rng.normal(14, 2.5), rng.uniform(0.6, 1.4), rng.uniform(0.4, 1.0)
    rate = np.exp(sharpness * np.cos(2 * np.pi * (grid_s / 3600 - peak_h) / 24))
    rate *= np.where(grid_s // DAY_S % 7 >= 5, weekend, 1.0)
    share = np.concatenate([[0.0], np.cumsum(rate)]) / rate.sum()
    edges_s = np.append(grid_s, horizon_s)
    return lambda count: np.interp(rng.random(count), share, edges_s)


def _timed(rng: np.random.Generator, horizon_s: float) -> Times:
    period_s = 3600.0 * rng.integers(1, 7)
    times_s = np.arange(rng.uniform(0, period_s), horizon_s, period_s)
    return np.sort(times_s + rng.normal(0, 5, len(times_s)))


def _loads(rng: np.random.Generator, count: int) -> Times:
    """Lognormal around 22 s: models differ, and so do the loads of one."""
    return rng.lognormal(np.log(LOAD_MEDIAN_S), LOAD_SIGMA_MODELS) * rng.lognormal(0, LOAD_SIGMA, count)


def read(path: Path, seed: int) -> list[ModelTrace]:
    """A real trace; its load times are drawn as in `generate`."""
    by_model: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            by_model.setdefault(row["model"], []).append(float(row["time_s"]))
    rng = np.random.default_rng(seed)
    return [ModelTrace(np.sort(times_s), _loads(rng, len(times_s))) for times_s in by_model.values()]
