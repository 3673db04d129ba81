"""The attempts of a run as they are kept beside its checkpoints: when each began, with how many workers, from where.

Knows nothing of Ray, files or energy. An attempt is one start of the group of workers; the next begins when a worker is
lost, when the group grows or shrinks, or when a run that was stopped goes on.

    attempt = Attempt(world=3, begun_s=now, epoch=4, step=0, epoch_steps=23, before=Seen(...))
    Attempt.model_validate_json(attempt.model_dump_json())
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seen(_Part):
    """The last that was seen of an attempt: it had done at least so much."""

    attempt: int = Field(ge=1)
    epoch: int = Field(ge=0)
    """Epochs done."""
    step: int = Field(ge=0)
    """Optimiser steps done of the epoch that follows."""
    at_s: float
    """Unix seconds."""


class Attempt(_Part):
    """One start of a run's workers. Times are unix seconds by the clock of the first worker's node."""

    world: int = Field(ge=1)
    """Workers."""
    begun_s: float
    """When its workers entered the training function."""
    epoch: int = Field(default=0, ge=0)
    """Epochs that it found done."""
    step: int = Field(default=0, ge=0)
    """Optimiser steps that it found done of the epoch that follows."""
    epoch_steps: int = Field(default=0, ge=0)
    """Optimiser steps of an epoch; 0: it died before it knew."""
    first_step_s: float | None = None
    """When its first step was done; None: it died before."""
    last: Seen | None = None
    """Where it ended, if it could still say so."""
    before: Seen | None = None
    """What was last seen of the attempt before it; None: it is the first, that one was stopped, or the cluster has
    forgotten."""

    @property
    def resumed_after(self) -> int:
        """Optimiser steps that it found done, from the beginning of the run."""
        return self.epoch * self.epoch_steps + self.step


def read_attempts(written: Mapping[int, str]) -> dict[int, Attempt]:
    """The attempts in what was written, by number; of one that died before it could write, nothing."""
    found = {}
    for number, content in sorted(written.items()):
        try:
            found[number] = Attempt.model_validate_json(content)
        except ValidationError:
            continue
    return found
