"""The command tune: which batch size and power limit train a job at least cost.

Knows nothing of how that is found.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict

from app.cli import terminal

if TYPE_CHECKING:
    from app.training.tuning import Tuning


class TuneView(BaseModel):
    """What was found, for scripts. Limits are null where they could not be set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int
    power_limit_w: float | None
    joules_per_sample: float
    seconds_per_sample: float
    saving: float
    """Share of the cost that is saved over the job as it is."""
    windows: int
    settings: int


def tune(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="A job file, see deployments/jobs/.")],
    batch_size: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="A batch size to try beside the job's own; again for more. Else a quarter to four times."
        ),
    ] = None,
    window_s: Annotated[
        float, typer.Option("--window-s", min=0.1, help="Seconds of steps that each setting gets.")
    ] = 5.0,
    eta: Annotated[float, typer.Option(min=0, max=1, help="1: energy alone; 0: time alone; between: both.")] = 1.0,
    epochs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE=EPOCHS", help="Epochs that the target takes with a batch size, for every size, as known."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Find the batch size and power limit that train a job at least cost, by windows of its training on this host."""
    from app.energy import measure
    from app.policy.power_search import SearchGoal
    from app.training.job import load_job
    from app.training.tune_job import advice, tune_job

    loaded = load_job(job)
    sizes = batch_size or [max(1, round(loaded.batch_size * factor)) for factor in (0.25, 0.5, 2, 4)]
    goal = SearchGoal(eta=eta, samples_to_target=_needed(epochs or []))
    with measure(f"{loaded.name}-tune", tenant=loaded.tenant):
        found = tune_job(loaded, sizes, goal, window_s=window_s, tell=lambda text: typer.echo(text, err=True))
    _keep(loaded.name, found)
    limited = len({window.setting.limit_mw for window in found.windows}) > 1
    if as_json:
        terminal.show_json(_view(found, limited))
    else:
        typer.echo("\n".join(advice(found, limited)))


def _view(found: "Tuning", limited: bool) -> TuneView:
    best = found.best
    return TuneView(
        batch_size=best.setting.batch_size,
        power_limit_w=best.setting.limit_mw / 1000 if limited else None,
        joules_per_sample=best.energy_uj_per_sample / 1e6,
        seconds_per_sample=best.seconds_per_sample,
        saving=found.saving,
        windows=len(found.windows),
        settings=found.settings,
    )


def _keep(job: str, found: "Tuning") -> None:
    """For `joulekeeper optimize`."""
    from app.clock import SystemClock
    from app.config import settings
    from app.training.token_cost import processor
    from app.training.tunings import keep_tuning, tuned_of
    from app.units import NS_PER_S

    keep_tuning(settings().state_dir, tuned_of(job, found, SystemClock().wall_ns() / NS_PER_S, processor()))


def _needed(given: list[str]) -> dict[int, float]:
    """`SIZE=EPOCHS` by size."""
    needed = {}
    for one in given:
        size, _, epochs = one.partition("=")
        try:
            needed[int(size)] = float(epochs)
        except ValueError:
            message = f"must be SIZE=EPOCHS such as 32=14, got {one!r}"
            raise typer.BadParameter(message, param_hint="--epochs") from None
    return needed
