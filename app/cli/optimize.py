"""`joulekeeper optimize MODEL|JOB.yaml`: the settings with the least carbon or energy, applied when asked, and undone.

What is asked is in optimize_wish.py; a model's settings are found and changed in optimize_live.py, a job's in
optimize_files.py; here is what a person sees of it.
"""

from pathlib import Path

import typer

from app.cli import terminal
from app.cli.advice_rendering import advice_grids
from app.cli.jobs import JsonOption, StorageOption
from app.cli.optimize_wish import (
    ApplyOption,
    FirstTokenOption,
    FloorOption,
    GapOption,
    GroupOption,
    HoursOption,
    LeastOption,
    MovedOption,
    OnlyOption,
    OptimizeView,
    P95Option,
    PerReplicaOption,
    RayClusterOption,
    SinceOption,
    SlackOption,
    SlowerOption,
    TargetArgument,
    UndoOption,
    Wish,
    ZoneOption,
    check_wish,
    chosen_of,
    floor_of,
)
from app.cli.serve_api import DEFAULT_ADDRESS, AddressOption

_FILES = (".yaml", ".yml")


def optimize(
    target: TargetArgument,
    least: LeastOption = "carbon",
    p95_ms: P95Option = None,
    gap_p90_ms: GapOption = None,
    first_token_p95_ms: FirstTokenOption = None,
    floor: FloorOption = "",
    since: SinceOption = "7d",
    slower: SlowerOption = 1.25,
    slack_hours: SlackOption = None,
    hours: HoursOption = 0.0,
    zone: ZoneOption = None,
    moved_gb: MovedOption = 0.0,
    only: OnlyOption = None,
    apply: ApplyOption = False,
    undo: UndoOption = False,
    raycluster: RayClusterOption = "",
    group: GroupOption = "",
    per_replica: PerReplicaOption = 1,
    storage: StorageOption = "",
    address: AddressOption = DEFAULT_ADDRESS,
    as_json: JsonOption = False,
) -> None:
    """Settings with the least carbon or energy: now, proposed, expected saving and how it is known."""
    wish = Wish(
        least, p95_ms, gap_p90_ms, first_token_p95_ms, floor_of(floor), since, slower, slack_hours, hours,
        tuple(zone or ()), moved_gb, tuple(only or ()), apply, raycluster, group, per_replica, storage, address,
    )  # fmt: skip
    is_job = target.endswith(_FILES)
    check_wish(wish, is_job=is_job, undo=undo)
    if undo:
        typer.echo(_undone(target, wish, is_job=is_job))
    else:
        _show(_optimized(target, wish, is_job=is_job), as_json=as_json)


def _optimized(target: str, wish: Wish, *, is_job: bool) -> OptimizeView:
    if is_job:
        from app.cli.optimize_files import optimize_job

        return optimize_job(Path(target), wish)
    from app.cli.optimize_live import optimize_model

    return optimize_model(target, wish)


def _undone(target: str, wish: Wish, *, is_job: bool) -> str:
    if is_job:
        from app.cli.optimize_files import undo_job

        return undo_job(Path(target))
    from app.cli.optimize_live import undo_model

    return undo_model(target, wish)


def _show(view: OptimizeView, *, as_json: bool) -> None:
    if as_json:
        terminal.show_json(view)
        return
    terminal.show(*advice_grids(view.subject, view.advice, view.expected, view.outcome))
    if view.difference:
        typer.echo(f"\n{view.difference}")
    if view.applied is not None:
        typer.echo(f"\napplied; `joulekeeper why {view.subject}` tells it, --undo takes it back")
    elif chosen_of(view.advice, ()):
        typer.echo("\nnothing is changed: --apply does what pays")
