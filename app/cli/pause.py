"""`joulekeeper pause RUN`: a run leaves a checkpoint and ends; `train JOB.yaml --run RUN` goes on with it."""

from typing import Annotated

import typer

from app.cli.cluster import connect
from app.errors import NotFound


def pause(
    run: Annotated[str, typer.Argument(metavar="RUN", help="As `joulekeeper train` named it.")],
) -> None:
    """Have a run on this cluster leave a checkpoint and end; `joulekeeper train JOB.yaml --run RUN` goes on with it."""
    from app.training.board import ask_to_stop, is_running

    connect()
    if not is_running(run):
        raise NotFound(f"no run {run!r} trains on this cluster; `joulekeeper train` prints the name of its run")
    ask_to_stop(run, "paused")
    typer.echo(f"{run} is asked to leave a checkpoint and end")
