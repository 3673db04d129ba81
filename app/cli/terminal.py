"""Where output goes: rich on a terminal, plain text everywhere else; faults in one red line on stderr.

Knows nothing of what is shown.
"""

import os
import traceback

import typer
from pydantic import BaseModel
from rich.console import Console

from app.cli.grid import Grid, plain_text, rich_table

FAULT_FOUND = 1
"""Exit status when a command ran and found, or met, a fault. 0 is well, 2 is wrong usage."""


def is_rich() -> bool:
    """Whether stdout is a terminal that can show colours and boxes."""
    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


def show(*grids: Grid) -> None:
    """Print tables, an empty line between two."""
    if is_rich():
        console = Console()
        for grid in grids:
            console.print(rich_table(grid))
    else:
        typer.echo("\n\n".join(map(plain_text, grids)))


def show_json(view: BaseModel, indent: int | None = 2) -> None:
    """Print a view as JSON; `indent` None gives one line."""
    typer.echo(view.model_dump_json(indent=indent))


def fault(sentence: str) -> None:
    """One line on stderr, red where colours are shown."""
    typer.secho(sentence, fg=typer.colors.RED, err=True)


def report_error(error: BaseException) -> None:
    """What a known error says, on stderr; with JOULEKEEPER_DEBUG=1 where it came from, too."""
    if os.environ.get("JOULEKEEPER_DEBUG") == "1":
        typer.echo("".join(traceback.format_exception(error)), err=True)
    fault(f"error: {error}")
