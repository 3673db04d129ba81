"""Shifting jobs in time: carbon realised under real forecasts over that of someone who knows the future.

    python scripts/bench/shifting.py [DATA] [--quick] [--series NAME,NAME] [--known day|column|midnight] [--json FILE]

Three workloads on three zones of 2021 with a real day-ahead forecast and five of 2022 with ours alone: 4 h jobs with
24 h slack, one at every hour; 24 h jobs with 24 h slack that may pause at the measured cost of a restart; 24 h of one
worker's work with 24 h slack on 1 to 8 workers with measured profiles (power where a profile has none: 70 W a worker).
Beside app/policy/shifting.py run the rules of shifting_rules.py; shifting_optimum.py has the exact optimum, whose
saving is 1. Jobs begin four weeks after a series does; whatever a policy looks at was known at that hour. DATA: the
folder that holds the traces, default ../shared/data; where anyone gets the originals is printed when it is absent.
Bars: 4 h jobs on the day-ahead forecasts >= 0.95 (CISO), >= 0.84 (ISNE, PJM); 2022 with our own forecast >= 0.92
(CISO), >= 0.80 (AZPS); no workload of ours loses more than 0.5 % of the carbon of starting at once on any zone.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.policy.shifting import Rate, RestartCost  # noqa: E402
from scripts.bench.shifting_data import (  # noqa: E402
    DAYAHEAD,
    ORIGINS,
    YEAR_2022,
    Trace,
    day_ahead,
    forecasts,
    profiles,
    year_2022,
)
from scripts.bench.shifting_optimum import best_pauses_g, best_scaling_g, best_start_g  # noqa: E402
from scripts.bench.shifting_rules import (  # noqa: E402
    Job,
    Rule,
    WaitAwhile,
    World,
    at_once,
    carbon_scaler,
    ours,
    outcome_of,
    suspend_resume,
)

RESTART = RestartCost(seconds=78.0)
"""Mean of the three restarts in docs/training/elastic.md, 233.8 s, at the job's full power."""
SLACK_H = 24
POWER_W = 300.0
OURS, NOW = "Joulekeeper", "start now"
BARS = {"CISO 2021": 0.95, "ISNE 2021": 0.84, "PJM 2021": 0.84, "CISO 2022": 0.92, "AZPS 2022": 0.80}
WORST_SAVING = -0.005
DAY_AHEAD, YEAR = ("CISO", "ISNE", "PJM"), ("CISO", "AZPS", "NYIS", "MISO", "PJM")


@dataclass(frozen=True)
class Workload:
    """Jobs of one kind, one every so many hours, and what they are compared with."""

    name: str
    hours: int
    every_h: int
    rates: Mapping[int, Rate]
    may_pause: bool
    rules: Mapping[str, Callable[[], Rule]]
    optimum_g: Callable[[Job, Any], float]

    def jobs(self, trace: Trace, every: int) -> list[Job]:
        window_h = self.hours + SLACK_H
        restart = RESTART if self.may_pause else RestartCost()
        return [
            Job(at, at + window_h, float(self.hours), self.rates, self.may_pause, restart)
            for at in trace.hours()[:: self.every_h * every]
        ]


def workloads(data: Path) -> list[Workload]:
    alone = {1: Rate(1.0, POWER_W)}
    plain: dict[str, Callable[[], Rule]] = {
        NOW: lambda: at_once,
        "suspend-resume threshold": lambda: suspend_resume,
        "Wait-Awhile, bare forecast": lambda: WaitAwhile(bare=True),
        "Wait-Awhile, our forecast": lambda: WaitAwhile(bare=False),
        OURS: lambda: ours,
    }
    scaling = {NOW: plain[NOW], "suspend-resume threshold": plain["suspend-resume threshold"]}
    scaling |= {"CarbonScaler greedy": lambda: carbon_scaler, OURS: plain[OURS]}
    found = [
        Workload("4 h", 4, 1, alone, False, plain, lambda job, grid: best_start_g(grid, 4, POWER_W)),
        Workload(
            "24 h, may pause", 24, 17, alone, True, plain, lambda job, grid: best_pauses_g(grid, 24.0, POWER_W, RESTART)
        ),
    ]
    for name, rates in profiles(data).items():
        found.append(
            Workload(
                f"elastic, {name}",
                24,
                73,
                rates,
                True,
                scaling,
                lambda job, grid: best_scaling_g(grid, job.work, job.rates),
            )
        )
    return found


def table(order: tuple[Path, str, int, str, bool]) -> list[dict[str, Any]]:
    """All workloads on one series."""
    data, name, every, known, only_short = order
    zone, year = name.split()
    trace = day_ahead(data, zone) if year == "2021" else year_2022(data, zone)
    world = World(trace, dict(forecasts(trace, known)))
    return [rows(world, load, every, known) for load in workloads(data)[: 1 if only_short else None]]


def rows(world: World, load: Workload, every: int, known: str) -> dict[str, Any]:
    jobs = load.jobs(world.trace, every)
    least_g = sum(load.optimum_g(job, world.trace.actual[job.at : job.until]) for job in jobs)
    done = {}
    for name, rule in load.rules.items():
        decide = rule()
        done[name] = [outcome_of(world, job, decide) for job in jobs]
    now = done[NOW]
    now_g, now_kwh = sum(each.grams for each in now), sum(each.kwh for each in now)
    found = []
    for name, outcomes in done.items():
        grams = sum(each.grams for each in outcomes)
        found.append(
            {
                "policy": name,
                "saving": 1 - grams / now_g,
                "of_optimum": (now_g - grams) / (now_g - least_g),
                "kwh": sum(each.kwh for each in outcomes) / now_kwh - 1,
                "delay_h": sum(o.finish_h - n.finish_h for o, n in zip(outcomes, now, strict=True)) / len(jobs),
                "restarts": sum(each.restarts for each in outcomes) / len(jobs),
                "worse": sum(o.grams > n.grams * 1.000001 for o, n in zip(outcomes, now, strict=True)) / len(jobs),
                "late": sum(o.finish_h > job.until + 1e-6 for o, job in zip(outcomes, jobs, strict=True)),
            }
        )
    series = world.trace.name + ("" if world.trace.said is None or known == "day" else f" (known: {known})")
    return {"series": series, "workload": load.name, "jobs": len(jobs), "optimum": 1 - least_g / now_g, "rows": found}


def show(tables: Sequence[dict[str, Any]]) -> None:
    for one in tables:
        print(f"\n{one['series']}, {one['workload']}: {one['jobs']} jobs, the optimum saves {one['optimum']:.2%}")
        print(
            f"{'policy':28s} {'saving':>8s} {'of opt.':>8s} {'kWh':>7s} {'delay h':>8s} {'restarts':>9s} {'worse':>7s}"
        )
        for row in one["rows"]:
            late = f"  {row['late']} late" if row["late"] else ""
            print(
                f"{row['policy']:28s} {row['saving']:8.2%} {row['of_optimum']:8.3f} {row['kwh']:+7.2%}"
                f" {row['delay_h']:8.1f} {row['restarts']:9.2f} {row['worse']:7.1%}{late}"
            )


def verdict(tables: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    ours_of = {(one["series"], one["workload"]): one["rows"][-1] for one in tables}
    ratios = {name: round(ours_of[name, "4 h"]["of_optimum"], 3) for name in BARS if (name, "4 h") in ours_of}
    worst = min(row["saving"] for row in ours_of.values())
    late = sum(row["late"] for row in ours_of.values())
    figures = {"of_optimum_4h": ratios, "worst_saving": round(worst, 4), "late": late}
    return figures, all(ratios[name] >= BARS[name] for name in ratios) and worst >= WORST_SAVING and not late


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--series", help="as they are named in the tables, with commas between")
    parser.add_argument("--known", choices=("day", "column", "midnight"), help="only the 4 h jobs of 2021, known so")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not ((options.data / DAYAHEAD).is_dir() and (options.data / YEAR_2022).is_dir()):
        print(f"skipped: no traces below {options.data}; they come from\n{ORIGINS}")
        return 0
    day, year = [f"{zone} 2021" for zone in DAY_AHEAD], [f"{zone} 2022" for zone in YEAR]
    names = options.series.split(",") if options.series else day + year
    every = 7 if options.quick else 1
    orders = [(options.data, name, every, "day", options.quick) for name in names]
    if not options.quick and not options.series:
        orders += [(options.data, name, 1, known, True) for name in day for known in ("column", "midnight")]
    if options.known:
        orders = [(options.data, name, every, options.known, True) for name in names if name in day]
    with get_context("spawn").Pool(2) as pool:
        tables = [one for found in pool.imap(table, orders, chunksize=1) for one in found]
    show(tables)
    result, met = verdict(tables)
    print(f"\nbars {BARS}, no saving below {WORST_SAVING:.1%}: {'met' if met else 'MISSED'}")
    if options.json:
        options.json.write_text(json.dumps({"tables": tables, "figures": result}, indent=1))
    print(json.dumps(result))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
