"""Where and when: jobs placed among five real grids, and a real trace of batch jobs queueing for few workers.

    python scripts/bench/placement.py [DATA] [--quick] [--json FILE]

Placement: jobs of 4 h at 300 W, of 2022, from each zone as home; staying, shifting in time, the zone with the cleanest
year before (its first four weeks, which no job sees again), and app/policy/placement.py with our own forecasts, alone
and with 24 h of slack; someone who knows all grids beside it. 0 or 200 GB must move with a job that leaves.
Queue: a thousand jobs of Alibaba's PAI (a week, begun at four times of the year) on 24 workers and on 48, and in the
full run six weeks of Azure's on 200, at several prices of waiting (app/policy/queueing.py); someone who knows the grid,
in the same queue, and the bound of every job alone. DATA: the folder of the traces, default ../shared/data; where
anyone gets the originals is printed when it is absent. No bars; exits 1 when a policy of ours emits 0.5 % more than
staying and starting at once.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.policy.placement import Place, PlacementSettings, choose_place  # noqa: E402
from app.policy.shifting import Outlook, ShiftSettings, fixed_run  # noqa: E402
from scripts.bench.placement_queue import (  # noqa: E402
    AT_ONCE,
    MOST_WAIT_H,
    ORIGIN,
    TRACES,
    Batch,
    Emissions,
    alone_g,
    azure_year,
    pai_week,
    serve,
)
from scripts.bench.shifting_data import (  # noqa: E402
    HORIZON_H,
    ORIGINS,
    WARM_UP_H,
    YEAR_2022,
    forecasts,
    year_2022,
)
from scripts.bench.shifting_rules import HOUR_S, World  # noqa: E402

ZONES = ("CISO", "AZPS", "NYIS", "MISO", "PJM")
HOURS, POWER_W, SLACK_H = 4, 300.0, 24
STAY = "stay, start at once"
AT_ONCE_RULE, SHIFTING = ShiftSettings(least_saving=0.999), ShiftSettings()
PLACING = PlacementSettings()
PAI_WORKERS, AZURE_WORKERS = (24, 48), 200
PAI_WEEKS = range(WARM_UP_H, 8760 - 14 * 24, 88 * 24)
AZURE_HOURS = (WARM_UP_H, WARM_UP_H + 42 * 24)
WORST_SAVING = -0.005
QUICK_UNTIL_H = WARM_UP_H + 35 * 24
PRICES = (AT_ONCE, 0.05, 0.01, 0.003, 0.0)


def world_of(order: tuple[Path, str, int | None]) -> World:
    data, zone, until = order
    trace = year_2022(data, zone)
    return World(trace, dict(forecasts(trace, "day", until)))


def place_tables(worlds: Mapping[str, World], every: int, until: int) -> list[dict[str, Any]]:
    arrivals = range(WARM_UP_H, until - HORIZON_H, every)
    return [place_rows(worlds, home, gb, arrivals) for home in ZONES for gb in (0.0, 200.0)]


def place_rows(worlds: Mapping[str, World], home: str, moved_gb: float, arrivals: Sequence[int]) -> dict[str, Any]:
    cleanest = min(ZONES, key=lambda zone: float(worlds[zone].trace.actual[:WARM_UP_H].mean()))
    rules = {
        STAY: ((home,), AT_ONCE_RULE, False),
        "stay, shift in time": ((home,), SHIFTING, False),
        f"always {cleanest}": ((cleanest,), AT_ONCE_RULE, False),
        "Joulekeeper, where": (ZONES, AT_ONCE_RULE, False),
        "Joulekeeper, where and when": (ZONES, SHIFTING, False),
        "knows all grids": (ZONES, SHIFTING, True),
    }
    grams, moves, waits = (dict.fromkeys(rules, 0.0) for _ in range(3))
    for at in arrivals:
        run = fixed_run(HOURS * HOUR_S, POWER_W, (at + HOURS + SLACK_H) * HOUR_S)
        for name, (zones, shifting, knows) in rules.items():
            places = [
                Place(zone, _outlook(worlds[zone], at, knows), moved_gb=0.0 if zone == home else moved_gb)
                for zone in zones
            ]
            choice = choose_place(run, places, at * HOUR_S, home, settings=PLACING, shifting=shifting)
            start_s = choice.plan.pieces[0].start_s
            grams[name] += Emissions(worlds[choice.zone].trace.actual).grams(start_s, HOURS * HOUR_S, POWER_W)
            if choice.zone != home:
                grids = worlds[choice.zone].trace.actual[at] + worlds[home].trace.actual[at]
                grams[name] += moved_gb * PLACING.kwh_per_gb * grids / 2
            moves[name] += choice.zone != home
            waits[name] += start_s / HOUR_S - at
    count, stay_g = len(arrivals), grams[STAY]
    rows = [
        {
            "policy": name,
            "saving": 1 - grams[name] / stay_g,
            "moved": moves[name] / count,
            "wait_h": waits[name] / count,
        }
        for name in rules
    ]
    return {"home": home, "moved_gb": moved_gb, "jobs": count, "rows": rows}


def _outlook(world: World, at: int, knows: bool) -> Outlook:
    if not knows:
        return world.outlook(at)
    return Outlook(at * HOUR_S, HOUR_S, tuple(world.trace.actual[at : at + HORIZON_H].tolist()))


def queue_table(order: tuple[World, str, Sequence[Sequence[Batch]], int, Sequence[float]]) -> dict[str, Any]:
    """One trace on one grid; a trace may be served several times, each beginning elsewhere in the year."""
    world, name, traces, workers, prices = order
    rows, least_g = [], sum(alone_g(world.trace, jobs) for jobs in traces)
    for price, knows in [(price, False) for price in prices] + [(prices[-1], True)]:
        served = [serve(world, jobs, workers, price, knows) for jobs in traces]
        first = "at once" if price == AT_ONCE else f"an hour is worth {price:.1%}"
        rows.append(
            {
                "policy": f"knows the grid, {first}" if knows else first,
                "grams": sum(each.grams for each in served),
                "wait_h": sum(each.mean_wait_h for each in served) / len(served),
                "tail_wait_h": max(each.tail_wait_h for each in served),
                "late": sum(each.late for each in served),
            }
        )
    now_g = rows[0]["grams"]
    for row in rows:
        row["saving"] = 1 - row["grams"] / now_g
    jobs = sum(len(each) for each in traces)
    return {
        "trace": name,
        "zone": world.trace.name,
        "workers": workers,
        "jobs": jobs,
        "bound": 1 - least_g / now_g,
        "rows": rows,
    }


def show(places: Sequence[dict[str, Any]], queues: Sequence[dict[str, Any]]) -> None:
    for one in places:
        print(f"\nhome {one['home']}, {one['moved_gb']:g} GB to move: {one['jobs']} jobs of {HOURS} h")
        print(f"{'policy':32s} {'saving':>8s} {'moved':>7s} {'wait h':>7s}")
        for row in one["rows"]:
            print(f"{row['policy']:32s} {row['saving']:8.2%} {row['moved']:7.1%} {row['wait_h']:7.1f}")
    for one in queues:
        print(f"\n{one['trace']} on {one['workers']} workers, {one['zone']}: {one['jobs']} jobs; ", end="")
        print(f"alone and knowing the grid each saves {one['bound']:.2%} at most")
        print(f"{'policy':40s} {'saving':>8s} {'wait h':>7s} {'95 %':>6s} {'late':>6s}")
        for row in one["rows"]:
            print(
                f"{row['policy']:40s} {row['saving']:8.2%} {row['wait_h']:7.2f}"
                f" {row['tail_wait_h']:6.1f} {row['late']:6d}"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data, quick = options.data, options.quick
    if not ((data / YEAR_2022).is_dir() and (data / TRACES).is_dir()):
        print(f"skipped: no traces below {data}; they come from\n{ORIGINS}\n{ORIGIN}")
        return 0
    until = QUICK_UNTIL_H if quick else None
    with get_context("spawn").Pool(2) as pool:
        worlds = dict(zip(ZONES, pool.map(world_of, [(data, zone, until) for zone in ZONES], chunksize=1), strict=True))
        weeks = [pai_week(data, from_h) for from_h in (PAI_WEEKS[:1] if quick else PAI_WEEKS)]
        zones, sizes = (ZONES[:2], PAI_WORKERS[:1]) if quick else (ZONES, PAI_WORKERS)
        orders = [(worlds[zone], "PAI", weeks, workers, PRICES) for zone in zones for workers in sizes]
        if not quick:
            year = azure_year(data, *AZURE_HOURS)
            orders.insert(0, (worlds["CISO"], "Azure", [year], AZURE_WORKERS, (AT_ONCE, 0.01)))
        waiting = pool.map_async(queue_table, orders, chunksize=1)
        places = place_tables(worlds, 97 if quick else 23, until or 8760)
        queues = waiting.get()
    show(places, queues)
    savings = [row["saving"] for one in places for row in one["rows"] if row["policy"].startswith("Joulekeeper")]
    savings += [row["saving"] for one in queues for row in one["rows"]]
    result = {
        "where_and_when": {one["home"]: round(one["rows"][-2]["saving"], 3) for one in places if not one["moved_gb"]},
        "queue": {
            f"{one['trace']}, {one['workers']}, {one['zone']}": round(one["rows"][-2]["saving"], 3) for one in queues
        },
        "most_wait_h": MOST_WAIT_H,
        "worst_saving": round(min(savings), 4),
    }
    if options.json:
        options.json.write_text(json.dumps({"placement": places, "queue": queues, "figures": result}, indent=1))
    print(json.dumps(result))
    return 0 if min(savings) >= WORST_SAVING else 1


if __name__ == "__main__":
    sys.exit(main())
