"""The commands `joulekeeper sci request|job|model`: carbon per functional unit, with everything that it was made of.

Scores are made in app/engine/sci_scores.py; a request and a model in service are asked of the running cluster, jobs and
model cards are read from where they are kept.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import cluster, terminal
from app.cli.grid import Grid, columns
from app.errors import InvalidInput, NotFound
from app.units import format_carbon, format_energy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.carbon.embodied import Hardware
    from app.carbon.sci import Sci
    from app.engine.job_report import JobReport
    from app.engine.sci_scores import Making, ModelScores, Reservation
    from app.models.card import ModelCard

sci = typer.Typer(help="Carbon per request, epoch, inference or token (SCI, ISO/IEC 21031).", no_args_is_help=True)

HardwareOption = Annotated[
    str,
    typer.Option(
        metavar="PARTS", help="What was reserved is made of: gpu-server+8*h100, or kg. Else JOULEKEEPER_HARDWARE."
    ),
]
ShareOption = Annotated[float, typer.Option(min=0, max=1, help="Share of that hardware that was reserved.")]
LifetimeOption = Annotated[
    float | None, typer.Option(min=0.1, help="Years that it is in use. Else the table's lifetime:server.")
]
StorageOption = Annotated[
    str, typer.Option(help="Where the jobs keep their runs. Else `jobs` below the state directory.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


@sci.command("request")
def of_request(
    receipt_id: Annotated[str, typer.Argument(metavar="ID", help="As the response named it.")],
    tokens: Annotated[
        float | None, typer.Option(min=1, help="Tokens that it made: the score is then per 1k of them.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for it to settle.")] = 0.0,
    hardware: HardwareOption = "",
    share: ShareOption = 1.0,
    lifetime_years: LifetimeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One request, its share of loading and waiting included."""
    from app.engine.sci_scores import request_score

    receipt = cluster.books().receipt(receipt_id, settle_timeout_s=wait)
    score = request_score(receipt, _reservation(hardware, share, lifetime_years), tokens)
    _show(score, as_json=as_json)


@sci.command("job")
def of_job(
    run: Annotated[str, typer.Argument(metavar="RUN", help="As `joulekeeper jobs list` shows it.")],
    unit: Annotated[
        str, typer.Option(help="What the score is per: epoch, model, or a word of yours with --units.")
    ] = "epoch",
    units: Annotated[float | None, typer.Option(min=0, help="How many of them the run made.")] = None,
    servers: Annotated[int, typer.Option(min=1, help="How many of that hardware it held at once.")] = 1,
    storage: StorageOption = "",
    hardware: HardwareOption = "",
    share: ShareOption = 1.0,
    lifetime_years: LifetimeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One run of a job, priced again by the grid data of now."""
    from app.cli.job_pricing import priced_report
    from app.engine.sci_scores import job_score

    report = priced_report(storage, run)
    known = {"epoch": float(report.epochs), "model": 1.0}
    if units is None and unit not in known:
        raise typer.BadParameter(f"how many of {unit!r} did the run make?", param_hint="--units")
    reservation = _reservation(hardware, share, lifetime_years)
    _show(job_score(report, unit, known[unit] if units is None else units, reservation, servers), as_json=as_json)


@sci.command("model")
def of_model(
    model: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="As the repository names it.")],
    units: Annotated[float, typer.Option(min=0, help="How many of `--unit` were served in the period.")],
    unit: Annotated[str, typer.Option(help="What the score is per: request, inference, 1k tokens.")] = "request",
    since: Annotated[str | None, typer.Option(help="Begin of the period, as in `joulekeeper report`.")] = None,
    until: Annotated[str | None, typer.Option(help="Its end.")] = None,
    reserved_hours: Annotated[float, typer.Option(min=0, help="Hours that all its replicas held hardware.")] = 0.0,
    parameters: Annotated[
        float | None, typer.Option(min=1, help="Parameters of the model: the provider's score is then per 10^9.")
    ] = None,
    life_units: Annotated[
        float | None, typer.Option(min=1, help="Of `--unit` in its whole life: its making is spread over them.")
    ] = None,
    storage: StorageOption = "",
    hardware: HardwareOption = "",
    share: ShareOption = 1.0,
    lifetime_years: LifetimeOption = None,
    as_json: JsonOption = False,
) -> None:
    """A model in service (the consumer's score) and its making (the provider's), and both for one use."""
    from app.clock import SystemClock
    from app.console.period import local_now, parse_period
    from app.engine.sci_scores import consumer_score, model_scores, provider_score

    name, _, version = model.partition("@")
    reservation = _reservation(hardware, share, lifetime_years)
    try:
        since_s, until_s = parse_period(since, until, local_now(SystemClock()))
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint="--since/--until") from error
    books = cluster.books().report("model", since_s, until_s)
    consumer = consumer_score(books, name, version, unit, units, reservation, reserved_hours * 3600)
    makings = list(_makings(name, version, storage, reservation))
    per = ("model", 1.0) if parameters is None else ("10^9 parameters", parameters / 1e9)
    provider = provider_score(model, makings, *per) if makings else None
    scores = model_scores(consumer, provider, makings, life_units)
    if as_json:
        terminal.show_json(scores)
    else:
        terminal.show(*model_grids(scores))


def score_grid(score: "Sci") -> Grid:
    """Every term of the formula, in its order."""
    rows = (
        ("E, devices", format_energy(score.energy_uj)),
        ("PUE", f"{score.pue:g}"),
        ("I", f"{score.g_per_kwh:.6g} gCO2e/kWh"),
        ("E x PUE x I", format_carbon(score.operational_ugco2e)),
        ("M", format_carbon(score.embodied_ugco2e)),
        ("R", f"{score.units:g} {score.unit}"),
        ("SCI", f"{score.score_ugco2e:.6g} ugCO2e ({format_carbon(round(score.score_ugco2e))}) per {score.unit}"),
    )
    return Grid(f"SCI of {score.of}", columns("term", "value"), rows, notes=score.boundary)


def model_grids(scores: "ModelScores") -> "Sequence[Grid]":
    """The scores side by side; they have different units and are not added."""
    grids = [score_grid(scores.consumer)]
    if scores.provider is not None:
        grids.append(score_grid(scores.provider))
    if scores.amortised_ugco2e is not None:
        total = format_carbon(sum(each.carbon_ugco2e + each.embodied_ugco2e for each in scores.makings))
        text = f"{scores.amortised_ugco2e:.6g} ugCO2e ({format_carbon(round(scores.amortised_ugco2e))})"
        note = f"{total} of making, spread over {scores.life_units:g} of its life"
        rows = ((f"per {scores.consumer.unit}", text),)
        grids.append(Grid("with the making spread over its life", columns("unit", "value"), rows, notes=(note,)))
    return grids


def _show(score: "Sci", *, as_json: bool) -> None:
    if as_json:
        terminal.show_json(score)
    else:
        terminal.show(score_grid(score))


def _reservation(hardware: str, share: float, lifetime_years: float | None) -> "Reservation":
    from app.engine.sci_scores import Reservation

    return Reservation(known_hardware(hardware, lifetime_years), share)


def known_hardware(parts: str, lifetime_years: float | None) -> "Hardware | None":
    """Of the option, else of the settings; None where neither names any. Raises InvalidInput."""
    from app.carbon.coefficients import coefficients
    from app.carbon.embodied import hardware_of
    from app.config import settings

    parts = parts or settings().hardware
    return hardware_of(coefficients(settings().coefficients), parts, lifetime_years) if parts else None


def _makings(name: str, version: str, storage: str, reservation: "Reservation") -> "Iterator[Making]":
    """The runs behind a version and behind those that it was made from, the newest first; each once."""
    from app.config import settings
    from app.models.repository import open_repository

    repository, seen = open_repository(settings().repository), set()
    while name:
        try:
            card = repository.card(name, repository.resolve(name, version))
        except NotFound:
            return
        if card.job not in seen:
            seen.add(card.job)
            made = _making(card, storage, reservation)
            if made is not None:
                yield made
        base = card.compression.base if card.compression else ""
        name, _, version = base.partition("@")


def _making(card: "ModelCard", storage: str, reservation: "Reservation") -> "Making | None":
    """From the run's own report where it is kept, else from the card; None where neither knows anything."""
    from app.engine.sci_scores import Making

    report = _kept_report(storage, card.job)
    if report is not None and report.source != "none":
        return Making(
            run=report.run,
            energy_uj=report.energy_uj,
            carbon_ugco2e=report.carbon_ugco2e,
            embodied_ugco2e=reservation.embodied_ug(report.seconds),
            pue=report.pue,
            priced="now" if report.hours else "then",
        )
    if card.energy is None or card.energy.source == "none":
        return None
    return Making(
        run=card.job or f"{card.name}@{card.version}",
        energy_uj=card.energy.energy_uj,
        carbon_ugco2e=card.energy.carbon_ugco2e,
        embodied_ugco2e=0,
        pue=1.0,
        priced="then",
    )


def _kept_report(storage: str, run: str) -> "JobReport | None":
    from app.cli.job_pricing import priced_report

    try:
        return priced_report(storage, run) if run else None
    except (NotFound, InvalidInput):
        return None
