"""What a node's journal has booked since it began, by account and device: the running totals behind its counters.

Carbon is of the intensity that held when a batch was added: a node does not price the past again, reports do.
A checkpoint beside the journal, and the batches after it, give the totals of any moment again, whoever wrote them.
Where the chain between checkpoint and journal is broken they begin anew, and say since when. Not thread-safe.

    totals = NodeTotals(path, journal, g_per_kwh)
    totals.add(batch)                    # every batch that was appended
    totals.save()                        # now and then
"""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.ledger.journal import GENESIS, Batch, Journal
from app.units import exact_carbon_ug

_SAVE_EVERY = 60
"""Batches between two checkpoints: so many are read again after a kill."""

Line = tuple[str, str, str]
"""Device key, account labels as JSON, grade."""


@dataclass(slots=True)
class Total:
    """Energy, uncertainty and carbon of one account of one device in one grade."""

    energy_uj: int = 0
    uncertainty_uj: int = 0
    carbon_ugco2e: float = 0.0


class NodeTotals:
    """Running totals of one journal."""

    def __init__(self, path: Path, journal: Journal, g_per_kwh: Callable[[], float]) -> None:
        """`g_per_kwh`: what holds now, PUE included."""
        self._path, self._g_per_kwh = path, g_per_kwh
        self._begin("", GENESIS, 0)
        self._load()
        for batch in journal.batches(from_epoch=self._epoch):
            if batch.position > self._position or batch.meter != self._meter:
                self.add(batch)

    def _begin(self, meter: str, digest: str, since_ns: int) -> None:
        self._meter, self._digest, self.since_ns = meter, digest, since_ns
        self._position = (0, -1)
        self._unsaved = 0
        self.lines: dict[Line, Total] = defaultdict(Total)
        self.devices: dict[str, dict[str, str]] = {}
        """Kind, name and grade of each device by its key."""

    @property
    def _epoch(self) -> int:
        return self._position[0]

    def add(self, batch: Batch) -> None:
        """Add the next batch of the journal."""
        body = batch.body
        if batch.previous != self._digest or batch.meter != self._meter:
            self._begin(batch.meter, batch.previous, body["wall_ns"])
        for device in body["devices"]:
            self.devices[device["key"]] = {name: device[name] for name in ("kind", "name", "grade")}
        g_per_kwh = self._g_per_kwh()
        for posting in body["postings"]:
            grade = posting.get("grade") or self.devices[posting["device"]]["grade"]
            total = self.lines[posting["device"], _text(posting["account"]), grade]
            total.energy_uj += posting["energy_uj"]
            total.uncertainty_uj += posting["uncertainty_uj"]
            total.carbon_ugco2e += exact_carbon_ug(posting["energy_uj"], g_per_kwh)
        self._digest, self._position = batch.digest, batch.position
        self._unsaved += 1
        if self._unsaved >= _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write a checkpoint; a disk that takes none costs reading the journal again, no more."""
        contents = {
            "meter": self._meter,
            "digest": self._digest,
            "position": self._position,
            "since_ns": self.since_ns,
            "devices": self.devices,
            "lines": [
                [*line, total.energy_uj, total.uncertainty_uj, total.carbon_ugco2e]
                for line, total in self.lines.items()
            ],
        }
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(orjson.dumps(contents))
            os.replace(temporary, self._path)
        except OSError:
            return
        self._unsaved = 0

    def _load(self) -> None:
        try:
            found = orjson.loads(self._path.read_bytes())
            self._begin(found["meter"], found["digest"], found["since_ns"])
            self.devices = dict(found["devices"])
            for device, account, grade, energy_uj, uncertainty_uj, *carbon in found["lines"]:
                # Checkpoints of version 0.1 have no carbon.
                carbon_ugco2e = carbon[0] if carbon else exact_carbon_ug(energy_uj, self._g_per_kwh())
                self.lines[device, account, grade] = Total(energy_uj, uncertainty_uj, carbon_ugco2e)
            epoch, sequence = found["position"]
            self._position = (epoch, sequence)
        except (OSError, ValueError, KeyError, TypeError):
            self._begin("", GENESIS, 0)


def _text(labels: dict[str, Any]) -> str:
    return orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode()
