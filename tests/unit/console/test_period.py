"""Instants as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.clock import ManualClock
from app.console.period import local_now, parse_instant, parse_period
from app.errors import InvalidInput

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CET = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("1h", 3600), ("1.5 h", 5400), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_an_age_counts_back_from_now(text: str, seconds: int) -> None:
    assert parse_instant(text, NOON) == NOON.timestamp() - seconds


def test_a_date_is_midnight_in_the_zone_of_now() -> None:
    assert parse_instant("2026-11-22", NOON.astimezone(CET)) == datetime(2026, 11, 21, 23, tzinfo=UTC).timestamp()


def test_a_time_that_names_its_zone_keeps_it() -> None:
    assert parse_instant("2026-11-22T13:00:00+02:00", NOON) == datetime(2026, 11, 22, 11, tzinfo=UTC).timestamp()
    assert (
        parse_instant("2026-11-22T11:00Z", NOON.astimezone(CET)) == datetime(2026, 11, 22, 11, tzinfo=UTC).timestamp()
    )


def test_words_stand_for_days() -> None:
    assert parse_instant("now", NOON) == NOON.timestamp()
    assert parse_instant("today", NOON) == datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    assert parse_instant("yesterday", NOON) == datetime(2026, 11, 21, tzinfo=UTC).timestamp()


def test_unix_seconds_are_taken_and_a_date_without_dashes_does_not_pass_for_them() -> None:
    assert parse_instant("1790000000.5", NOON) == 1_790_000_000.5
    assert parse_instant("20261122", NOON) == datetime(2026, 11, 22, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", ["", "soon", "1y", "-1h", "2026-13-01", "h", "9999999d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_instant(text, NOON)


def test_a_period_may_be_open_at_both_ends() -> None:
    assert parse_period(None, None, NOON) == (None, None)
    assert parse_period("1h", None, NOON) == (NOON.timestamp() - 3600, None)
    assert parse_period("2h", "1h", NOON) == (NOON.timestamp() - 7200, NOON.timestamp() - 3600)


@pytest.mark.parametrize(("since", "until"), [("1h", "2h"), ("1h", "1h"), ("2026-11-23", None)])
def test_a_period_that_ends_before_it_begins_is_refused(since: str, until: str | None) -> None:
    with pytest.raises(InvalidInput, match="since must lie before until"):
        parse_period(since, until, NOON)


def test_now_comes_from_the_clock_and_has_a_zone() -> None:
    now = local_now(ManualClock(wall_ns=1_790_000_000_000_000_000))
    assert now.timestamp() == 1_790_000_000
    assert now.tzinfo is not None
