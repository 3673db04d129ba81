"""The write-back: what a commit is about to write into the rings, on disk before the journal has the batch.

A meter killed between the two would leave receipts short of what its ledger charged. The next one finds here what was
to be written, and writes it if the batch it belongs to is in the journal. Figures are totals, not increments: writing
them twice changes nothing. Knows nothing of how energy is divided.

    write_back.prepare(journal.last.digest, {ring_id: ring.totals(through_ns)})
    journal.append(body); ...                                  # killed here
    write_back.recover(journal.last.previous, open_ring)       # by the next meter
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from app.errors import InvalidInput
from app.ledger.ring import Charged, RingReader

Totals = dict[str, Any]
"""`sequences`, and of each its `energy_uj`, `grades`, `state`; `through_ns`; `charged`: (load, warm, request) uJ."""


class WriteBack:
    """One file, replaced by every commit that has something to write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def prepare(self, previous: str, rings: Mapping[str, Totals]) -> None:
        """Keep what is to be written once the batch that follows the digest `previous` is in the journal."""
        if not rings:
            return
        draft = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):  # on a full disk the journal says so
            data = orjson.dumps({"previous": previous, "rings": rings}, option=orjson.OPT_SERIALIZE_NUMPY)
            draft.write_bytes(data)
            os.replace(draft, self._path)

    def recover(self, previous: str, open_ring: Callable[[str], RingReader]) -> int:
        """Write what was prepared for the batch that follows `previous`; returns to how many rings."""
        try:
            kept = orjson.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return 0
        written = 0
        for ring_id, totals in kept["rings"].items() if kept["previous"] == previous else ():
            with contextlib.suppress(OSError, ValueError, InvalidInput):
                reader = open_ring(ring_id)
                write_totals(reader, totals)
                reader.close()
                written += 1
        return written


def write_totals(reader: RingReader, totals: Totals) -> None:
    """Write totals into the records that are still those of their slices."""
    sequences = np.asarray(totals["sequences"], np.int64)
    slots = sequences % reader.capacity
    records = reader.records
    same = records["number"][slots] == sequences.astype(np.uint64) + 1
    kept = slots[same]
    for name in ("energy_uj", "grades", "state"):
        records[name][kept] = np.asarray(totals[name], np.uint64)[same]
    records["through_ns"][kept] = totals["through_ns"]
    if totals["charged"] is not None:
        reader.show_charged(Charged(*totals["charged"]))
