"""The commands of data: prepare, show.

Knows nothing of how data are prepared (app/data). `prepare` joins the cluster that RAY_ADDRESS names, or starts one.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.units import format_carbon, joules

if TYPE_CHECKING:
    from app.data.outcome import Outcome

data = typer.Typer(help="Prepare data that jobs learn from.", no_args_is_help=True)


@data.command("prepare")
def prepare_data(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="A spec file, see deployments/data/.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="All figures as JSON, too.")] = None,
) -> None:
    """Clean, check and de-duplicate data, and write them as Parquet: ratio, joules and seconds of every stage."""
    from app.data.spec import load_spec

    read = load_spec(spec)  # before Ray is imported, which takes seconds

    from app.data.prepare import prepare

    outcome = prepare(read, tell=typer.echo)
    terminal.show(stages_grid(outcome))
    if json_file is not None:
        json_file.write_text(json.dumps(outcome.plain(), indent=2) + "\n", encoding="utf-8")


@data.command("show")
def show_data(url: Annotated[str, typer.Argument(help="Where a data set was written.")]) -> None:
    """What the data set below a URL says of itself, as JSON."""
    from app.training.parquet_files import read_prepared

    terminal.show_json(read_prepared(url))


def stages_grid(outcome: "Outcome") -> Grid:
    """One row a stage, and what came of all."""
    energy = outcome.energy
    known = energy.source == "ledger"
    rows = tuple(
        (each.stage, str(each.rows), f"{each.seconds:.2f}", "" if each.energy_uj is None else _joules(each.energy_uj))
        for each in outcome.stages
    )
    total = ("total", str(outcome.rows), f"{sum(each.seconds for each in outcome.stages):.2f}")
    return Grid(
        f"{outcome.run}: {outcome.where}",
        columns("stage", ">records", ">task s", ">energy J"),
        rows,
        (*total, _joules(energy.energy_uj) if known else ""),
        (
            f"{outcome.read_rows} records read, {outcome.faulty} faulty, {outcome.exact} equal to an earlier one, "
            f"{outcome.near} similar to one: {outcome.rows} stay",
            f"{outcome.source_bytes} bytes of {outcome.source_files} files became {outcome.written_bytes} of "
            f"{outcome.written_files}: ratio {outcome.ratio:.1%}; packing alone {outcome.packed_ratio:.1%}",
            f"{outcome.seconds:.1f} s; {format_carbon(energy.carbon_ugco2e)}, grade {energy.grade}"
            if known
            else f"{outcome.seconds:.1f} s; energy unknown: no ledger was there",
        ),
    )


def _joules(energy_uj: int) -> str:
    return f"{joules(energy_uj):.3f}"
