"""What a run was seen to take: seconds of a step and watts by number of workers, and what each start of it costs.

Pure: attempts, what the driver saw and what the ledger says come in. Kept as `pace.json` beside the checkpoints, so
that a later run of the same job is planned with what this one took. Knows nothing of plans.

    pace = pace_of("digits-1", attempts, seen, energy)
    pace.step_s(2), pace.power_w(2)
    Pace.model_validate_json(pace.model_dump_json())
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from app.training.attempts import Attempt
from app.training.restarts import EpochEnergy
from app.units import UJ_PER_J

PACE_FILE = "pace.json"
_ENOUGH = 0.3
"""Of the time of its steps, to tell a run's power by the buckets in it."""
_FEWEST_STEPS = 20
"""With so many workers: the first steps of a process are slower than those that follow."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorldPace(_Part):
    """With so many workers."""

    world: int = Field(ge=1)
    step_s: float = Field(gt=0)
    """Seconds from one optimiser step to the next; evaluation and checkpoints of its epochs are in it."""
    power_w: float | None = None
    """Of the whole job over these seconds, as the ledger charges it; None: nobody metered it."""


class Pace(_Part):
    """What a run took."""

    run: str
    epoch_steps: int = Field(ge=1)
    worlds: tuple[WorldPace, ...]
    """By number of workers."""
    setup_s: float = Field(ge=0)
    """From a start of its workers to their first step, processes included; of several the median."""
    waiting_s: float = Field(default=0.0, ge=0)
    """Of that, before its workers are there: nothing is charged to the run."""
    setup_j: float | None = None
    """What that and the end took: all but the time of steps; None: nobody metered it."""
    closing_s: float = Field(default=0.0, ge=0)
    """From the last step to the end of the workers."""

    def of(self, world: int) -> WorldPace | None:
        """With `world` workers, if it was seen with so many."""
        return next((each for each in self.worlds if each.world == world), None)


@dataclass(frozen=True, slots=True)
class Held:
    """One start of the workers as the driver saw it, in unix seconds."""

    began_s: float
    ended_s: float | None = None
    """None: it has not ended."""


@dataclass(frozen=True, slots=True)
class AttemptEnergy:
    """What the ledger knows of the attempts of a run; empty without one."""

    attempts_uj: Mapping[int, int] = field(default_factory=dict)
    epochs_uj: Mapping[int, EpochEnergy] = field(default_factory=dict)
    spans: Sequence[tuple[float, float, int]] = ()
    """Of the whole run by time: from, to (unix seconds), microjoules."""


def pace_of(
    run: str,
    attempts: Mapping[int, Attempt],
    held: Mapping[int, Held],
    energy: AttemptEnergy | None = None,
) -> Pace | None:
    """What the attempts that made enough steps were seen to take; None where none did. `held` is by attempt, too."""
    energy = energy or AttemptEnergy()
    by_world: dict[int, dict[int, Attempt]] = defaultdict(dict)
    for number, attempt in attempts.items():
        if _steps(attempt) > 0 and _seconds(attempt) > 0:
            by_world[attempt.world][number] = attempt
    known = {world: own for world, own in by_world.items() if sum(map(_steps, own.values())) >= _FEWEST_STEPS}
    stepped = {number: attempt for own in known.values() for number, attempt in own.items()}
    if not stepped:
        return None
    found = (_world(world, own, energy) for world, own in known.items())
    setups = [_span(attempt)[0] - _begin(number, attempt, held) for number, attempt in stepped.items()]
    waits = [attempt.begun_s - _begin(number, attempt, held) for number, attempt in stepped.items()]
    closings = [_closing(each, held.get(number)) for number, each in stepped.items()]
    closings_s = [seconds for seconds in closings if seconds is not None]
    worlds = tuple(sorted(found, key=lambda each: each.world))
    powers = {each.world: each.power_w for each in worlds}
    setups_j = [
        max(0.0, energy.attempts_uj[number] / UJ_PER_J - power_w * _seconds(attempt))
        for number, attempt in stepped.items()
        if number in energy.attempts_uj and (power_w := powers[attempt.world])
    ]
    return Pace(
        run=run,
        epoch_steps=next(iter(stepped.values())).epoch_steps,
        worlds=worlds,
        setup_s=max(0.0, statistics.median(setups)),
        waiting_s=max(0.0, statistics.median(waits)),
        setup_j=statistics.median(setups_j) if setups_j else None,
        closing_s=max(0.0, statistics.median(closings_s)) if closings_s else 0.0,
    )


def steps_done(attempt: Attempt) -> int:
    """Optimiser steps, from the beginning of the run, that were done when `attempt` was last seen."""
    if attempt.last is None:
        return attempt.resumed_after
    return attempt.last.epoch * attempt.epoch_steps + attempt.last.step


def _world(world: int, attempts: Mapping[int, Attempt], energy: AttemptEnergy) -> WorldPace:
    seconds = sum(map(_seconds, attempts.values()))
    return WorldPace(
        world=world,
        step_s=seconds / sum(map(_steps, attempts.values())),
        power_w=_power_w(attempts, seconds, energy),
    )


def _power_w(attempts: Mapping[int, Attempt], seconds: float, energy: AttemptEnergy) -> float | None:
    """Mean while steps were made: of the buckets of the books that lie in that time; of a run that is shorter than some
    of them, by what its epochs were charged, which leaves out the time between slices."""
    inside = [
        (to_s - from_s, used_uj)
        for from_s, to_s, used_uj in energy.spans
        if any(first_s <= from_s and to_s <= last_s for first_s, last_s in map(_span, attempts.values()))
    ]
    inside_s = sum(width_s for width_s, _ in inside)
    if inside_s >= _ENOUGH * seconds:
        return sum(used_uj for _, used_uj in inside) / UJ_PER_J / inside_s
    metered = [number for number in attempts if number in energy.attempts_uj]
    metered_s = sum(_seconds(attempts[number]) for number in metered)
    used_uj = sum(_epochs_uj(number, energy) for number in metered)
    return used_uj / UJ_PER_J / metered_s if used_uj and metered_s else None


def _steps(attempt: Attempt) -> int:
    """Made after the first, whose end is where the watch began."""
    return steps_done(attempt) - attempt.resumed_after - 1 if attempt.first_step_s is not None else 0


def _seconds(attempt: Attempt) -> float:
    first_s, last_s = _span(attempt)
    return last_s - first_s


def _span(attempt: Attempt) -> tuple[float, float]:
    """From its first step to the last that was seen; of one without steps, no time."""
    if attempt.first_step_s is None or attempt.last is None:
        return attempt.begun_s, attempt.begun_s
    return attempt.first_step_s, attempt.last.at_s


def _begin(number: int, attempt: Attempt, held: Mapping[int, Held]) -> float:
    """Of its start: the driver knows when it asked for workers; of a group that Ray began again, itself."""
    return held[number].began_s if number in held else attempt.begun_s


def _closing(attempt: Attempt, held: Held | None) -> float | None:
    if attempt.last is None or held is None or held.ended_s is None:
        return None
    return held.ended_s - attempt.last.at_s


def _epochs_uj(number: int, energy: AttemptEnergy) -> int:
    return sum(used_uj for epoch, used_uj in energy.epochs_uj.get(number, {}).items() if epoch >= 1)
