"""The node journal: batches on local disk before anybody is told, and the outbox of what was not acknowledged.

An append-only file per epoch (one life of a meter, or less: a full file ends its epoch), one record a line: CRC-32 in
hex, a space, the JSON of a batch. A torn last line, left by a kill in mid-write, is dropped on opening. The newest
`KEEP_EPOCHS` files are kept after acknowledgement, for the audit. However long nobody acknowledges, at most `WINDOW`
batches are held in memory; the others are read from their files when they are delivered. Knows nothing of attribution
or of Ray.

    journal = Journal(directory, meter)
    journal.append(body)                 # numbers the batch and chains its digest
    for batch in journal.unacknowledged(64): deliver(batch); journal.acknowledge(batch)
"""

import contextlib
import os
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from app.ledger.batch import GENESIS, Batch, Body, digest_of

__all__ = ["GENESIS", "Batch", "Body", "Journal", "digest_of", "has_open_books", "read_epoch"]

KEEP_EPOCHS = 8
MAX_EPOCH_BYTES = 32 * 1024 * 1024
WINDOW = 128

_BODY = b',"body":'
_REFUSED, _CLOSED = ".refused", ".closed"


class Journal:
    """The journal of one meter. One writer; opening it starts a new epoch.

    A journal keeps the name of its first meter: a renamed node continues its chain, and does not begin a second one.
    """

    def __init__(self, directory: Path, meter: str, max_epoch_bytes: int = MAX_EPOCH_BYTES) -> None:
        self._directory, self._max_epoch_bytes = directory, max_epoch_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._acknowledged = _read_acknowledged(directory)
        self._window: deque[Batch] = deque()
        self.waiting = 0
        """Batches that were not acknowledged."""
        self._last: Batch | None = None
        epochs = self._epochs()
        newest = b""
        for epoch in epochs:
            for newest in _records(self._path(epoch)) if epoch >= self._acknowledged[0] else ():
                self.waiting += _position(newest) > self._acknowledged
        self._last = _batch(newest) if newest else None
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

    @property
    def meter(self) -> str:
        """Whose journal this is."""
        return self._meter

    def append(self, body: Body) -> Batch:
        """Commit a batch: when this returns, killing the process loses nothing of it. Raises OSError."""
        if self._bytes > self._max_epoch_bytes:
            self._begin_epoch()
        previous = self._last.digest if self._last and self._last.meter == self._meter else GENESIS
        batch = Batch.sealed(self._meter, self.epoch, self._sequence, previous, body)
        line = _line(batch)
        try:
            _write_all(self._file, line)
        except OSError:
            os.ftruncate(self._file, self._bytes)  # a torn line would hide every later one
            raise
        batch.forget()
        self._bytes += len(line)
        self._sequence += 1
        self._last = batch
        self._wait(batch)
        return batch

    # Delivering

    def unacknowledged(self, limit: int) -> list[Batch]:
        """Up to `limit` batches to deliver, oldest first; at most `WINDOW`."""
        if len(self._window) < min(limit, self.waiting):
            self._refill()
        return list(islice(self._window, limit))

    def sync(self) -> None:
        """Make what was appended durable. Raises OSError."""
        os.fdatasync(self._file)

    def acknowledge(self, batch: Batch) -> None:
        """The store has `batch` and all before it."""
        while self._window and self._window[0].position <= batch.position:
            self._window.popleft()
            self.waiting -= 1
        self._acknowledged = batch.position
        self._write_acknowledged()

    def begin_anew(self, meter: str) -> None:
        """Set every file aside and go on under another name, as a new chain: the store refuses what waits here.

        What was never acknowledged is then in files named `.refused`, the rest in `.closed`. The last batch stays known
        until the next is written. Interrupted, it is done again: what is left still has the old name.
        """
        first = self._acknowledged[0]
        self._begin_epoch()
        for epoch in self._epochs()[:-1]:
            path = self._path(epoch)
            path.rename(path.with_suffix(_REFUSED if epoch >= first and path.stat().st_size else _CLOSED))
        self._window.clear()
        self.waiting, self._meter, self._acknowledged = 0, meter, (self.epoch, -1)
        self._write_acknowledged()

    def refused(self) -> list[Path]:
        """Files of batches that were set aside because the store refused them."""
        return sorted(self._directory.glob(f"*{_REFUSED}"))

    def batches(self, from_epoch: int = 0) -> Iterator[Batch]:
        """Every batch still on disk, oldest first; from an epoch on."""
        for epoch in self._epochs():
            if epoch >= from_epoch:
                yield from read_epoch(self._path(epoch))

    def close(self) -> None:
        """Make the file durable and close it."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
                os.close(self._file)

    def _wait(self, batch: Batch) -> None:
        """Count a new batch; keep it as long as the window holds every one before it."""
        if self.waiting == len(self._window) < WINDOW:
            self._window.append(batch)
        self.waiting += 1

    def _refill(self) -> None:
        """Read what follows the window until it is full."""
        after = self._window[-1].position if self._window else self._acknowledged
        for epoch in self._epochs():
            for record in _records(self._path(epoch)) if epoch >= after[0] else ():
                if len(self._window) >= WINDOW:
                    return
                if _position(record) > after:
                    self._window.append(_batch(record))

    def _write_acknowledged(self) -> None:
        temporary = self._directory / "acknowledged.new"
        temporary.write_bytes(orjson.dumps(self._acknowledged))
        os.replace(temporary, self._directory / "acknowledged")

    def _path(self, epoch: int) -> Path:
        return self._directory / f"{epoch:08d}.journal"

    def _epochs(self) -> list[int]:
        return sorted(int(path.stem) for path in self._directory.glob("*.journal"))


def has_open_books(directory: Path) -> bool:
    """Whether the next meter of this journal has something to do: to deliver, or to book a time without a meter."""
    acknowledged = _read_acknowledged(directory)
    for path in sorted(directory.glob("*.journal"), reverse=True):
        newest = next(iter(deque(_records(path), maxlen=1)), b"")
        if newest:
            return _position(newest) > acknowledged or not _batch(newest).body["resume"]["clean"]
    return False


def _read_acknowledged(directory: Path) -> tuple[int, int]:
    try:
        epoch, sequence = orjson.loads((directory / "acknowledged").read_bytes())
    except (OSError, ValueError):
        return (0, -1)
    return (epoch, sequence)


def read_epoch(path: Path) -> Iterator[Batch]:
    """The whole records of one journal file; reading stops at the first that is torn or altered."""
    return map(_batch, _records(path))


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            checksum, _, record = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(record):
                return
            yield record


def _line(batch: Batch) -> bytes:
    header = {"meter": batch.meter, "epoch": batch.epoch, "sequence": batch.sequence}
    header |= {"previous": batch.previous, "digest": batch.digest}
    record = orjson.dumps(header)[:-1] + _BODY + batch.payload + b"}"
    return b"%08x %s\n" % (zlib.crc32(record), record)


def _header(record: bytes) -> dict[str, Any]:
    header: dict[str, Any] = orjson.loads(record.partition(_BODY)[0] + b"}")
    return header


def _position(record: bytes) -> tuple[int, int]:
    header = _header(record)
    return header["epoch"], header["sequence"]


def _batch(record: bytes) -> Batch:
    """The batch of a record; its body stays the bytes that were written."""
    return Batch.of_payload(**_header(record), payload=record.partition(_BODY)[2][:-1])


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
