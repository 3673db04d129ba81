"""Instants for people: UTC, to the second."""

from datetime import UTC, datetime


def instant(unix_s: float) -> str:
    """`2026-12-01 06:00:00 UTC`."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
