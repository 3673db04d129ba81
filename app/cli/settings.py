"""`settings`: the effective settings of this environment, or every fault in them.

Needs no cluster: what it shows is what processes started from here would use.
"""

from typing import Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns


def settings(as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False) -> None:
    """The settings that JOULEKEEPER_* variables make; exit status 1 names every one at fault."""
    from app.config import settings as effective

    config = effective()
    if as_json:
        terminal.show_json(config)
        return
    shown = config.model_dump(mode="json")
    rows = tuple((f"JOULEKEEPER_{name.upper()}", _text(value)) for name, value in shown.items())
    terminal.show(Grid("Settings", columns("variable", "value"), rows))


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
