"""What every provider of intensity does, and what it answers with.

    answer = provider.recent(now_ns)          # the routine look: what is new, and the hours before it again
    answer = provider.history(start_ns, end_ns)
    answer = provider.forecast(now_ns)        # only where offers_forecast

All three raise, whatever the vendor called it:
- Unauthenticated, Forbidden   the key is wrong, or does not cover this: asking again soon is of no use
- InvalidInput, NotFound       the zone or the period is wrong for this provider
- Busy                         the quota is spent, ours or theirs: says when to come again
- Unavailable                  out of reach, or an answer that nobody can read: come again
An answer without data is no error: `slots` is empty, and `notes` say what the provider said.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Protocol

from app.carbon.intensity import Slot
from app.errors import Unavailable
from app.units import NS_PER_S

HOUR_NS = 3_600 * NS_PER_S
DAY_NS = 24 * HOUR_NS
RECENT_NS = 26 * HOUR_NS
"""How far back the routine look goes: the day that providers still revise most, and two hours of delay."""


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests in any window of so many seconds."""

    requests: int
    window_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Slots by time, and sentences of the provider that a person should see."""

    slots: tuple[Slot, ...] = ()
    notes: tuple[str, ...] = ()


class Provider(Protocol):
    """One provider for one of its zones. Times are nanoseconds since the Unix epoch. Not thread-safe."""

    @property
    def offers_forecast(self) -> bool:
        """Whether it forecasts at all."""

    def recent(self, now_ns: int) -> Answer:
        """The last day or so, as far as it is known."""

    def history(self, start_ns: int, end_ns: int) -> Answer:
        """What was, of every slot that begins in the period; as many requests as that takes."""

    def forecast(self, now_ns: int) -> Answer:
        """What it expects from now on."""

    def close(self) -> None:
        """Let go of connections."""


def periods(start_ns: int, end_ns: int, longest_ns: int) -> list[tuple[int, int]]:
    """The period in pieces of at most `longest_ns`, the oldest first."""
    return [(at, min(at + longest_ns, end_ns)) for at in range(start_ns, end_ns, longest_ns)]


def spacing_ns(starts: Iterable[int], otherwise_ns: int) -> int:
    """The width of slots that tell no end: the smallest spacing, since holes only widen it; else `otherwise_ns`."""
    at = sorted(set(starts))
    return min((other - one for one, other in pairwise(at)), default=otherwise_ns)


def instant_ns(text: object, where: str) -> int:
    """An ISO 8601 instant with its offset. Raises Unavailable: an answer without an offset could be any hour."""
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise Unavailable(f"{where} answers with an instant that nobody can read: {str(text)[:40]!r}") from error
    if parsed.tzinfo is None:
        raise Unavailable(f"{where} answers with an instant without offset: {str(text)[:40]!r}")
    whole = int(parsed.replace(microsecond=0).timestamp())
    return whole * NS_PER_S + parsed.microsecond * 1_000


def iso_utc(at_ns: int, timespec: str = "seconds") -> str:
    """An instant as `2026-01-31T23:00:00Z`."""
    return datetime.fromtimestamp(at_ns / NS_PER_S, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
