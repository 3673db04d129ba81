"""The command `keys`: API keys of this cluster, made, listed and revoked on the head.

Needs no cluster: it changes a file, which the accountant reads every second; see app/access/keys.py. A key is shown
once, when it is made.
"""

import getpass
import json
import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.access.audit_log import AuditLog, change_entry, time_text
from app.access.desk import AUDIT_FILE, KEYS_FILE
from app.access.keys import KeyFile, KeyRecord
from app.cli import terminal
from app.cli.grid import Grid, columns
from app.clock import SystemClock
from app.errors import InvalidInput
from app.units import NS_PER_S

keys = typer.Typer(
    help="API keys: create, list, revoke. Run on the head, whose file they are in.", no_args_is_help=True
)

_AGE = re.compile(r"(\d+)([hdw])")
_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}
_COLUMNS = columns("id", "tenant", "scopes", "created", "expires", "state", "note")

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]


@keys.command()
def create(
    tenant: Annotated[str, typer.Option(help="Who is charged, and whose receipts it reads.")],
    scope: Annotated[list[str], typer.Option(help="infer:MODEL, infer:*, read:report or admin; several times.")],
    expires: Annotated[
        str | None, typer.Option(help="A date or ISO time, or from now: 12h, 30d, 8w. Else never.")
    ] = None,
    note: Annotated[str, typer.Option(help="For people, such as where it is used.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it, once: only its hash is kept."""
    now_s = _now_s()
    record, key = _file().create(tenant, scope, now_s, _expiry(expires, now_s), note)
    _audit("created", record, now_s)
    if as_json:
        made = {"id": record.id, "key": key, "tenant": tenant, "scopes": sorted(record.scopes)}
        typer.echo(json.dumps(made | {"expires": _time(record.expires_s)}, indent=2))
        return
    typer.echo(key)
    typer.echo(f"key {record.id} of tenant {tenant}; keep it, it is not shown again", err=True)


@keys.command(name="list")
def list_keys(as_json: JsonOption = False) -> None:
    """All keys, without what opens."""
    now_s = _now_s()
    rows = [_row(record, now_s) for record in _file().records()]
    if as_json:
        names = [column.title for column in _COLUMNS]
        typer.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    else:
        terminal.show(Grid("Keys", _COLUMNS, tuple(rows)))


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")]) -> None:
    """Take a key back for ever; it works a few seconds longer."""
    now_s = _now_s()
    record = _file().revoke(key_id, now_s)
    _audit("revoked", record, now_s)
    typer.echo(f"key {record.id} of tenant {record.tenant} is revoked")


def _file() -> KeyFile:
    from app.config import settings

    return KeyFile(settings().access_directory / KEYS_FILE)


def _audit(what: str, record: KeyRecord, now_s: float) -> None:
    from app.config import settings

    entry = change_entry(what, record.id, record.tenant, record.scopes, f"user {getpass.getuser()}", now_s)
    AuditLog(settings().access_directory / AUDIT_FILE).write([entry], rotates=False)


def _row(record: KeyRecord, now_s: float) -> tuple[str, ...]:
    state = "revoked" if record.revoked_s is not None else "good" if record.is_good(now_s) else "expired"
    return (
        record.id,
        record.tenant,
        " ".join(sorted(record.scopes)),
        _time(record.created_s) or "",
        _time(record.expires_s) or "never",
        state,
        record.note,
    )


def _time(unix_s: float | None) -> str | None:
    return None if unix_s is None else time_text(unix_s)


def _expiry(text: str | None, now_s: float) -> float | None:
    """Unix seconds. Raises InvalidInput."""
    if text is None:
        return None
    age = _AGE.fullmatch(text)
    if age:
        return now_s + int(age[1]) * _SECONDS[age[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"--expires must be 12h, 30d, 8w, a date or an ISO time, got {text!r}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _now_s() -> float:
    return SystemClock().wall_ns() / NS_PER_S
