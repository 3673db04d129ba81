"""What restarts of a run cost: steps that were done again and their energy, setting up again, time without a step.

Pure: attempts and what the ledger says of them come in. A step counts as lost when a later attempt went on from before
it, whoever is to blame. The ledger knows the energy of an attempt by epoch; of an epoch that was lost in part, the part
is that of its steps:

    lost = sum over epochs of E(attempt, epoch) x lost steps of the epoch / steps done of it

The energy of setting up (restoring, reading the data again) is what the attempts after the first used outside epochs.
Neither is waste that the books hide: both are in the job's energy, and this says how much of it they are.

    costs = restart_costs(attempts, {1: {0: 2_000_000, 1: 9_000_000}, 2: {...}})
    costs.lost_steps, costs.lost_uj, costs.setup_uj, costs.seconds
    lines(costs, job_uj)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from app.training.attempts import Attempt
from app.units import format_energy

EpochEnergy = Mapping[int, int]
"""Microjoules of an attempt by epoch, from 1; 0: outside epochs."""


@dataclass(frozen=True, slots=True)
class Restart:
    """One attempt that followed another."""

    attempt: int
    world: int
    """Workers; of the attempt before in `world_before`."""
    world_before: int
    resumed_after: int
    """Optimiser steps, from the beginning, that it found done."""
    lost_steps: int | None
    """Steps of the attempt before that are done again; None: nobody saw how far that came."""
    lost_uj: int
    """Energy of the attempt before that no result has."""
    setup_uj: int
    """Energy until its first step, and between epochs."""
    seconds: float | None
    """From the last that was seen of the attempt before, else from its begin, to its first step; None: it had none."""


@dataclass(frozen=True, slots=True)
class RestartCosts:
    """All restarts of a run. Sums leave out what is not known."""

    restarts: tuple[Restart, ...] = ()

    @property
    def lost_steps(self) -> int:
        return sum(each.lost_steps or 0 for each in self.restarts)

    @property
    def lost_uj(self) -> int:
        return sum(each.lost_uj for each in self.restarts)

    @property
    def setup_uj(self) -> int:
        return sum(each.setup_uj for each in self.restarts)

    @property
    def seconds(self) -> float:
        return sum(each.seconds or 0.0 for each in self.restarts)


NO_RESTARTS = RestartCosts()


def restart_costs(attempts: Mapping[int, Attempt], energy_uj: Mapping[int, EpochEnergy]) -> RestartCosts:
    """What each attempt but the first cost beyond its own steps. One that left no record died while it set up."""
    numbers = sorted(attempts)
    found = []
    for before, number in pairwise(numbers):
        past, attempt = attempts[before], attempts[number]
        kept = min(attempts[later].resumed_after for later in numbers if later >= number)
        reached = _reached(before, past, attempt)
        found.append(
            Restart(
                attempt=number,
                world=attempt.world,
                world_before=past.world,
                resumed_after=attempt.resumed_after,
                lost_steps=None if reached is None else max(0, reached - max(kept, past.resumed_after)),
                lost_uj=_lost_uj(past, reached, kept, energy_uj.get(before, {})),
                setup_uj=sum(energy_uj.get(each, {}).get(0, 0) for each in range(before + 1, number + 1)),
                seconds=_seconds(attempt),
            )
        )
    return RestartCosts(tuple(found))


def lines(costs: RestartCosts, job_uj: int) -> list[str]:
    """For the report: one line for each restart, and their sum with its share of the job's energy."""
    if not costs.restarts:
        return []
    share = f"{(costs.lost_uj + costs.setup_uj) / job_uj:.1%} of the job" if job_uj else "its share is unknown"
    return [
        f"restarts: {len(costs.restarts)}; lost work {costs.lost_steps} steps, {format_energy(costs.lost_uj)}; setting "
        f"up again {format_energy(costs.setup_uj)}; together {share}; {costs.seconds:.1f} s without a step",
        *(f"  {_line(each)}" for each in costs.restarts),
    ]


def _line(restart: Restart) -> str:
    lost = "unknown" if restart.lost_steps is None else str(restart.lost_steps)
    seconds = "an unknown time" if restart.seconds is None else f"{restart.seconds:.1f} s"
    return (
        f"attempt {restart.attempt}: {restart.world_before} -> {restart.world} workers, from step "
        f"{restart.resumed_after}, {lost} steps again ({format_energy(restart.lost_uj)}), set up in {seconds} "
        f"({format_energy(restart.setup_uj)})"
    )


def _reached(number: int, attempt: Attempt, following: Attempt) -> int | None:
    """Steps, from the beginning, that `attempt` had done when it was last seen."""
    seen = [each for each in (attempt.last, following.before) if each is not None and each.attempt == number]
    steps = [each.epoch * attempt.epoch_steps + each.step for each in seen]
    return max([*steps, attempt.resumed_after]) if steps else None


def _lost_uj(attempt: Attempt, reached: int | None, kept: int, energy_uj: EpochEnergy) -> int:
    """Of what `attempt` used in its epochs, the part of steps beyond `kept`."""
    if not attempt.epoch_steps:
        return sum(energy_uj.values())
    lost = 0.0
    for epoch, used_uj in energy_uj.items():
        if epoch < 1:
            continue
        first, last = (epoch - 1) * attempt.epoch_steps, epoch * attempt.epoch_steps
        if first >= kept:
            lost += used_uj
        elif last > kept and reached is not None:
            done = min(reached, last) - max(attempt.resumed_after, first)
            again = min(reached, last) - max(kept, attempt.resumed_after)
            lost += used_uj * max(0, again) / done if done > 0 else 0
    return round(lost)


def _seconds(attempt: Attempt) -> float | None:
    if attempt.first_step_s is None:
        return None
    return max(0.0, attempt.first_step_s - (attempt.before.at_s if attempt.before else attempt.begun_s))
