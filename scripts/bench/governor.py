"""The governor of batching against the best fixed setting that meets the latency objective.

    python scripts/bench/governor.py --offline [--quick] [--json FILE]
    python scripts/bench/governor.py --live [--quick] [--json FILE]

Offline: the ML.ENERGY benchmark v3 (measured: J per output token and inter-token latency of language models by
`max_num_seqs`). Each deployment (model, task, GPUs and their partition) is a service of which the governor is told
batches: latencies drawn from the measured p50, p90 and p99, energies around the measured mean with 20 % noise a batch.
Objectives are p90 inter-token latencies. A choice that misses the objective counts as infinite.
Live: governor_live.py, the real service with minilm under Poisson load.
Bars: J per token of the setting chosen <= 1.1 x the best feasible one, median over models, for each objective; live:
J per request <= 1.1 x the best fixed setting of a sweep in the same run, and the objective met at p95.
"""

import argparse
import csv
import json
import math
import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.policy.batching import BatchLimits, BatchObjective, BatchSeen, Governor  # noqa: E402

DATA = Path("../shared/data/power_mlenergy_v3/mlenergy_v3_b200_runs.csv")
RATIO_BAR = 1.1
OBJECTIVES_MS = (20, 30, 50, 100, 200)
ANSWERS_PER_BATCH, BATCHES, QUICK_BATCHES = 10, 6000, 2500
ENERGY_NOISE = 0.2
Z90, Z99 = 1.2816, 2.3263


@dataclass(frozen=True)
class Measured:
    """One row: a setting of one deployment."""

    max_num_seqs: int
    j_per_token: float
    itl_p50_ms: float
    itl_p90_ms: float
    itl_p99_ms: float

    def latency_s(self, chance: random.Random) -> float:
        """Drawn so that the three quantiles are met: lognormal pieces between them."""
        z = min(max(chance.gauss(0, 1), -3.5), 3.5)
        low, middle, high = (math.log(value) for value in (self.itl_p50_ms, self.itl_p90_ms, self.itl_p99_ms))
        if z < Z90:
            return math.exp(low + (middle - low) * z / Z90) / 1e3
        return math.exp(middle + (high - middle) * (z - Z90) / (Z99 - Z90)) / 1e3


def deployments(path: Path) -> dict[tuple[str, ...], list[Measured]]:
    found: dict[tuple[str, ...], list[Measured]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["itl_p90_ms"]:
                key = tuple(row[name] for name in ("model", "task", "gpu", "num_gpus", "tp", "ep", "dp"))
                numbers = (
                    float(row[name]) for name in ("j_per_output_token", "itl_p50_ms", "itl_p90_ms", "itl_p99_ms")
                )
                found[key].append(Measured(int(row["max_num_seqs_or_batch"]), *numbers))
    return {key: rows for key, rows in found.items() if len(rows) > 1}


@dataclass(frozen=True)
class Outcome:
    """Of one deployment under one objective, over the best feasible setting."""

    chosen: float
    """Of the setting used most in the second half of the run; infinite where that misses the objective."""
    average: float
    """Of the second half of the run, exploring included."""
    late_share: float
    """Of all answers, learning included; 0.1 is allowed."""


def play(rows: Sequence[Measured], objective_ms: float, batches: int, seed: int) -> Outcome:
    chance = random.Random(seed)
    settings = {BatchLimits(row.max_num_seqs, 0.0): row for row in rows}
    governor = Governor(BatchObjective(latency_s=objective_ms / 1e3, quantile=0.9), list(settings))
    used: Counter[BatchLimits] = Counter()
    late = 0
    for number in range(batches):
        limits = governor.limits()
        row = settings[limits]
        latencies_s = [row.latency_s(chance) for _ in range(ANSWERS_PER_BATCH)]
        late += sum(latency_s * 1e3 > objective_ms for latency_s in latencies_s)
        energy_uj = row.j_per_token * 1e6 * ANSWERS_PER_BATCH * chance.lognormvariate(0, ENERGY_NOISE)
        governor.observe(BatchSeen(number / 10, limits, ANSWERS_PER_BATCH, round(energy_uj), latencies_s))
        if number >= batches // 2:
            used[limits] += 1
    best_j = min(row.j_per_token for row in rows if row.itl_p90_ms <= objective_ms)
    chosen = settings[used.most_common(1)[0][0]]
    average_j = sum(settings[limits].j_per_token * count for limits, count in used.items()) / used.total()
    ratio = chosen.j_per_token / best_j if chosen.itl_p90_ms <= objective_ms else math.inf
    return Outcome(ratio, average_j / best_j, late / (batches * ANSWERS_PER_BATCH))


def offline(quick: bool, path: Path) -> tuple[dict[str, Any], bool]:
    table = []
    everything = deployments(path)
    for objective_ms in OBJECTIVES_MS:
        feasible = {
            key: rows for key, rows in everything.items() if any(row.itl_p90_ms <= objective_ms for row in rows)
        }
        batches = QUICK_BATCHES if quick else BATCHES
        by_model = defaultdict(list)
        for seed, (key, rows) in enumerate(sorted(feasible.items())):
            by_model[key[0]].append(play(rows, objective_ms, batches, seed))
        # A model counts once: by the median of its deployments.
        chosen = [statistics.median(one.chosen for one in found) for found in by_model.values()]
        outcomes = [one for found in by_model.values() for one in found]
        table.append(
            {
                "p90_ms": objective_ms,
                "models": len(by_model),
                "deployments": len(outcomes),
                "median": statistics.median(chosen),
                "within_bar": sum(one <= RATIO_BAR for one in chosen) / len(chosen),
                "missed": sum(math.isinf(one.chosen) for one in outcomes),
                "average": statistics.median(one.average for one in outcomes),
                "late": statistics.median(one.late_share for one in outcomes),
                "late_most": max(one.late_share for one in outcomes),
            }
        )
    print("p90 ms  models  deployments  J/token of best, median  models within 1.1  missed  whole run  late  most")
    for row in table:
        print(
            f"{row['p90_ms']:6d} {row['models']:7d} {row['deployments']:12d} {row['median']:24.3f} "
            f"{row['within_bar']:17.0%} {row['missed']:7d} {row['average']:10.3f} "
            f"{row['late']:5.1%} {row['late_most']:5.1%}"
        )
    met = all(row["median"] <= RATIO_BAR for row in table)
    print(f"bar: median over models <= {RATIO_BAR} x for each objective: {'met' if met else 'MISSED'}")
    return {"offline": table}, met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--offline", action="store_true")
    which.add_argument("--live", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.live:
        from scripts.bench import governor_live

        result, met = governor_live.run(options.quick)
    else:
        result, met = offline(options.quick, options.data)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
