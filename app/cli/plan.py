"""`joulekeeper plan JOB.yaml`: when the job would run and what that saves, before it is submitted.

Knows nothing of Ray: the grid is asked here, and earlier runs are read from where they are kept.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.cli.instants import instant
from app.units import format_carbon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.policy.shifting import Plan
    from app.training.decisions import Inputs
    from app.training.job import TrainJob
    from app.training.planner import Look
    from app.training.queueing import Entry, QueueTurn

_UG_PER_G = 1_000_000
_UNSUBMITTED = "not-submitted"


def plan(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="A job file, see deployments/jobs/.")],
    slack_hours: Annotated[
        float | None, typer.Option(min=0, help="As `start.slack_hours` of the job file, instead of its deadline.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0, help="As `start.hours` of the job file.")] = 0.0,
    run: Annotated[str, typer.Option(metavar="RUN", help="A run that was stopped, to go on with.")] = "",
    queue: Annotated[bool, typer.Option("--queue", help="The jobs of the cluster that wait their turn, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """When a job would run: energy, carbon now and planned, finish time. Nothing is started."""
    from app.clock import SystemClock
    from app.config import settings
    from app.training.decisions import decision_of
    from app.training.live_grid import live_grid
    from app.training.planner import Planner
    from app.units import NS_PER_S

    clock = SystemClock()
    wanted = _job(job, slack_hours, hours)
    with live_grid(clock) as grid:
        now_s = clock.wall_ns() / NS_PER_S
        storage = wanted.storage or str(settings().state_dir / "jobs")
        look = Planner.open(wanted, storage, run or _UNSUBMITTED, grid, now_s, settings().pue).look(now_s)
    if as_json:
        terminal.show_json(decision_of("replan" if run else "wait", now_s, look.plan, look.inputs))
    else:
        terminal.show(*plan_grids(wanted.name, look), *((_queue_grid(now_s),) if queue else ()))


def plan_grids(name: str, look: "Look") -> tuple[Grid, ...]:
    """The plan, its hours and what else could be done, as tables."""
    plan, inputs = look.plan, look.inputs
    known = inputs.power_w is not None
    figures = (
        ("energy", _energy(plan.kwh, known=known), _energy(plan.now_kwh, known=known)),
        ("carbon", _grams(plan.expected_g, known=known), _grams(plan.now_g, known=known)),
        ("carbon, 80 % of cases", _range(plan, known=known), ""),
        ("finish", instant(plan.finish_s), instant(plan.now_finish_s)),
        ("restarts", str(plan.restarts), "0"),
    )
    saving = f"{plan.saving_share:.1%} less carbon than at once, expected"
    notes = (saving, f"deadline {instant(inputs.deadline_s)}", *plan.reasons)
    grids = [
        Grid(f"plan of {name}", columns("figure", ">planned", ">at once"), figures, notes=notes),
        Grid("hours", columns("from", "to", ">workers", ">gCO2e/kWh"), _pieces(plan, inputs)),
        Grid("known from", columns("what", "where"), _known(inputs), notes=inputs.known_from),
    ]
    if plan.alternatives:
        grids.insert(2, _alternatives(plan, known=known))
    return tuple(grids)


def _queue_grid(now_s: float) -> Grid:
    """The jobs in the queue of the running cluster. Raises Unavailable without one."""
    from app.cli.cluster import connect
    from app.training import board
    from app.training.live_queue import cluster_resources
    from app.training.queueing import parsed, turns_of

    connect()
    entries = parsed(board.queue(), now_s)
    return queue_grid(entries, turns_of(entries, *cluster_resources(), now_s))


def queue_grid(entries: "Sequence[Entry]", turns: "Mapping[str, QueueTurn]") -> Grid:
    """The queue in the order in which its jobs choose."""
    known = {entry.run: entry for entry in entries}
    rows = tuple(
        (
            run,
            "works" if known[run].holds else "may begin" if turn.may_begin else instant(turn.start_s),
            f"{known[run].amount:g} {known[run].resource}",
            instant(known[run].latest_s),
            turn.reason,
        )
        for run, turn in turns.items()
    )
    return Grid("queue", columns("run", "begins", ">takes", "must begin by", "why"), rows)


def _pieces(plan: "Plan", inputs: "Inputs") -> tuple[tuple[str, ...], ...]:
    return tuple(
        (instant(each.start_s), instant(each.end_s), str(each.workers), _mean(inputs, each.start_s, each.end_s))
        for each in plan.pieces
    )


def _alternatives(plan: "Plan", *, known: bool) -> Grid:
    rows = tuple(
        (each.name, _grams(each.expected_g, known=known), _energy(each.kwh, known=known), instant(each.finish_s))
        for each in plan.alternatives
    )
    return Grid("what else could be done", columns("what", ">carbon", ">energy", "finish"), rows)


def _known(inputs: "Inputs") -> tuple[tuple[str, str], ...]:
    error = "" if inputs.error is None else f", {inputs.error:.1%} off on the first day ahead"
    return (
        ("grid now", f"{inputs.g_per_kwh[0]:.0f} gCO2e/kWh, {inputs.source}"),
        ("forecast", f"{inputs.model}{error}; weakest figure: {inputs.grade}"),
        ("work left", f"{inputs.hours_left:.2f} h"),
    )


def _mean(inputs: "Inputs", start_s: float, end_s: float) -> str:
    """Of the slots that a piece touches; empty beyond those that are known."""
    first = int((start_s - inputs.outlook_s) / inputs.slot_s)
    last = max(first + 1, round((end_s - inputs.outlook_s) / inputs.slot_s))
    touched = inputs.g_per_kwh[first:last]
    return f"{sum(touched) / len(touched):.0f}" if touched else ""


def _energy(kwh: float, *, known: bool) -> str:
    return f"{kwh:.6g} kWh" if known else f"{kwh:.6g} kWh per kW"


def _grams(grams: float, *, known: bool) -> str:
    text = format_carbon(round(grams * _UG_PER_G))
    return text if known else f"{text} per kW"


def _range(plan: "Plan", *, known: bool) -> str:
    return f"{_grams(plan.low_g, known=known)} to {_grams(plan.high_g, known=known)}"


def _job(path: Path, slack_hours: float | None, hours: float) -> "TrainJob":
    """The job file, with what the command says instead of its part `start`."""
    from app.training.job import load_job
    from app.training.start import Start

    job = load_job(path)
    if slack_hours is None and not hours:
        return job
    given = job.start.model_dump(exclude_defaults=True) if job.start else {}
    if slack_hours is not None:
        given = {key: value for key, value in given.items() if key != "deadline"} | {"slack_hours": slack_hours}
    start = Start.model_validate(given | ({"hours": hours} if hours else {}))
    return job.model_copy(update={"start": start})
