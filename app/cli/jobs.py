"""The commands about jobs that ran: list, report.

Knows nothing of Ray: runs are read from where they keep their checkpoints, and no cluster is asked.
"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.cli.rendering import beside_notes, cost_cells
from app.cli.sci import HardwareOption, LifetimeOption, ShareOption, known_hardware
from app.units import format_carbon, format_energy, joules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.engine.job_report import CurveRow, JobReport

jobs = typer.Typer(help="Look at jobs that ran: what each used, reached and cost.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]
StorageOption = Annotated[
    str,
    typer.Option(
        help="Where the jobs keep their runs, as `storage` of the job file. Else `jobs` below the state directory."
    ),
]
_CURVE_LINES = 20


@jobs.command("list")
def list_jobs(storage: StorageOption = "", as_json: JsonOption = False) -> None:
    """Every run that was submitted, and how many of them finished."""
    from app.training.reports import runs

    where = _storage(storage)
    found = runs(where)
    if as_json:
        rows = [
            {"run": run, "report": report.model_dump(mode="json") if report else None} for run, report in found.items()
        ]
        typer.echo(json.dumps({"runs": rows, "scheduling_efficiency": _efficiency(found)}, indent=2))
    else:
        terminal.show(runs_grid(where, found))


@jobs.command("report")
def show_job(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="As `joulekeeper train` named it and `jobs list` shows it.")
    ],
    storage: StorageOption = "",
    as_json: JsonOption = False,
    hardware: HardwareOption = "",
    share: ShareOption = 1.0,
    lifetime_years: LifetimeOption = None,
) -> None:
    """One run: utilisation, scheduling efficiency, energy utilisation, SCI, workers, curve of energy to accuracy.

    Its carbon is priced again, hour by hour, by the grid data that are here now.
    """
    from app.cli.job_pricing import priced_report
    from app.engine.job_prices import with_embodied

    report = priced_report(storage, run)
    if made := known_hardware(hardware, lifetime_years):
        report = with_embodied(report, made.share_ug(report.seconds, share))
    if as_json:
        terminal.show_json(report)
    else:
        terminal.show(*report_grids(report))


def runs_grid(where: str, found: "Mapping[str, JobReport | None]") -> Grid:
    """One row a run."""
    rows = tuple(
        (run, "finished" if report.finished else "failed", str(report.epochs), *_figures(report))
        if report
        else (run, "no report", "", "", "", "")
        for run, report in found.items()
    )
    finished = sum(report is not None and report.finished for report in found.values())
    note = f"scheduling efficiency: {finished} finished / {len(found)} submitted = {_efficiency(found):.1%}"
    titles = columns("run", "state", ">epochs", ">seconds", ">energy", ">carbon")
    return Grid(f"runs below {where}", titles, rows, notes=(note,) if found else ())


def report_grids(report: "JobReport") -> "Sequence[Grid]":
    """The report as tables."""
    sci = "SCI" if report.embodied_ugco2e else "SCI, operational alone"
    figures = (
        ("state", "finished" if report.finished else "failed"),
        ("energy", f"{format_energy(report.energy_uj)} ({report.grade}, {report.source})"),
        ("of it for work that was lost, setting up again", _lost(report)),
        ("carbon", format_carbon(report.carbon_ugco2e)),
        ("time", f"{report.seconds:.1f} s, {report.attempts} attempt{'s' if report.attempts > 1 else ''}"),
        *((name, f"{value:.4f}") for name, value in report.metrics.items()),
        ("utilisation = used / total", _percent(report.utilisation)),
        ("scheduling efficiency = finished / submitted", _percent(report.scheduling_efficiency)),
        ("energy utilisation = work / total", _percent(report.energy_utilisation)),
        ("compression ratio = (before - after) / before", _percent(report.compression_ratio)),
        (f"{sci} per epoch", _carbon(report.sci_per_epoch_ugco2e)),
        (f"{sci} per model", _carbon(report.sci_per_model_ugco2e)),
    )
    grids = [Grid(report.run, columns("figure", "value"), figures, notes=_price_notes(report))]
    if len(report.workers) > 1:
        grids.append(_workers_grid(report))
    return [*grids, _curve_grid(report)] if report.curve else grids


def _price_notes(report: "JobReport") -> tuple[str, ...]:
    """The terms of its price; empty of a report whose hours are not known."""
    basis = report.basis
    if basis is None:
        return ()
    cost = () if report.cost_micros is None else (f"cost: {cost_cells(report.cost_micros)[0]} {report.currency}",)
    terms = f"zone {report.zone}: {basis.intensity_g_per_kwh:g} gCO2e/kWh ({basis.source}), PUE {report.pue:g}"
    return (terms, *cost, *beside_notes(report), *basis.notes)


def _workers_grid(report: "JobReport") -> Grid:
    rows = tuple(
        (
            str(worker.worker),
            f"{joules(worker.energy_uj):.3f}",
            f"{worker.step_s:.1f}",
            f"{worker.waiting_s:.1f}",
            f"{joules(worker.waiting_uj):.3f}",
        )
        for worker in report.workers
    )
    titles = columns("worker", ">energy J", ">in steps s", ">waiting s", ">waiting J")
    return Grid("by worker, waiting for slower ones", titles, rows, notes=("of the epochs that count, provisional",))


def _curve_grid(report: "JobReport") -> Grid:
    names = list(report.curve[-1].metrics)
    lines = [_curve_line(row, names) for row in report.curve]
    if len(lines) > _CURVE_LINES:
        half = _CURVE_LINES // 2
        lines[half:-half] = [("...", *[""] * (len(lines[0]) - 1))]
    titles = columns("epoch", "attempt", ">spent J", ">this epoch J", *(f">{name}" for name in names))
    return Grid("energy to accuracy", titles, tuple(lines))


def _curve_line(row: "CurveRow", names: "Sequence[str]") -> tuple[str, ...]:
    values = (f"{row.metrics[name]:.4f}" if name in row.metrics else "" for name in names)
    return (str(row.epoch), str(row.attempt), f"{joules(row.spent_uj):.3f}", f"{joules(row.energy_uj):.3f}", *values)


def _efficiency(found: "Mapping[str, JobReport | None]") -> float:
    from app.engine.job_report import scheduling_efficiency

    return scheduling_efficiency(sum(report is not None and report.finished for report in found.values()), len(found))


def _figures(report: "JobReport") -> tuple[str, str, str]:
    return f"{report.seconds:.1f}", format_energy(report.energy_uj), format_carbon(report.carbon_ugco2e)


def _lost(report: "JobReport") -> str:
    return f"{format_energy(report.lost_uj)}, {format_energy(report.restart_uj)}" if report.attempts > 1 else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _carbon(value: float | None) -> str:
    return "" if value is None else format_carbon(round(value))


def _storage(given: str) -> str:
    from app.config import settings

    return given or str(settings().state_dir / "jobs")
