"""The queue of jobs that want workers of one cluster: who may begin now, and when the others are expected to.

Pure: what every driver says of its job comes in, turns go out (app/policy/queueing.py books). Each driver computes the
same from the same entries, so nobody has to decide for all; where two differ for a moment Ray gives workers to one, and
the other waits for its placement group as it would without a queue. Those that must begin soonest come first; jobs
whose own plan has them wait keep the hours that they plan. Knows nothing of Ray or clocks.

    turns = turns_of(entries, free={"CPU": 2.0}, total={"CPU": 4.0}, now_s=now_s)
    turns["digits-1"].may_begin, turns["digits-1"].start_s, turns["digits-1"].reason
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from app.policy.queueing import Bookings, QueueSettings, Waiting, book
from app.policy.shifting import Outlook
from app.training.parts import Part

_UNITS = 100
"""Of a CPU or a GPU: reservations are made in hundredths."""
_STALE_S = 60.0
"""A driver that was not heard of for longer is gone."""
_CELL_S, _HORIZON_CELLS = 60.0, 7 * 24 * 60
_AT_ONCE = QueueSettings(wait_price=1.0)
"""A job that is ready was planned by its own outlook already: here it takes the first room there is."""
_FLAT = Outlook(0.0, 3600.0, (1.0,))


class Entry(Part):
    """What the driver of one run says of it. Unix seconds."""

    run: str
    heard_s: float
    since_s: float
    """When it was submitted."""
    resource: str
    """The one that is scarce: GPU for those who take any, else CPU."""
    amount: float
    """Of all its workers together."""
    latest_s: float
    """It must begin by then, or end late."""
    ready: bool
    """Its own plan has it at work now."""
    holds: bool
    """It has workers."""
    pieces: tuple[tuple[float, float], ...]
    """When its own plan has it at work, the present piece first."""


@dataclass(frozen=True, slots=True)
class QueueTurn:
    """Of one run."""

    run: str
    may_begin: bool
    start_s: float
    """Expected; of one that has workers, when it was last heard."""
    reason: str


def parsed(texts: Iterable[str], now_s: float) -> list[Entry]:
    """The entries of drivers that are alive; what cannot be read is nobody's."""
    found = []
    for text in texts:
        try:
            entry = Entry.model_validate_json(text)
        except ValidationError:
            continue
        if now_s - entry.heard_s <= _STALE_S:
            found.append(entry)
    return found


def turns_of(
    entries: Iterable[Entry], free: Mapping[str, float], total: Mapping[str, float], now_s: float
) -> dict[str, QueueTurn]:
    """A turn for each by its run, in the order in which they choose. `free`: what nobody holds, by resource; `total`:
    what the cluster has, since who has just begun may not hold yet what it says that it does."""
    found: dict[str, QueueTurn] = {}
    known = list(entries)
    for resource in sorted({entry.resource for entry in known}):
        these = [entry for entry in known if entry.resource == resource]
        nobodys, all_of_it = (round(each.get(resource, 0.0) * _UNITS) for each in (free, total))
        found |= _turns(these, nobodys, all_of_it, now_s)
    return found


def _turns(entries: list[Entry], free: int, total: int, now_s: float) -> dict[str, QueueTurn]:
    holding = [entry for entry in entries if entry.holds]
    capacity = min(total, free + sum(_units(entry) for entry in holding))
    found = {entry.run: QueueTurn(entry.run, True, now_s, "it has its workers") for entry in holding}
    if capacity < 1:
        reason = "nothing is free and nobody in the queue holds any"
        return found | {
            each.run: QueueTurn(each.run, False, each.latest_s, reason) for each in entries if not each.holds
        }
    bookings = Bookings(capacity, now_s, _CELL_S, _HORIZON_CELLS)
    for entry in holding:
        bookings.take(now_s, max(_ends_s(entry), now_s + _CELL_S), _units(entry))
    waiting = [entry for entry in entries if not entry.holds]
    for entry in sorted(waiting, key=lambda each: (each.latest_s, each.since_s, each.run)):
        found[entry.run] = _ready(entry, bookings, now_s) if entry.ready else _planned(entry, bookings, now_s)
    return found


def _ready(entry: Entry, bookings: Bookings, now_s: float) -> QueueTurn:
    """The first room for its present piece."""
    units = _units(entry)
    if units > bookings.workers:
        # An autoscaler may bring more; without one Ray says that it cannot be had.
        return QueueTurn(entry.run, True, now_s, "it takes more than the cluster has, so it asks for it at once")
    length_s = max(entry.pieces[0][1] - now_s, _CELL_S) if entry.pieces else _CELL_S
    wanted = Waiting(entry.run, units, length_s, 1.0, now_s)
    booking = book([wanted], bookings, _FLAT, now_s, _AT_ONCE)[entry.run]
    may_begin = booking.start_s < now_s + _CELL_S
    reason = "there is room" if may_begin else "workers are taken, or kept for those that must begin sooner"
    return QueueTurn(entry.run, may_begin, booking.start_s, reason)


def _planned(entry: Entry, bookings: Bookings, now_s: float) -> QueueTurn:
    """Its own hours are kept for it."""
    units = min(_units(entry), bookings.workers)
    for start_s, end_s in entry.pieces:
        bookings.take(start_s, end_s, units)
    start_s = entry.pieces[0][0] if entry.pieces else entry.latest_s
    return QueueTurn(entry.run, False, max(start_s, now_s), "it waits for its own hours")


def _ends_s(entry: Entry) -> float:
    return entry.pieces[0][1] if entry.pieces else entry.heard_s


def _units(entry: Entry) -> int:
    return max(1, round(entry.amount * _UNITS))
