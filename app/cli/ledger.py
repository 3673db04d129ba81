"""The commands about the books: report, receipt, ledger audit, ledger close.

Rendering is in rendering.py; the way to the books in cluster.py.
"""

from enum import StrEnum
from typing import Annotated

import typer

from app.cli import cluster, terminal
from app.cli.job_rendering import job_grids
from app.cli.rendering import audit_grid, gaps_grid, receipt_grid, report_grid
from app.clock import SystemClock
from app.console.exports import parts_csv, report_csv
from app.console.period import local_now, parse_period
from app.engine.views import Closing
from app.errors import InvalidInput

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


class ReportBy(StrEnum):
    """What a report can be grouped by."""

    ACCOUNT = "account"
    MODEL = "model"
    TENANT = "tenant"
    JOB = "job"
    NODE = "node"


class ReportFormat(StrEnum):
    """How a report can be printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARTS = "parts"


def report(
    by: Annotated[ReportBy, typer.Option(help="What the rows stand for.")] = ReportBy.ACCOUNT,
    since: Annotated[
        str | None,
        typer.Option(help="Begin: an age (1h, 30m, 7d), a date, an ISO time, today. Else all there is."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="End, written like --since. Else now.")] = None,
    format: Annotated[
        ReportFormat, typer.Option(help="How to print it; parts: with --by job, a CSV row per worker and epoch.")
    ] = ReportFormat.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Energy and carbon of a period, by account, model, tenant, job or node."""
    try:
        since_s, until_s = parse_period(since, until, local_now(SystemClock()))
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint="--since/--until") from error
    if format is ReportFormat.PARTS and by is not ReportBy.JOB:
        raise typer.BadParameter(f"parts are those of jobs: use --by job, got --by {by.value}", param_hint="--format")
    answer = cluster.books().report(by.value, since_s, until_s)
    if as_json or format is ReportFormat.JSON:
        terminal.show_json(answer)
    elif format is ReportFormat.CSV:
        typer.echo(report_csv(answer), nl=False)
    elif format is ReportFormat.PARTS:
        typer.echo(parts_csv(answer), nl=False)
    else:
        terminal.show(report_grid(answer), *job_grids(answer))


def receipt(
    receipt_id: Annotated[str, typer.Argument(metavar="ID", help="As the response named it.")],
    wait: Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for it to settle.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """What one request, load or job phase used."""
    answer = cluster.books().receipt(receipt_id, settle_timeout_s=wait)
    if as_json:
        terminal.show_json(answer)
    else:
        terminal.show(receipt_grid(answer))


ledger = typer.Typer(help="Check the books, and close them before a stop.", no_args_is_help=True)


@ledger.command()
def audit(as_json: JsonOption = False) -> None:
    """Hold every device's counter against its postings; exit status 1 when anything does not add up."""
    answer = cluster.books().audit()
    if as_json:
        terminal.show_json(answer)
    else:
        terminal.show(audit_grid(answer), *([gaps_grid(answer)] if answer.gaps else []))
    for sentence in answer.faults:
        terminal.fault(f"fault: {sentence}")
    if not answer.ok:
        raise typer.Exit(terminal.FAULT_FOUND)


@ledger.command()
def close(as_json: JsonOption = False) -> None:
    """Before a planned stop: every meter takes a closing reading, delivers it and goes."""
    answer = Closing(meters=cluster.books().close_books())
    if as_json:
        terminal.show_json(answer)
    else:
        typer.echo(f"{answer.meters} meter(s) closed their books")


@ledger.command("open")
def reopen() -> None:
    """Take back `ledger close` on a cluster that goes on: meters start again."""
    cluster.books().open_books()
    typer.echo("the books are open")
