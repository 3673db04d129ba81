"""The commands that read the model repository: models list, models show.

Knows nothing of what is deployed; the repository is a directory, no cluster is asked.
"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.units import format_carbon, format_energy

if TYPE_CHECKING:
    from app.models.card import ModelCard
    from app.models.repository import ModelRepository

models = typer.Typer(help="Look into the model repository.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


@models.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """Every model of the repository with its latest version."""
    repository = _repository()
    cards = [repository.card(name, repository.latest(name)) for name in repository.names()]
    if as_json:
        rows = [{**card.model_dump(mode="json"), "versions": repository.versions(card.name)} for card in cards]
        typer.echo(json.dumps(rows, indent=2))
    else:
        terminal.show(models_grid(str(repository.root), cards))


@models.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[str, typer.Option(help="Else the latest.")] = "",
    as_json: JsonOption = False,
) -> None:
    """The card of one version: metrics, data with origin and digest, energy, carbon, code version."""
    repository = _repository()
    card = repository.card(name, version or repository.latest(name))
    if as_json:
        terminal.show_json(card)
    else:
        from app.models.card import to_yaml

        typer.echo(to_yaml(card), nl=False)


def models_grid(root: str, cards: "list[ModelCard]") -> Grid:
    """One row a model: its latest version, what it reached and what it cost."""
    titles = ("model", ">version", "runner", "created", "metrics", ">energy", ">carbon", "grade")
    return Grid(f"Models in {root}", columns(*titles), tuple(map(_row, cards)))


def _row(card: "ModelCard") -> tuple[str, ...]:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in card.metrics.items())
    energy = card.energy
    cost = (
        (format_energy(energy.energy_uj), format_carbon(energy.carbon_ugco2e), energy.grade) if energy else ("", "", "")
    )
    return (card.name, card.version, card.runner, card.created, metrics, *cost)


def _repository() -> "ModelRepository":
    from app.config import settings
    from app.models.repository import ModelRepository

    return ModelRepository(settings().models_root)
