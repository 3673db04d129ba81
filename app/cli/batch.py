"""`joulekeeper batch`: requests that may be answered later, at the hours with least carbon before a deadline.

Knows nothing of Ray: it speaks to the service as any of OpenAI's clients would.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.cli.instants import instant
from app.cli.service import DEFAULT_URL, CertificateOption, KeyFileOption, UrlOption, service
from app.errors import InvalidInput, NotFound
from app.units import format_carbon, format_energy

batch = typer.Typer(help="Requests with a deadline, answered at the hours with least carbon.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]
BatchArgument = Annotated[str, typer.Argument(metavar="BATCH", help="As `batch submit` named it.")]


@batch.command()
def submit(
    requests: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="One request a line, as OpenAI's batches.")],
    window: Annotated[str, typer.Option(help="By when all must be answered: 90m, 24h, 3d.")] = "24h",
    url: UrlOption = DEFAULT_URL,
    key_file: KeyFileOption = None,
    certificate: CertificateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a file of requests; what it prints first is the batch's id."""
    content = _read(requests)
    with service(url, key_file, certificate) as door:
        sent = door.post("/v1/files", {"purpose": "batch"}, files={"file": (requests.name, content)})
        wanted = {"input_file_id": sent["id"], "endpoint": _endpoint(content), "completion_window": window}
        made = door.post("/v1/batches", wanted)
    _show(made, as_json)


@batch.command()
def show(
    batch_id: BatchArgument,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyFileOption = None,
    certificate: CertificateOption = None,
    as_json: JsonOption = False,
) -> None:
    """How far a batch is, when it runs and why, and its carbon against at once."""
    with service(url, key_file, certificate) as door:
        _show(door.get(f"/v1/batches/{batch_id}"), as_json)


@batch.command("list")
def list_batches(
    url: UrlOption = DEFAULT_URL,
    key_file: KeyFileOption = None,
    certificate: CertificateOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest hundred batches."""
    with service(url, key_file, certificate) as door:
        found = door.get("/v1/batches", limit=100)["data"]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    rows = tuple(
        (each["id"], each["joulekeeper"]["state"], _progress(each), instant(each["created_at"]),
         instant(each["expires_at"]), _saved(each))
        for each in found
    )  # fmt: skip
    terminal.show(Grid("batches", columns("batch", "state", ">answered", "came", "deadline", ">saved"), rows))


@batch.command()
def results(
    batch_id: BatchArgument,
    errors: Annotated[bool, typer.Option("--errors", help="The requests that went badly instead.")] = False,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyFileOption = None,
    certificate: CertificateOption = None,
) -> None:
    """The answers of a batch that is over, one JSON object a line, on stdout."""
    with service(url, key_file, certificate) as door:
        found = door.get(f"/v1/batches/{batch_id}")
        file_id = found["error_file_id" if errors else "output_file_id"]
        if file_id is None:
            what = "errors" if errors else "answers"
            raise NotFound(
                f"{batch_id} has no {what}: it is {found['joulekeeper']['state']}, {_progress(found)} answered"
            )
        sys.stdout.buffer.write(door.content(f"/v1/files/{file_id}/content"))
        sys.stdout.buffer.flush()


@batch.command()
def cancel(
    batch_id: BatchArgument,
    url: UrlOption = DEFAULT_URL,
    key_file: KeyFileOption = None,
    certificate: CertificateOption = None,
) -> None:
    """Ask no more of a batch's requests; what was answered is kept."""
    with service(url, key_file, certificate) as door:
        door.post(f"/v1/batches/{batch_id}/cancel")
    typer.echo(f"{batch_id} is being cancelled")


def batch_grids(told: dict[str, Any]) -> tuple[Grid, ...]:
    """A batch as tables."""
    ours, counts = told["joulekeeper"], told["request_counts"]
    certainty = ", provisional" if ours["provisional"] else ""
    planned = ", ".join(f"{instant(start)} to {instant(end)}" for start, end in ours["planned"] or ())
    saving = ours["expected_saving"]
    figures = (
        ("state", ours["state"]),
        ("answered", f"{_progress(told)}, {counts['failed']} of them badly" if counts["failed"] else _progress(told)),
        ("came", instant(told["created_at"])),
        ("deadline", instant(told["expires_at"])),
        ("planned", planned),
        ("expected", "" if saving is None else f"{saving:.1%} less carbon than at once"),
        ("energy", f"{format_energy(ours['energy_uj'])} ({ours['grade'] or 'nothing metered'}{certainty})"),
        ("carbon", format_carbon(ours["carbon_ugco2e"])),
        ("carbon at once", format_carbon(ours["at_once_ugco2e"])),
        ("saved", _saved(told)),
    )
    notes = (*ours["reasons"], f"weakest figure of the grid: {ours['grid_grade']}")
    decisions = tuple((instant(each["at"]), each["action"], each["reasons"][0]) for each in ours["decisions"])
    return (
        Grid(told["id"], columns("figure", "value"), figures, notes=notes),
        Grid("decisions", columns("when", "what", "why"), decisions),
    )


def _show(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    if not terminal.is_rich():
        typer.echo(told["id"])
    terminal.show(*batch_grids(told))


def _progress(told: dict[str, Any]) -> str:
    counts = told["request_counts"]
    return f"{counts['completed'] + counts['failed']}/{counts['total']}"


def _saved(told: dict[str, Any]) -> str:
    ours = told["joulekeeper"]
    if not ours["at_once_ugco2e"]:
        return ""
    return f"{format_carbon(ours['saved_ugco2e'])} ({ours['saved_ugco2e'] / ours['at_once_ugco2e']:.1%})"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _endpoint(content: bytes) -> str:
    """What the first line calls; of inference calls those of any model."""
    first = next((line for line in content.splitlines() if line.strip()), b"")
    try:
        url = json.loads(first)["url"]
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidInput(
            f"line 1 is no request: {type(error).__name__}; a line is one JSON object with a url"
        ) from error
    return "/v2/models/{model}/infer" if str(url).startswith("/v2/") else str(url)
