"""The part `start` of a job file: when a job must be done, and what may be done with the time that leaves.

Knows nothing of grids or plans; schedule.py makes a plan of it.

    start: {slack_hours: 24}                          # by a day later than if it began at once, at the best hours
    start: {deadline: 2026-12-01T06:00:00Z, hours: 4, interruptible: false}
"""

from typing import Annotated

from pydantic import AwareDatetime, Field, model_validator

from app.training.parts import Part

_MOST_HOURS = 24 * 366
Speed = Annotated[float, Field(gt=0)]


class Start(Part):
    """When the job runs; without this part it runs at once."""

    deadline: AwareDatetime | None = None
    """When training must be over: a time with its zone, such as `2026-12-01T06:00:00Z`."""
    slack_hours: float | None = Field(default=None, ge=0, le=_MOST_HOURS)
    """Hours by which it may be over later than if it had begun when it was submitted."""
    hours: float = Field(default=0.0, ge=0, le=_MOST_HOURS)
    """How long training takes with `workers.max`; 0: as an earlier run of this job took."""
    interruptible: bool = True
    """Whether it may pause (a checkpoint, no workers) and resume; else it is only begun later."""
    speeds: dict[int, Speed] = Field(default_factory=dict)
    """How fast it is on so many workers, in any unit: `{1: 1, 2: 1.9, 4: 3.4}`. The plan then chooses among these
    numbers, too, hour by hour. Empty: it runs on `workers.max`, or on the numbers that an earlier run was seen with."""
    power_w: float = Field(default=0.0, ge=0)
    """Power of the whole job with `workers.max`, in proportion with fewer; 0: as measured in an earlier run."""
    queue: bool = False
    """Whether it waits its turn among the jobs of the cluster that do, those that must begin soonest first, when there
    are too few workers for all."""
    least_saving: float = Field(default=0.02, ge=0, lt=1)
    """Share of its carbon that a plan must be expected to save; else the job runs at once."""

    @model_validator(mode="after")
    def _has_one_end(self) -> "Start":
        if (self.deadline is None) == (self.slack_hours is None):
            raise ValueError("needs one of deadline and slack_hours, and no more; remove it to run at once")
        return self


TERMS_FILE = "terms.json"


class Terms(Part):
    """What was agreed on when a run was submitted; kept, so that going on with it does not move its deadline."""

    submitted_s: float
    """Unix seconds, as is the deadline."""
    deadline_s: float
