"""The node journal: batches on local disk before anybody is told, and the outbox of what was not acknowledged.

An append-only file per epoch (one life of a meter, or less: a full file ends its epoch), one record a line: CRC-32 in
hex, a space, the JSON of a batch. A torn last line, left by a kill in mid-write, is dropped on opening. The newest
`KEEP_EPOCHS` files are kept after acknowledgement, for the audit. Knows nothing of attribution or of Ray.

    journal = Journal(directory)
    journal.append(body)                 # numbers the batch and chains its digest
    for batch in journal.unacknowledged(): deliver(batch); journal.acknowledge(batch)
"""

import contextlib
import hashlib
import os
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

Body = dict[str, Any]

KEEP_EPOCHS = 8
MAX_EPOCH_BYTES = 32 * 1024 * 1024

GENESIS = "0" * 64
"""Digest before the first batch of a journal."""


def digest_of(previous: str, body: Body) -> str:
    """SHA-256 over the previous digest and the canonical JSON of a batch: changing any figure breaks the chain."""
    canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(previous.encode() + canonical).hexdigest()


@dataclass(frozen=True, slots=True)
class Batch:
    """What a meter commits at once. `body` is JSON; (meter, epoch, sequence) names it for ever."""

    meter: str
    epoch: int
    sequence: int
    previous: str
    digest: str
    body: Body

    @property
    def position(self) -> tuple[int, int]:
        """Order of batches of one meter."""
        return self.epoch, self.sequence


class Journal:
    """The journal of one meter. One writer; opening it starts a new epoch.

    A journal keeps the name of its first meter: a renamed node continues its chain, and does not begin a second one.
    """

    def __init__(self, directory: Path, meter: str, max_epoch_bytes: int = MAX_EPOCH_BYTES) -> None:
        self._directory, self._max_epoch_bytes = directory, max_epoch_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._acknowledged = self._read_acknowledged()
        self._outbox: deque[Batch] = deque()
        self._last: Batch | None = None
        epochs = self._epochs()
        for epoch in epochs:
            if epoch < self._acknowledged[0]:
                continue
            for batch in read_epoch(self._path(epoch)):
                self._last = batch
                if batch.position > self._acknowledged:
                    self._outbox.append(batch)
        self._meter = self._last.meter if self._last else meter
        self.epoch = epochs[-1] if epochs else 0
        self._file = -1
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        file = os.open(self._path(self.epoch + 1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.close()
        self.epoch, self._sequence, self._bytes, self._file = self.epoch + 1, 0, 0, file
        for epoch in self._epochs()[:-KEEP_EPOCHS]:
            if epoch < self._acknowledged[0]:
                self._path(epoch).unlink(missing_ok=True)

    @property
    def last(self) -> Batch | None:
        """The newest batch, also of an earlier epoch; None in a new journal."""
        return self._last

    @property
    def acknowledged(self) -> tuple[int, int]:
        """(epoch, sequence) of the last batch that the store said it has; (0, -1) for none."""
        return self._acknowledged

    def append(self, body: Body) -> Batch:
        """Commit a batch: when this returns, killing the process loses nothing of it. Raises OSError."""
        if self._bytes > self._max_epoch_bytes:
            self._begin_epoch()
        previous = self._last.digest if self._last else GENESIS
        batch = Batch(self._meter, self.epoch, self._sequence, previous, digest_of(previous, body), body)
        record = orjson.dumps(
            {"meter": batch.meter, "epoch": batch.epoch, "sequence": batch.sequence, "previous": previous}
            | {"digest": batch.digest, "body": body}
        )
        line = b"%08x %s\n" % (zlib.crc32(record), record)
        try:
            _write_all(self._file, line)
        except OSError:
            os.ftruncate(self._file, self._bytes)  # a torn line would hide every later one
            raise
        self._bytes += len(line)
        self._sequence += 1
        self._last = batch
        self._outbox.append(batch)
        return batch

    @property
    def meter(self) -> str:
        """Whose journal this is."""
        return self._meter

    def unacknowledged(self, limit: int) -> list[Batch]:
        """Up to `limit` batches to deliver, oldest first."""
        return list(islice(self._outbox, limit))

    def sync(self) -> None:
        """Make what was appended durable. Raises OSError."""
        os.fdatasync(self._file)

    def acknowledge(self, batch: Batch) -> None:
        """The store has `batch` and all before it."""
        while self._outbox and self._outbox[0].position <= batch.position:
            self._outbox.popleft()
        self._acknowledged = batch.position
        temporary = self._directory / "acknowledged.new"
        temporary.write_bytes(orjson.dumps(batch.position))
        os.replace(temporary, self._directory / "acknowledged")

    def batches(self) -> Iterator[Batch]:
        """Every batch still on disk, oldest first."""
        for epoch in self._epochs():
            yield from read_epoch(self._path(epoch))

    def close(self) -> None:
        """Make the file durable and close it."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
                os.close(self._file)

    def _read_acknowledged(self) -> tuple[int, int]:
        try:
            epoch, sequence = orjson.loads((self._directory / "acknowledged").read_bytes())
        except (OSError, ValueError):
            return (0, -1)
        return (epoch, sequence)

    def _path(self, epoch: int) -> Path:
        return self._directory / f"{epoch:08d}.journal"

    def _epochs(self) -> list[int]:
        return sorted(int(path.stem) for path in self._directory.glob("*.journal"))


def read_epoch(path: Path) -> Iterator[Batch]:
    """The whole records of one journal file; reading stops at the first that is torn or altered."""
    with path.open("rb") as file:
        for line in file:
            checksum, _, record = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(record):
                return
            yield Batch(**orjson.loads(record))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
