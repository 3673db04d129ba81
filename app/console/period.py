"""Instants as people write them: `1h` ago, a date, a time, Unix seconds.

Knows nothing of reports and reads no clock: now comes in, with its time zone, as an argument.

    >>> from datetime import UTC, datetime
    >>> parse_instant("90m", datetime.fromtimestamp(10_000, UTC))
    4600.0
"""

import re
from datetime import datetime, timedelta

from app.clock import Clock
from app.errors import InvalidInput
from app.units import NS_PER_S

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIX_SECONDS = re.compile(r"\d{9,11}(?:\.\d+)?")
"""Nine digits and more (from March 1973): an eight digit date such as 20261122 must not pass for seconds."""
_MAX_AGO_S = 100 * 365 * 86_400


def local_now(clock: Clock) -> datetime:
    """Now by `clock`, in the time zone of this host."""
    return datetime.fromtimestamp(clock.wall_ns() / NS_PER_S).astimezone()


def parse_instant(text: str, now: datetime) -> float:
    """Unix seconds of `text`: an age (`45s`, `90m`, `1h`, `7d`, `2w`), a date or time in ISO 8601, `now`, `today`,
    `yesterday`, or Unix seconds. What names no zone is in the zone of `now`. Raises InvalidInput.
    """
    text = text.strip()
    if text in ("now", "today", "yesterday"):
        return _named(text, now).timestamp()
    if age := _AGO.fullmatch(text):
        return now.timestamp() - _age_s(text, float(age[1]) * _UNITS_S[age[2]])
    if _UNIX_SECONDS.fullmatch(text):
        return float(text)
    return _iso(text, now).timestamp()


def parse_period(since: str | None, until: str | None, now: datetime) -> tuple[float | None, float | None]:
    """Both ends of a period in Unix seconds; None where it is open.

    Raises InvalidInput, also when the period would end before it begins.
    """
    since_s = parse_instant(since, now) if since else None
    until_s = parse_instant(until, now) if until else None
    end_s = now.timestamp() if until_s is None else until_s
    if since_s is not None and since_s >= end_s:
        raise InvalidInput(f"since must lie before until, got since {since!r} and until {until or 'now'!r}")
    return since_s, until_s


def _named(text: str, now: datetime) -> datetime:
    if text == "now":
        return now
    midnight = datetime(now.year, now.month, now.day, tzinfo=now.tzinfo)
    return midnight if text == "today" else midnight - timedelta(days=1)


def _age_s(text: str, age_s: float) -> float:
    if age_s > _MAX_AGO_S:
        raise InvalidInput(f"an age must be at most 100 years, got {text!r}")
    return age_s


def _iso(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no instant: give an age (1h, 30m, 7d), a date (2026-11-22), a time "
            "(2026-11-22T10:00), now, today, yesterday, or Unix seconds"
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
