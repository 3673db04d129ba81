"""What a meter testifies at an audit: its own journal, recomputed from raw readings, and the counters as they are now.

Built on the node, where journal and sensors are; the accountant compares it with its store. Plain and picklable.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from app.domain.reading import CounterReading
from app.engine.node_books import NodeBooks
from app.errors import SensorUnusable
from app.ledger.audit import ChainTally, tally_chain
from app.ledger.delta import counter_movement


@dataclass(frozen=True, slots=True)
class Evidence:
    """One meter's testimony."""

    meter: str
    acknowledged: tuple[int, int]
    """Position of the last batch the store said it has."""
    journal: ChainTally
    pending_uj: dict[str, int]
    """By device key: what the live counter moved since the last committed reading."""


def gather(meter: str, books: NodeBooks, lock: AbstractContextManager[object]) -> Evidence:
    """Testify for `books`; reads every counter once more, under the `lock` of whoever samples."""
    with lock:
        acknowledged = books.journal.acknowledged
        pending_uj = _pending(books)
    journal = tally_chain(meter, books.journal.batches(), from_genesis=False)
    return Evidence(meter, acknowledged, journal, pending_uj)


def _pending(books: NodeBooks) -> dict[str, int]:
    pending_uj = {}
    for uuid, track in books.tracks.items():
        committed = track.committed
        if not isinstance(committed, CounterReading):
            continue
        try:
            live = books.read(uuid)
        except SensorUnusable:
            continue
        if isinstance(live, CounterReading):
            pending_uj[track.device.key] = counter_movement(track.device, committed, live)
    return pending_uj
