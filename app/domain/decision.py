"""Decisions as records: what was known, what else could have been done, what it shall save, and later what it saved.

Knows nothing of who decides, nor of where records are kept (app/engine/decision_files.py). A record is never altered:
what came of it is another one, whose `about` is its number.

    choice = Choice(
        at_s=now_s, action="answer with int8", reasons=("the day's budget is short",),
        subject="digits", topic="variant",
        facts=(Fact(name="left", value=1.2, unit="gCO2e", basis="measured", source="the books"),),
        courses=(Course(name="fp32", carbon_g=4.0), Course(name="int8", carbon_g=1.1)), chosen="int8",
        expected=Saving(carbon_g=2.9, basis="modelled", against="fp32 for the rest of the day"),
    )
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

Basis = Literal["measured", "modelled", "forecast", "set", "not known"]
"""Where a figure comes from. `set`: somebody wrote it down, in a config or a command."""


class Part(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Decision(Part):
    """What every record says."""

    at_s: float
    """Unix seconds."""
    action: str
    """What was done, in the words of the topic."""
    reasons: tuple[str, ...]
    """A sentence each."""


class Fact(Part):
    """Something that was known when it was decided."""

    name: str
    value: float | str | None
    """None: not known."""
    unit: str = ""
    basis: Basis = "measured"
    source: str = ""
    """Where it is from, for people: a command, a file, a provider."""


class Course(Part):
    """One thing that could be done, with what it was expected to come to; None: not known."""

    name: str
    carbon_g: float | None = None
    energy_j: float | None = None
    quality: float | None = None
    """Of answers, where the course changes it."""
    finish_s: float | None = None
    """Unix seconds."""
    basis: Basis = "modelled"
    note: str = ""


class Saving(Part):
    """Less of something than `against`; less than 0: more. None: not known."""

    carbon_g: float | None = None
    energy_j: float | None = None
    share: float | None = None
    """Of what `against` would have taken."""
    basis: Basis = "modelled"
    against: str = ""
    note: str = ""
    """Where it is not known: what to run to know it."""


class Choice(Decision):
    """One decision about a deployment, a job's settings, a batch, a place."""

    subject: str
    """The deployment, job or batch."""
    topic: str
    """What it is about: `variant`, `replicas`, `setting`, `batch`, `place`."""
    facts: tuple[Fact, ...] = ()
    courses: tuple[Course, ...] = ()
    chosen: str = ""
    """The name of a course."""
    expected: Saving | None = None
    before: dict[str, JsonValue] = {}
    """What was set before, where settings changed: enough to undo it."""
    after: dict[str, JsonValue] = {}
    details: dict[str, JsonValue] = {}
    """Whatever else the topic has to say."""
    about: int | None = None
    """Number of the record whose outcome this is."""
    realised: Saving | None = None
