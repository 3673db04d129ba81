"""What a row costs to answer: milliseconds and joules of several versions, in turns, so that all have the same machine.

Knows nothing of how a version came to be, nor of clusters: who meters is an argument (`app.energy.measure` in one, a
fake in tests). What runs is the runner that serves, on the files as they are published.

    costs = inference_costs([base, variant], material.questions, plan=CostPlan(), measure=measure)
    costs[1][0].uj_per_row, costs[1][0].base_uj_per_row
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from app.models.card import InferenceCost
from app.models.runners.base import Arrays, Runner
from app.training.token_cost import Measure, MeteredBlock, meter_watches, processor

_SETTLE_S = 20.0
_REQUESTS = 16
"""Different ones, asked again and again."""
Questions = Callable[[int, int], list[Arrays]]
"""From rows of a request and a number to so many requests."""


@dataclass(frozen=True, slots=True)
class CostPlan:
    """How long is measured."""

    rows: tuple[int, ...] = (1, 32)
    """Of a request."""
    rounds: int = 3
    round_s: float = 0.5
    """Of each version in each round."""
    threads: int = 1
    """As many as a replica has where its deployment does not say."""


@dataclass(slots=True)
class _Tally:
    """One version, asked for so many rows at once."""

    runner: Runner
    name: str
    requests: list[Arrays]
    asked: int = 0
    times_ms: list[float] = field(default_factory=list)
    blocks: list[MeteredBlock] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (before := time.perf_counter()) < end:
            self.runner.run(self.requests[self.asked % len(self.requests)])
            self.times_ms.append(1e3 * (time.perf_counter() - before))
            self.asked += 1

    def energy(self) -> "_Energy | None":
        """Microjoules of all rounds and their grade; None where no meter told one of them."""
        told = [block.settle(_SETTLE_S) for block in self.blocks]
        known = [figures for figures in told if figures is not None]
        if not known or len(known) < len(told):
            return None
        return sum(each.energy_uj for each in known), "+".join(sorted({each.grade for each in known}))


_Energy = tuple[int, str]
_Measured = tuple[_Tally, _Energy | None]


def inference_costs(
    versions: Sequence[tuple[str, Runner]], questions: Questions, *, plan: CostPlan, measure: Measure | None
) -> list[tuple[InferenceCost, ...]]:
    """Of each named version, for each of `plan.rows`, beside the first; without `measure` or a meter no joules."""
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        if measure and not meter_watches(measure, f"{versions[0][0]}-inference"):
            measure = None
        columns = [_measured(versions, rows, questions(rows, _REQUESTS), plan, measure) for rows in plan.rows]
    finally:
        torch.set_num_threads(threads)
    return list(zip(*columns, strict=True))


def _measured(
    versions: Sequence[tuple[str, Runner]], rows: int, requests: list[Arrays], plan: CostPlan, measure: Measure | None
) -> list[InferenceCost]:
    tallies = [_Tally(runner, f"{name}-inference", requests) for name, runner in versions]
    for tally in tallies:
        tally.runner.run(requests[0])  # what only the first request costs is no row's
    for number in range(plan.rounds):
        for tally in tallies if number % 2 == 0 else tallies[::-1]:
            if measure is None:
                tally.run(plan.round_s)
                continue
            with measure(tally.name) as block:
                tally.run(plan.round_s)
            tally.blocks.append(block)
    energies = [tally.energy() if measure else None for tally in tallies]
    first = (tallies[0], energies[0])
    return [_cost(rows, pair, first, plan) for pair in zip(tallies, energies, strict=True)]


def _cost(rows: int, version: _Measured, first: _Measured, plan: CostPlan) -> InferenceCost:
    (tally, energy), (base, base_energy) = version, first
    return InferenceCost(
        rows=rows,
        p50_ms=statistics.median(tally.times_ms),
        base_p50_ms=statistics.median(base.times_ms),
        uj_per_row=energy[0] / (rows * tally.asked) if energy else None,
        base_uj_per_row=base_energy[0] / (rows * base.asked) if base_energy else None,
        grade=energy[1] if energy else "none",
        hardware=f"{processor()}, {plan.threads} thread{'s' if plan.threads > 1 else ''}",
    )
