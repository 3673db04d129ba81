"""docs/reference/cli.md, written from the commands themselves; a test holds the file against them.

python -m app.cli.reference > docs/reference/cli.md
"""

import sys
from collections.abc import Iterator
from typing import Any

import typer
import typer.main

from app.cli.main import cli
from app.product import NAME

_HEAD = f"""# The command `{NAME}`

<!-- Written by `python -m app.cli.reference`; do not edit. -->

`python -m app` is the same command. Exit status: 0 well, 1 a fault was found or met, 2 wrong usage. Output is
rich on a terminal and plain text elsewhere. `JOULEKEEPER_DEBUG=1` shows the traceback of an error; the cluster
is the one of `RAY_ADDRESS`, else the one of this machine.
"""


def reference() -> str:
    """The page as Markdown."""
    sections = (_section(path, command) for path, command in _commands(NAME, typer.main.get_command(cli)))
    return "\n".join([_HEAD, *sections])


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, each in command.commands.items():
        yield from _commands(f"{path} {name}", each)


def _section(path: str, command: Any) -> str:
    context = typer.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    records = (parameter.get_help_record(context) for parameter in command.params if parameter.name != "help")
    items = [f"- `{names}`: {told}" for names, told in filter(None, records)]
    return "\n".join([f"## `{path}`", "", command.help or "", "", f"    {usage}", "", *items, ""])


if __name__ == "__main__":
    sys.stdout.write(reference())
