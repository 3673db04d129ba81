"""The commands of the model repository: list, show, verify, import, quantize, compress, delete, keygen.

Knows nothing of what is deployed; the repository is a directory or an object store, and no cluster is asked, but by
`quantize` and `compress`, which meter what they made.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.models.precision import Precision
from app.units import format_carbon, format_energy

if TYPE_CHECKING:
    from app.models.card import ModelCard
    from app.models.repository import ModelRepository

models = typer.Typer(help="Look after the model repository.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the model.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


@models.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """Every model of the repository with its latest version, and the variants of all versions."""
    repository = _repository()
    cards = [repository.card(name, repository.latest(name)) for name in repository.names()]
    if as_json:
        rows = [
            {
                **card.model_dump(mode="json"),
                "versions": repository.versions(card.name),
                "variants": repository.variants(card.name),
            }
            for card in cards
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        shown = [
            each
            for card in cards
            for each in (card, *(repository.card(card.name, variant) for variant in repository.variants(card.name)))
        ]
        terminal.show(models_grid(repository.where, shown))


@models.command("show")
def show_model(
    name: NameArgument,
    version: Annotated[str, typer.Option(help="Else the latest.")] = "",
    as_json: JsonOption = False,
) -> None:
    """The card of one version: metrics, data with origin and digest, energy, carbon, code version."""
    repository = _repository()
    card = repository.card(name, repository.resolve(name, version))
    if as_json:
        terminal.show_json(card)
    else:
        from app.models.card import to_yaml

        typer.echo(to_yaml(card), nl=False)


@models.command("verify")
def verify_models(
    name: Annotated[str, typer.Argument(help="Else every model.")] = "",
    version: Annotated[str, typer.Option(help="Else every version.")] = "",
) -> None:
    """Read every file again and compare it with the digest in its card; stops at the first that was altered."""
    repository = _repository()
    for each in [name] if name else repository.names():
        for number in [version] if version else repository.versions(each) + repository.variants(each):
            with repository.open(each, number) as (card, _):
                typer.echo(f"{each}@{number}: {len(card.files)} files as published")


@models.command("import")
def import_version(
    name: NameArgument,
    source: Annotated[str, typer.Argument(help="A file or directory, or hf:ORG/NAME@REVISION.")],
    card: Annotated[Path | None, typer.Option(help="Card for what cannot be recognised, as YAML.")] = None,
    code: Annotated[str, typer.Option(help="package.module:Class that runs it, for runner python.")] = "",
    trust_pickle: Annotated[
        list[str] | None, typer.Option(help="sha256:DIGEST of a pickle to accept; can be given again.")
    ] = None,
) -> None:
    """Copy a model into the repository as a new version, with the sha256 of every file in its card."""
    from app.models.importing import ImportRequest, import_model

    request = ImportRequest(name, source, card, code, frozenset(trust_pickle or ()))
    typer.echo(f"{name}@{import_model(_repository(), request)}")


@models.command("quantize")
def quantize_version(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A language model; else its latest version.")],
    to: Annotated[Precision, typer.Option(help="What its weights become.")],
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Meter what a token costs; joins or starts a cluster.")
    ] = True,
) -> None:
    """Publish a language model with smaller weights as a variant, `2-int8`: held-out loss and joules per token told."""
    from app.clock import SystemClock
    from app.energy import measure
    from app.training.cluster import join_cluster, open_books
    from app.training.variants import publish_variant

    repository = _repository()
    name, _, version = name.partition("@")
    version = repository.resolve(name, version)
    if measured:
        join_cluster()
        open_books(typer.echo)
    published = publish_variant(
        repository,
        name,
        version,
        to,
        measure=measure if measured else None,
        clock=SystemClock(),
        tell=typer.echo,
    )
    typer.echo(f"published {name}@{published}")


@models.command("compress")
def compress_version(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Of the repository; else its latest version.")],
    method: Annotated[
        list[str] | None, typer.Option(help="A step, see docs/training/compression.md; can be given again, in turn.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE of the steps that have it: rate=0.5, epochs=8; can be given again."),
    ] = None,
    search: Annotated[bool, typer.Option("--search", help="Try many chains; publish the best compromises.")] = False,
    min_accuracy: Annotated[
        float | None, typer.Option(help="With --search, what a result must reach; else below it nothing is published.")
    ] = None,
    variant: Annotated[str, typer.Option("--as", help="Name of the result, NAME@VARIANT; else the methods'.")] = "",
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure latency and energy beside the original.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Make a smaller version on the cluster by pruning, integers, distillation, early exits; measured beside it."""
    from app.compression.from_words import job_of
    from app.compression.run import report, run_job

    job = job_of(
        name,
        method or [],
        option or [],
        search=search,
        min_accuracy=min_accuracy,
        variant=variant,
        measure=measured,
        seed=seed,
    )
    raise typer.Exit(report(run_job(job)))


@models.command("delete")
def delete_version(
    name: NameArgument,
    version: Annotated[str, typer.Option(help="Which version; there is no default.")],
) -> None:
    """Take one version away for good; replicas that have loaded it serve on."""
    _repository().delete(name, version)
    typer.echo(f"{name}@{version} deleted")


@models.command("keygen")
def generate_key(path: Annotated[Path, typer.Argument(help="File for the secret key; must not exist.")]) -> None:
    """Make a key pair for encryption at rest: the secret key into a file, the public one shown."""
    from app.errors import InvalidInput
    from app.models.vault import new_identity

    identity, recipient = new_identity()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be made: {error.strerror}; keys are never overwritten") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"# public key: {recipient}\n{identity}\n")
    typer.echo(recipient)


def models_grid(where: str, cards: "list[ModelCard]") -> Grid:
    """One row a version: what it reached and what it cost."""
    titles = ("model", ">version", "runner", "created", "metrics", ">energy", ">carbon", "grade")
    return Grid(f"Models in {where}", columns(*titles), tuple(map(_row, cards)))


def _row(card: "ModelCard") -> tuple[str, ...]:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in card.metrics.items())
    energy = card.energy
    cost = (
        (format_energy(energy.energy_uj), format_carbon(energy.carbon_ugco2e), energy.grade) if energy else ("", "", "")
    )
    return (card.name, card.version, card.runner, card.created, metrics, *cost)


def _repository() -> "ModelRepository":
    from app.config import settings
    from app.models.repository import open_repository

    return open_repository(settings().repository)
