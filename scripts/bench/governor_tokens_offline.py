"""The governor of concurrency on published runs of language models, beside fixed limits.

Each deployment (model, task, GPUs and their partition) is an engine that always has prompts waiting, of which the
governor sees a second at a time: the sequences that the published run had on average at that limit, its tokens and its
energy with 20 % noise, and as many gaps between tokens as it makes steps in that second; the tokens of a step have one
gap in common. Gaps are drawn from the published quantiles. Where only a mean was published, every gap is that mean.
"""

import csv
import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from governor import ENERGY_NOISE, Measured

from app.policy.concurrency import ConcurrencyGovernor, TokenObjective
from app.policy.steps_seen import StepSeen

RATIO_BAR = 1.10
QUANTILE = 0.9
SECONDS, QUICK_SECONDS = 900, 300
V2, V3 = "power_mlenergy_v2/mlenergy_v2_runs.csv", "power_mlenergy_v3/mlenergy_v3_b200_runs.csv"


@dataclass(frozen=True)
class Run:
    """A published run: one limit of one deployment."""

    measured: Measured
    sequences: float
    tokens_per_s: float

    @property
    def limit(self) -> int:
        return self.measured.max_num_seqs

    @property
    def uj_per_token(self) -> float:
        return self.measured.j_per_token * 1e6

    def meets(self, gap_ms: float) -> bool:
        return self.measured.itl_p90_ms <= gap_ms


Deployments = Mapping[tuple[str, ...], Sequence[Run]]


def v2_runs(path: Path) -> Deployments:
    """ML.ENERGY leaderboard v2: A100 and H100; `avg_tpot_s` is a mean and all that was published of gaps."""

    def run(row: Mapping[str, str]) -> Run:
        mean_ms = float(row["avg_tpot_s"]) * 1e3
        j_per_token = float(row["j_per_request"]) / float(row["avg_output_tokens"])
        measured = Measured(int(row["max_batch"]), j_per_token, mean_ms, mean_ms, mean_ms)
        return Run(measured, float(row["avg_batch"]), float(row["tokens_per_s"]))

    return _by_deployment(path, ("model", "family", "gpu", "tp", "pp"), "avg_tpot_s", run)


def v3_runs(path: Path) -> Deployments:
    """ML.ENERGY benchmark v3: B200; p50, p90 and p99 of the gaps."""

    def run(row: Mapping[str, str]) -> Run:
        numbers = (float(row[name]) for name in ("j_per_output_token", "itl_p50_ms", "itl_p90_ms", "itl_p99_ms"))
        measured = Measured(int(row["max_num_seqs_or_batch"]), *numbers)
        return Run(measured, float(row["avg_batch"]), float(row["throughput_per_s"]))

    return _by_deployment(path, ("model", "task", "gpu", "num_gpus", "tp", "ep", "dp"), "itl_p90_ms", run)


def _by_deployment(
    path: Path, key: Sequence[str], needed: str, run: Callable[[Mapping[str, str]], Run]
) -> dict[tuple[str, ...], list[Run]]:
    found: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row[needed]:
                found[tuple(row[name] for name in key)].append(run(row))
    return {name: sorted(runs, key=lambda one: one.limit) for name, runs in sorted(found.items()) if len(runs) > 1}


@dataclass(frozen=True)
class Outcome:
    """J per token of one deployment over that of its best feasible limit."""

    governor: float
    """Of the limit used most in the second half; infinite where that misses the objective."""
    second_half: float
    whole: float
    """Of all that was generated, learning included."""
    late: float
    """Share of gaps over the objective in the whole run; 0.1 is allowed."""
    smallest: float
    largest: float
    largest_feasible: float
    largest_misses: bool
    smallest_misses: bool


def play(runs: Sequence[Run], gap_ms: float, seconds: int, seed: int) -> Outcome:
    chance = random.Random(seed)
    governor = ConcurrencyGovernor(
        TokenObjective(gap_s=gap_ms / 1e3, gap_quantile=QUANTILE), [run.limit for run in runs]
    )
    by_limit = {run.limit: run for run in runs}
    seconds_of: list[Counter[int]] = [Counter(), Counter()]
    late = gaps = 0
    for second in range(seconds):
        run = by_limit[governor.limit()]
        seen = _second(run, second + 1.0, chance)
        governor.observe(seen)
        seconds_of[2 * second // seconds][run.limit] += 1
        gaps += sum(count for _, count in seen.gaps)
        late += sum(count for gap_s, count in seen.gaps if gap_s * 1e3 > gap_ms)
    feasible = [run for run in runs if run.meets(gap_ms)]
    best_uj = min(run.uj_per_token for run in feasible)
    chosen = by_limit[seconds_of[1].most_common(1)[0][0]]
    return Outcome(
        chosen.uj_per_token / best_uj if chosen.meets(gap_ms) else math.inf,
        _uj_per_token(by_limit, seconds_of[1]) / best_uj,
        _uj_per_token(by_limit, seconds_of[0] + seconds_of[1]) / best_uj,
        late / gaps,
        runs[0].uj_per_token / best_uj,
        runs[-1].uj_per_token / best_uj,
        feasible[-1].uj_per_token / best_uj,
        not runs[-1].meets(gap_ms),
        not runs[0].meets(gap_ms),
    )


def _second(run: Run, at_s: float, chance: random.Random) -> StepSeen:
    steps = max(1, round(1e3 / run.measured.itl_p50_ms))
    together = max(1, round(run.sequences))
    gaps = [(run.measured.latency_s(chance), together) for _ in range(steps)]
    tokens = round(run.tokens_per_s)
    energy_uj = round(run.uj_per_token * tokens * chance.lognormvariate(0, ENERGY_NOISE))
    return StepSeen(at_s, 1.0, run.sequences, 1, tokens, energy_uj, gaps)


def _uj_per_token(by_limit: Mapping[int, Run], seconds: Counter[int]) -> float:
    tokens = {limit: by_limit[limit].tokens_per_s * count for limit, count in seconds.items()}
    return sum(by_limit[limit].uj_per_token * count for limit, count in tokens.items()) / sum(tokens.values())


def compare(name: str, everything: Deployments, gap_ms: float, seconds: int) -> dict[str, Any]:
    """One data set: medians over models, a model by the median of its deployments."""
    feasible = {key: runs for key, runs in everything.items() if any(run.meets(gap_ms) for run in runs)}
    by_model: dict[str, list[Outcome]] = defaultdict(list)
    for seed, (key, runs) in enumerate(feasible.items()):
        by_model[key[0]].append(play(runs, gap_ms, seconds, seed))
    outcomes = [one for found in by_model.values() for one in found]

    def median(figure: str) -> float:
        return statistics.median(
            statistics.median(getattr(one, figure) for one in found) for found in by_model.values()
        )

    figures = ("governor", "second_half", "whole", "smallest", "largest", "largest_feasible")
    chosen = [statistics.median(one.governor for one in found) for found in by_model.values()]
    return {
        "data": name,
        "gap_p90_ms": gap_ms,
        "models": len(by_model),
        "deployments": len(outcomes),
        "nothing_feasible": len(everything) - len(feasible),
        "governor_misses": sum(math.isinf(one.governor) for one in outcomes),
        "smallest_misses": sum(one.smallest_misses for one in outcomes),
        "largest_misses": sum(one.largest_misses for one in outcomes),
        "models_within_bar": sum(one <= RATIO_BAR for one in chosen) / len(chosen),
        "late_median": statistics.median(one.late for one in outcomes),
        "late_most": max(one.late for one in outcomes),
    } | {figure: median(figure) for figure in figures}


def run(data: Path, gap_ms: float, quick: bool) -> tuple[dict[str, Any], bool]:
    seconds = QUICK_SECONDS if quick else SECONDS
    table = [
        compare("v2", v2_runs(data / V2), gap_ms, seconds),
        compare("v3", v3_runs(data / V3), gap_ms, seconds),
    ]
    for row in table:
        _tell(row)
    met = all(row["governor"] <= RATIO_BAR for row in table)
    print(f"bar: median over models <= {RATIO_BAR:.2f} x the best feasible limit: {'met' if met else 'MISSED'}")
    return {"seconds": seconds, "offline": table}, met


def _tell(row: Mapping[str, Any]) -> None:
    kind = "mean taken for the p90" if row["data"] == "v2" else "p90"
    print(
        f"{row['data']}: gap of {row['gap_p90_ms']:g} ms ({kind}); {row['models']} models, {row['deployments']} "
        f"deployments, {row['nothing_feasible']} more have no feasible limit"
    )
    print("  J/token of the best feasible limit, median over models       limits that miss the objective")
    print(f"    governor, limit used most  {row['governor']:6.3f}   {row['governor_misses']:22d}")
    print(f"    governor, second half      {row['second_half']:6.3f}")
    print(f"    governor, whole run        {row['whole']:6.3f}")
    print(f"    fixed smallest             {row['smallest']:6.3f}   {row['smallest_misses']:22d}")
    print(f"    fixed largest              {row['largest']:6.3f}   {row['largest_misses']:22d}")
    print(f"    largest feasible           {row['largest_feasible']:6.3f}   {0:22d}")
    print(f"    clairvoyant                {1:6.3f}   {0:22d}")
    print(
        f"  models within {RATIO_BAR}: {row['models_within_bar']:.0%}; late gaps of 10 % allowed, learning included: "
        f"median {row['late_median']:.1%}, most {row['late_most']:.1%}"
    )
