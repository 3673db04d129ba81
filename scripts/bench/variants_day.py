"""Days of real load on a real grid, for rules that choose which variant of a model answers.

Reads no clock and knows nothing of what is best (variants_optimum.py). A rule sees what was known at that moment: the
forecast made at the begin of the hour, what was answered so far, and what is known of the load. Two loads:

- "service": the hour of a production language model's requests that Azure published, stretched to a day. Every day
  begins elsewhere in it, so that the volume of a day is known from those before, and its bursts are not. No trace of
  requests that may be passed on is longer than an hour.
- "year": arrivals of Azure's virtual machines, each standing for a hundred requests: days differ by half and more, and
  hours are as uneven as they were.
"""

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.policy.day_load import DayLoad
from app.policy.variants import Ahead, Done, Floors, Variant, choose
from scripts.bench.shifting_data import DAY_H, WARM_UP_H
from scripts.bench.shifting_rules import World

Floats = NDArray[np.float64]
SERVICE = Path("trace_azure_llm_2023") / "AzureLLMInferenceTrace_code.csv"
YEAR = Path("trace_batch_jobs_gaia") / "azure-100k.csv.gz"
LOAD_ORIGIN = """\
trace_azure_llm_2023          github.com/Azure/AzurePublicDataset, data/AzureLLMInferenceTrace_code.csv (CC BY 4.0;
                              Patel et al., "Splitwise", ISCA 2024)
trace_batch_jobs_gaia         github.com/umassos/GAIA, src/cluster_traces/azure-100k.csv (MIT; Azure Public Dataset V2,
                              CC BY 4.0)"""
STEPS = 12
"""In an hour: who answers is decided every five minutes."""
_REQUESTS_EACH = 100.0
_G_PER_J = 1 / 3.6e6

ORIGINAL = Variant("original", 1.24e-3, 0.9867)
VARIANTS = (
    ORIGINAL,
    Variant("int8", 0.79e-3, 0.9867),
    Variant("prunechannelsint8", 0.64e-3, 0.9844),
    Variant("distildatafree", 0.52e-3, 0.9156),
)
"""The digits classifier's: J of an answer of one row and accuracy on held-out rows, docs/training/compression.md."""


def service_load(folder: Path, days: int) -> Floats:
    """Requests in every step of `days` days."""
    with (folder / SERVICE).open(newline="") as file:
        times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(file)]
    at_s = np.array([(each - times[0]).total_seconds() for each in times])
    steps = np.floor(at_s / (at_s[-1] + 1e-6) * DAY_H * STEPS).astype(int)
    one = np.bincount(steps, minlength=DAY_H * STEPS).astype(float)
    begins = np.random.default_rng(7).integers(0, len(one), days)
    return np.concatenate([np.roll(one, -begin) for begin in begins])


def year_load(folder: Path, hours: int) -> Floats:
    """Requests in every step of `hours` hours."""
    with gzip.open(folder / YEAR, "rt") as file:
        at_h = np.array([float(line.partition(",")[0]) for line in file.readlines()[1:]])
    steps = np.floor(at_h * STEPS).astype(int)
    return _REQUESTS_EACH * np.bincount(steps, minlength=hours * STEPS)[: hours * STEPS].astype(float)


@dataclass(frozen=True)
class Moment:
    """What a rule sees."""

    hour: int
    """Of the day, and the step of that hour."""
    step: int
    g_per_kwh: Floats
    """Expected, from this hour to the end of the day."""
    usual_g_per_kwh: float
    """Median of the four weeks before."""
    load: DayLoad
    answered: float
    quality: float
    spent_g: float
    budget_g: float


Rule = Callable[[Moment], Mapping[str, float]]


@dataclass
class Day:
    """What became of one day under one rule."""

    answered: float = 0.0
    refused: float = 0.0
    quality: float = 0.0
    spent_g: float = 0.0

    @property
    def mean(self) -> float:
        return self.quality / self.answered if self.answered else 1.0


def live_days(
    world: World, counts: Floats, budget_g: float, rules: Mapping[str, Rule], days: range
) -> dict[str, list[Day]]:
    """By rule, every day of `days` in order. Every rule hears the same load, also that of the days before."""
    found: dict[str, list[Day]] = {name: [] for name in rules}
    load = DayLoad(DAY_H)
    for day in range(days.start):
        _hear(load, counts, day)
    for day in days:
        today = {name: Day() for name in rules}
        for hour in range(DAY_H):
            at = day * DAY_H + hour
            forecast = np.array(world.forecasts[at].mean[: DAY_H - hour])
            usual = float(np.median(world.trace.actual[at - WARM_UP_H : at]))
            for step in range(STEPS):
                count = counts[at * STEPS + step]
                for name, rule in rules.items():
                    one = today[name]
                    moment = Moment(hour, step, forecast, usual, load, one.answered, one.quality, one.spent_g, budget_g)
                    _answer(one, rule(moment), count, world.trace.actual[at], budget_g)
                load.add(hour, count)
        load.end_day()
        for name, one in today.items():
            found[name].append(one)
    return found


def _hear(load: DayLoad, counts: Floats, day: int) -> None:
    by_hour = counts[day * DAY_H * STEPS : (day + 1) * DAY_H * STEPS].reshape(DAY_H, STEPS).sum(axis=1)
    for hour, count in enumerate(by_hour):
        load.add(hour, float(count))
    load.end_day()


def _answer(day: Day, shares: Mapping[str, float], count: float, g_per_kwh: float, budget_g: float) -> None:
    """Those who come when the budget is spent are refused."""
    by_name = {each.name: each for each in VARIANTS}
    joules = sum(share * (by_name[name].energy_j or 0.0) for name, share in shares.items())
    each_g = joules * g_per_kwh * _G_PER_J
    left_g = budget_g - day.spent_g
    fits = min(count, left_g / each_g) if each_g * count > left_g else count
    day.answered += fits
    day.refused += count - fits
    day.quality += fits * sum(share * by_name[name].quality for name, share in shares.items())
    day.spent_g += fits * each_g


def always(name: str) -> Rule:
    return lambda _: {name: 1.0}


def threshold(better: str, cheaper: str) -> Rule:
    """The better one while the grid is cleaner than it usually is."""
    return lambda now: {better if now.g_per_kwh[0] <= now.usual_g_per_kwh else cheaper: 1.0}


def pacing(names: Sequence[str]) -> Rule:
    """The best one that keeps to the time of day's part of the budget."""

    def rule(now: Moment) -> Mapping[str, float]:
        gone = (now.hour + (now.step + 1) / STEPS) / DAY_H
        room = now.spent_g / (now.budget_g * gone)
        return {names[0] if room <= 0.98 else names[1] if room <= 1.0 else names[2]: 1.0}

    return rule


def ours(floors: Floors) -> Rule:
    """The product's own code."""

    def rule(now: Moment) -> Mapping[str, float]:
        expected = now.load.rest(now.hour, now.step / STEPS)
        ahead = [
            Ahead(answers, float(g_per_kwh) * _G_PER_J)
            for answers, g_per_kwh in zip(expected, now.g_per_kwh, strict=True)
        ]
        done = Done(now.answered, now.quality)
        left_g = now.budget_g - now.spent_g
        return choose(VARIANTS, ahead, floors, done, left_g, spread=now.load.spread(now.hour)).shares

    return rule
