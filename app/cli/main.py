"""The command `joulekeeper`: its commands, and how their errors end.

Exit status: 0 well, 1 a fault was found or met, 2 wrong usage. An error of ours is one line on stderr; with
JOULEKEEPER_DEBUG=1 its traceback comes first. Imports neither Ray nor torch: a command does when it runs.
"""

import platform
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app.cli import terminal
from app.cli.batch import batch
from app.cli.data import data
from app.cli.deploy import deploy
from app.cli.edge import certificate, edge
from app.cli.intensity import intensity
from app.cli.jobs import jobs
from app.cli.keys import keys
from app.cli.ledger import ledger, receipt, report
from app.cli.models import models
from app.cli.optimize import optimize
from app.cli.pause import pause
from app.cli.plan import plan
from app.cli.probe import probe
from app.cli.sci import sci
from app.cli.settings import settings
from app.cli.tune import tune
from app.cli.watch import watch
from app.cli.why import why
from app.errors import JoulekeeperError
from app.product import NAME, version_of


class _OneLineErrors(TyperGroup):
    """A group that ends with one line and status 1 when a command raises an error of ours."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except JoulekeeperError as error:
            terminal.report_error(error)
            raise typer.Exit(terminal.FAULT_FOUND) from error


cli = typer.Typer(
    name=NAME,
    cls=_OneLineErrors,
    help="Model-as-a-Service on Ray in which every joule is on the books.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def train(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="A job file, see deployments/jobs/.")],
    run: Annotated[str, typer.Option(metavar="RUN", help="A run that was stopped, to go on with.")] = "",
) -> None:
    """Run a job that trains or compresses a model here; also the entrypoint of `ray job submit`.

    A training job leaves a checkpoint on SIGINT and SIGTERM.
    """
    if _kind(job) == "compress":
        from app.compression.run import main as run_compression

        raise typer.Exit(run_compression(job))
    from app.energy import measure
    from app.training.run import main as run_job

    raise typer.Exit(run_job(job, measure, run))


def _kind(job: Path) -> str:
    """What a job file says that it is; nothing where it cannot be read, which whoever reads all of it tells."""
    import yaml

    try:
        told = yaml.safe_load(job.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return ""
    return str(told.get("kind", "")) if isinstance(told, dict) else ""


def version() -> None:
    """Versions of joulekeeper and of what it stands on."""
    typer.echo(f"{NAME} {version_of()}")
    typer.echo(f"python {platform.python_version()}, ray {version_of('ray')}, torch {version_of('torch')}")


_COMMANDS = (
    probe,
    settings,
    watch,
    intensity,
    report,
    receipt,
    train,
    plan,
    why,
    tune,
    optimize,
    pause,
    deploy,
    edge,
    certificate,
    version,
)
for _command in _COMMANDS:
    cli.command()(_command)
cli.add_typer(ledger, name="ledger")
cli.add_typer(models, name="models")
cli.add_typer(keys, name="keys")
cli.add_typer(jobs, name="jobs")
cli.add_typer(sci, name="sci")
cli.add_typer(data, name="data")
cli.add_typer(batch, name="batch")


def main() -> None:
    """Entry point of the command."""
    cli(prog_name=NAME)
