"""Which variant answers: days of load under a daily carbon budget, against someone who knows the whole day.

    python scripts/bench/variants.py [DATA] [--quick] [--series NAME,NAME] [--budget SHARE] [--json FILE]
    python scripts/bench/variants.py --live [--quick] [--json FILE]

Three zones of 2021 with a real day-ahead forecast and two of 2022 with ours alone, every day from the fifth week on,
under two real loads (variants_day.py): "service", the requests of a language model, as many every day and in other
bursts, and "year", days that differ by half and more. The variants are the digits classifier's with the joules and
the accuracy that docs/training/compression.md measured. The budget of a day is the same all the time: what the
cheapest variant took in the first four weeks, and `--budget` (0.5) of the way from there to the best one; so a heavy
day on a dirty grid cannot be paid for by anybody, and some requests are refused. Floors: 0.9 of each answer, 0.95 of
the mean of a day. Rows: the published model always, the cheapest variant always, a threshold, pacing by time of day,
ours (the product's app/policy/variants.py) and the optimum of each day. Quality answered over the optimum's: "of opt."
of all days, "day" of the worst one, "paid" of the worst one of which the optimum answers all; "of gain": of what the
optimum has over the cheapest variant. DATA: the folder of the traces, default ../shared/data; where anyone gets the
originals is printed when it is absent. `--live` runs variants_live.py instead: a compressed day against a pool on Ray.
Bars: ours spends no day more than its budget, under either load; under "service" no day's mean is below the floor, and
the quality answered over all days is >= 0.95 of the optimum's in every zone. "year" is the stress (a third of a day's
requests may come within five minutes): its quality and its days below the floor are printed. So are "of gain" and the
grams over the least that as many answers of the same mean take.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.policy.variants import Floors  # noqa: E402
from scripts.bench.shifting_data import (  # noqa: E402
    DAY_H,
    DAYAHEAD,
    ORIGINS,
    WARM_UP_H,
    YEAR_2022,
    day_ahead,
    forecasts,
    year_2022,
)
from scripts.bench.shifting_rules import World  # noqa: E402
from scripts.bench.variants_day import (  # noqa: E402
    LOAD_ORIGIN,
    ORIGINAL,
    SERVICE,
    STEPS,
    VARIANTS,
    YEAR,
    Day,
    Floats,
    Rule,
    always,
    live_days,
    ours,
    pacing,
    service_load,
    threshold,
    year_load,
)
from scripts.bench.variants_optimum import best_day, least_carbon  # noqa: E402

OURS, OPTIMUM, CHEAPEST = "Joulekeeper", "optimum", "always cheapest"
FLOORS = Floors(each=0.9, mean=0.95)
SERIES = ("CISO 2021", "ISNE 2021", "PJM 2021", "CISO 2022", "AZPS 2022")
QUICK_DAYS = 21
NEAR = 0.95
BEST, MIDDLE, LEAST = "int8", "prunechannelsint8", "distildatafree"


def rules() -> dict[str, Rule]:
    return {
        "always as published": always(ORIGINAL.name),
        CHEAPEST: always(LEAST),
        "threshold": threshold(BEST, LEAST),
        "pacing": pacing((BEST, MIDDLE, LEAST)),
        OURS: ours(FLOORS),
    }


def budget_of(counts: Floats, g_per_j: Floats, share: float) -> float:
    """Grams a day, from the first four weeks."""
    by_hour = counts[: WARM_UP_H * STEPS].reshape(-1, STEPS).sum(axis=1)
    weight = float(by_hour @ g_per_j[:WARM_UP_H]) * DAY_H / WARM_UP_H
    joules = {each.name: each.energy_j or 0.0 for each in VARIANTS}
    return weight * (joules[LEAST] + share * (joules[BEST] - joules[LEAST]))


def tables_of(order: tuple[Path, str, float, bool]) -> list[dict[str, Any]]:
    """All rules on one series, under both loads."""
    data, name, share, quick = order
    zone, year = name.split()
    trace = day_ahead(data, zone) if year == "2021" else year_2022(data, zone)
    whole_days = len(trace.actual) // DAY_H - 2
    days = range(WARM_UP_H // DAY_H, min(whole_days, WARM_UP_H // DAY_H + QUICK_DAYS) if quick else whole_days)
    world = World(trace, dict(forecasts(trace, "day", (days.stop + 1) * DAY_H)))
    hours = len(trace.actual)
    loads = {"service": service_load(data, hours // DAY_H), "year": year_load(data, hours)}
    return [table(world, name, load, counts, share, days) for load, counts in loads.items()]


def table(world: World, name: str, load: str, counts: Floats, share: float, days: range) -> dict[str, Any]:
    """All rules on one series under one load."""
    g_per_j = world.trace.actual / 3.6e6
    budget_g = budget_of(counts, g_per_j, share)
    done = live_days(world, counts, budget_g, rules(), days)
    hours = [slice(day * DAY_H, (day + 1) * DAY_H) for day in days]
    by_hour = [counts[at.start * STEPS : at.stop * STEPS].reshape(DAY_H, STEPS).sum(axis=1) for at in hours]
    done[OPTIMUM] = [_best(one, g_per_j[at], budget_g) for one, at in zip(by_hour, hours, strict=True)]
    least = [
        least_carbon(VARIANTS, one, g_per_j[at], ours_day.answered, ours_day.mean)
        for one, at, ours_day in zip(by_hour, hours, done[OURS], strict=True)
    ]
    paid = [one.refused <= 1e-6 * (one.answered + one.refused) for one in done[OPTIMUM]]
    found = [_row(rule, one, done, budget_g, paid) for rule, one in done.items()]
    over = sum(one.spent_g for one in done[OURS]) / sum(least)
    head = {"series": name, "load": load, "days": len(days), "budget_g": budget_g, "short": paid.count(False)}
    return head | {"rows": found, "over_least": over}


def _best(load: Floats, g_per_j: Floats, budget_g: float) -> Day:
    usable = tuple(each for each in VARIANTS if each.quality >= (FLOORS.each or 0.0))
    quality, answered, grams = best_day(usable, load, g_per_j, budget_g, FLOORS.mean or 0.0)
    return Day(answered, float(load.sum()) - answered, quality, grams)


def _row(
    name: str, days: Sequence[Day], done: Mapping[str, Sequence[Day]], budget_g: float, paid: Sequence[bool]
) -> dict[str, Any]:
    quality, best, cheapest = (sum(day.quality for day in each) for each in (days, done[OPTIMUM], done[CHEAPEST]))
    by_day = [day.quality / best_one.quality for day, best_one in zip(days, done[OPTIMUM], strict=True)]
    asked = sum(day.answered + day.refused for day in days)
    return {
        "rule": name,
        "mean": quality / sum(day.answered for day in days),
        "worst_mean": min(day.mean for day in days),
        "refused": sum(day.refused for day in days) / asked,
        "spent": sum(day.spent_g for day in days) / (budget_g * len(days)),
        "below": int(sum(day.mean < (FLOORS.mean or 0.0) - 1e-9 for day in days)),
        "over": int(sum(day.spent_g > budget_g * (1 + 1e-9) for day in days)),
        "of_optimum": quality / best,
        "worst_day": float(np.min(by_day)),
        "worst_paid": float(np.min([each for each, is_paid in zip(by_day, paid, strict=True) if is_paid])),
        "of_gain": (quality - cheapest) / (best - cheapest) if best > cheapest else 1.0,
    }


def show(tables: Sequence[dict[str, Any]]) -> None:
    for one in tables:
        print(
            f"\n{one['series']}, {one['load']}: {one['days']} days of {one['budget_g'] * 1000:.3f} mg, on "
            f"{one['short']} of them not even the optimum answers everybody"
        )
        print(
            f"{'rule':20s} {'mean':>7s} {'worst':>7s} {'refused':>8s} {'spent':>7s} {'over':>5s} {'below':>6s}"
            f" {'of opt.':>8s} {'day':>7s} {'paid':>7s} {'of gain':>8s}"
        )
        for row in one["rows"]:
            print(
                f"{row['rule']:20s} {row['mean']:7.4f} {row['worst_mean']:7.4f} {row['refused']:8.2%}"
                f" {row['spent']:7.1%} {row['over']:5d} {row['below']:6d} {row['of_optimum']:8.4f}"
                f" {row['worst_day']:7.4f} {row['worst_paid']:7.4f} {row['of_gain']:8.3f}"
            )
        print(f"Joulekeeper's grams over the least for its answers: {one['over_least']:.4f}")


def verdict(tables: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    mine = {
        (one["series"], one["load"]): next(row for row in one["rows"] if row["rule"] == OURS) | one for one in tables
    }
    service = {name: row for (name, load), row in mine.items() if load == "service"}
    figures = {
        "of_optimum": {name: round(row["of_optimum"], 4) for name, row in service.items()},
        "worst_day": round(min(row["worst_day"] for row in service.values()), 4),
        "of_gain": {name: round(row["of_gain"], 3) for name, row in service.items()},
        "over_least": {name: round(row["over_least"], 4) for name, row in service.items()},
        "days_over_budget": sum(row["over"] for row in mine.values()),
        "worst_mean": round(min(row["worst_mean"] for row in service.values()), 4),
        "year_below_floor": {name: row["below"] for (name, load), row in mine.items() if load == "year"},
        "year_of_optimum": {name: round(row["of_optimum"], 4) for (name, load), row in mine.items() if load == "year"},
    }
    met = (
        not figures["days_over_budget"]
        and not any(row["below"] for row in service.values())
        and min(figures["of_optimum"].values()) >= NEAR
    )
    return figures, met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--series", help="as they are named in the tables, with commas between")
    parser.add_argument(
        "--budget", type=float, default=0.5, help="0: the cheapest variant's of a usual day, 1: the best's"
    )
    parser.add_argument("--live", action="store_true", help="a compressed day on Ray")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    needed = (DAYAHEAD, YEAR_2022, SERVICE, YEAR)
    if not all((options.data / each).exists() for each in needed):
        print(f"skipped: no traces below {options.data}; they come from\n{ORIGINS}\n{LOAD_ORIGIN}")
        return 0
    if options.live:
        from scripts.bench import variants_live

        figures, met = variants_live.live(options.data, options.quick)
        variants_live.show(figures)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
        print(variants_live.dump(figures))
        return 0 if met else 1
    names = options.series.split(",") if options.series else SERIES
    orders = [(options.data, name, options.budget, options.quick) for name in names]
    with get_context("spawn").Pool(2) as pool:
        tables = [one for found in pool.imap(tables_of, orders, chunksize=1) for one in found]
    show(tables)
    figures, met = verdict(tables)
    print(f"\nbars: {'met' if met else 'MISSED'}")
    if options.json:
        options.json.write_text(json.dumps({"tables": tables, "figures": figures}, indent=1))
    print(json.dumps(figures))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
