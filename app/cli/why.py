"""`joulekeeper why NAME`: the decisions about a run or a deployment: what was known, what else could be done, what it
saved.

Knows nothing of Ray: those about a run are read from where it keeps its checkpoints, those about a deployment from the
state directory of the host that keeps the books (why_choices.py shows them).
"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.cli.instants import instant
from app.cli.jobs import JsonOption, StorageOption
from app.errors import NotFound
from app.units import format_carbon

if TYPE_CHECKING:
    from app.training.decisions import Decision

_UG_PER_G = 1_000_000
_WORDS = {
    "wait": "waits",
    "start": "starts",
    "pause": "pauses",
    "resume": "resumes",
    "replan": "plans anew",
    "ended": "has ended",
}


def why(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A run as `joulekeeper train` named it, or a deployment.")
    ],
    storage: StorageOption = "",
    as_json: JsonOption = False,
) -> None:
    """Why a run ran when it did, or who answered for a deployment, and how it is set: decisions and what came of it."""
    from app.cli.why_choices import choice_grids
    from app.config import settings
    from app.engine.decision_files import choices_in, directory_of
    from app.training.decisions import decisions_of
    from app.training.run_files import RunFiles

    where = storage or str(settings().state_dir / "jobs")
    decisions = decisions_of(RunFiles.open(where, name))
    choices = choices_in(directory_of(settings().state_dir, name))
    if not (decisions or choices):
        raise NotFound(
            f"run {name!r} below {where} has no decisions: it is not there, or its job file has no part `start` and it "
            f"ran at once; nor is anything decided about a deployment of that name in {settings().state_dir}; "
            "`joulekeeper jobs list` names the runs, `joulekeeper models list` the deployments"
        )
    if as_json:
        typer.echo(json.dumps([each.model_dump(mode="json") for each in (*decisions, *choices.values())], indent=2))
        return
    runs = why_grids(name, decisions) if decisions else ()
    terminal.show(*runs, *(choice_grids(name, choices) if choices else ()))


def why_grids(run: str, decisions: "list[Decision]") -> tuple[Grid, ...]:
    """What was decided when, then the reasons and alternatives of each."""
    rows = tuple(
        (
            str(number),
            instant(each.at_s),
            _WORDS[each.action],
            f"{each.inputs.hours_left:.3f} h",
            f"{each.inputs.g_per_kwh[0]:.0f}",
            each.inputs.grade,
            _grams(each, each.expected_g),
            _grams(each, each.now_g),
        )
        for number, each in enumerate(decisions, 1)
    )
    titles = columns("", "when", "the run", ">work left", ">gCO2e/kWh", "grade", ">expected", ">at once")
    overview = Grid(f"decisions about {run}", titles, rows, notes=_outcome(decisions))
    return (overview, *(_detail(number, each) for number, each in enumerate(decisions, 1) if each.action != "ended"))


def _detail(number: int, decision: "Decision") -> Grid:
    rows = tuple(
        (each.name, _grams(decision, each.expected_g), f"{each.kwh:.6g} kWh", instant(each.finish_s))
        for each in decision.options
    )
    pieces = ", ".join(
        f"{instant(each.start_s)} to {instant(each.end_s)} on {each.workers}" for each in decision.pieces
    )
    inputs = decision.inputs
    known = (
        f"forecast: {inputs.model}, {inputs.source}, weakest figure {inputs.grade}",
        f"restart: {inputs.restart_s:.1f} s, {inputs.restart_j:.1f} J; deadline {instant(inputs.deadline_s)}",
        *inputs.known_from,
    )
    late = ("the deadline could not be met",) if decision.late else ()
    notes = (f"planned: {pieces}" if pieces else "nothing left to plan", *decision.reasons, *late, *known)
    titles = columns("could be done", ">carbon", ">energy", "finish")
    return Grid(f"{number}. {_WORDS[decision.action]}", titles, rows, notes=notes)


def _outcome(decisions: "list[Decision]") -> tuple[str, ...]:
    first, last = decisions[0], decisions[-1]
    expected = f"expected at first: {_grams(first, first.now_g - first.expected_g)} less than at once"
    came = last.realised
    if came is None:
        return (expected, "what came of it is not known yet, or nobody metered it")
    share = came.saving_g / came.at_once_g if came.at_once_g else 0.0
    return (
        expected,
        f"came of it: {_ug(came.carbon_g)} instead of {_ug(came.at_once_g)} at once, {_ug(came.saving_g)} less "
        f"({share:.1%}); {came.kwh:.6g} kWh; over at {instant(came.finish_s)}; weakest figure {came.grade}",
    )


def _grams(decision: "Decision", grams: float) -> str:
    return _ug(grams) if decision.inputs.power_w is not None else f"{_ug(grams)} per kW"


def _ug(grams: float) -> str:
    return format_carbon(round(grams * _UG_PER_G))
