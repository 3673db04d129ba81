"""Decisions about a run, one record each: what was known, what else could have been done, what it shall save and did.

Knows nothing of how a decision is made (schedule.py). Records lie in `decisions/` beside the checkpoints, numbered, and
are never altered: what came of them is the last one, `ended`.

    keep_decision(files, decision)
    decisions_of(files)                               # all of them, oldest first; what `joulekeeper why RUN` shows
"""

from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from app.domain.decision import Decision as AnyDecision
from app.domain.decision import Part
from app.training.run_files import RunFiles

if TYPE_CHECKING:
    from app.engine.outlook import View
    from app.policy.shifting import Plan

_DIRECTORY = "decisions"
_SHOWN_SLOTS = 240

Action = Literal["wait", "start", "pause", "resume", "replan", "ended"]


class PlannedPiece(Part):
    """From when to when the run shall have so many workers. Unix seconds."""

    start_s: float
    end_s: float
    workers: int


class Option(Part):
    """One thing that could be done, with what it was expected to come to."""

    name: str
    expected_g: float
    kwh: float
    finish_s: float


class Inputs(Part):
    """What was known. Times are unix seconds."""

    deadline_s: float
    hours_left: float
    """Of work, with the largest number of workers."""
    workers: int
    """That run now; 0: none."""
    power_w: float | None
    """With the largest number of workers; None: not known, and all grams are those of a job of 1 kW."""
    restart_s: float
    restart_j: float
    known_from: tuple[str, ...]
    """Where these come from, a sentence each."""
    source: str
    grade: str
    model: str
    error: float | None
    revision: int
    slot_s: float
    g_per_kwh: tuple[float, ...]
    """Expected, slot by slot from `outlook_s` on; the first day and more."""
    outlook_s: float


class Realised(Part):
    """What came of it, once the run has ended."""

    carbon_g: float
    at_once_g: float
    """Of the same work without a wait or a restart from its submission on, on the grid as it turned out to be."""
    kwh: float
    finish_s: float
    grade: str

    @property
    def saving_g(self) -> float:
        return self.at_once_g - self.carbon_g


class Decision(AnyDecision):
    """One decision about a run. Figures in gCO2e and kWh are of what was left to do."""

    action: Action
    inputs: Inputs
    pieces: tuple[PlannedPiece, ...] = ()
    options: tuple[Option, ...] = ()
    expected_g: float = 0.0
    low_g: float = 0.0
    high_g: float = 0.0
    now_g: float = 0.0
    """Had it run at once, without a pause."""
    kwh: float = 0.0
    finish_s: float = 0.0
    late: bool = False
    realised: Realised | None = None


def decision_of(action: Action, at_s: float, plan: "Plan", inputs: Inputs) -> Decision:
    """The record of `plan`, which `action` follows from."""
    return Decision(
        at_s=at_s,
        action=action,
        reasons=plan.reasons,
        inputs=inputs,
        pieces=tuple(
            PlannedPiece(start_s=each.start_s, end_s=each.end_s, workers=each.workers) for each in plan.pieces
        ),
        options=tuple(
            Option(name=each.name, expected_g=each.expected_g, kwh=each.kwh, finish_s=each.finish_s)
            for each in plan.alternatives
        ),
        expected_g=plan.expected_g,
        low_g=plan.low_g,
        high_g=plan.high_g,
        now_g=plan.now_g,
        kwh=plan.kwh,
        finish_s=plan.finish_s,
        late=plan.late,
    )


def known_of(view: "View") -> dict[str, object]:
    """The fields of `Inputs` that are about the grid."""
    return {
        "source": view.source,
        "grade": view.grade,
        "model": view.model,
        "error": view.error,
        "revision": view.revision,
        "slot_s": view.outlook.slot_s,
        "g_per_kwh": tuple(round(value, 3) for value in view.outlook.mean[:_SHOWN_SLOTS]),
        "outlook_s": view.outlook.start_s,
    }


def keep_decision(files: RunFiles, decision: Decision) -> None:
    """Leave one more record."""
    number = max(files.texts(_DIRECTORY), default=0) + 1
    files.write(f"{_DIRECTORY}/{number:04d}", decision.model_dump_json(indent=1))


def decisions_of(files: RunFiles) -> list[Decision]:
    """Every record that is whole, oldest first."""
    found = []
    for _, content in sorted(files.texts(_DIRECTORY).items()):
        try:
            found.append(Decision.model_validate_json(content))
        except ValidationError:
            continue
    return found
