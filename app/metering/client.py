"""How a replica or a training worker puts its work on the books.

Never raises, never waits: the ring takes slices whether or not a meter is there, and a background thread asks for one
until it is. With metering off, or on a disk that cannot be written, the same calls do nothing.

    client = WorkClient.open(warm_account("minilm", "1"))
    load = client.begin_load("minilm", "1"); ...; load.end()
    piece = client.begin(request_account("default", "minilm", "1"), weight=tokens)
    ...                                   # the work
    piece.end()
    piece.receipt_id, piece.energy()
"""

import atexit
import itertools
import logging
import os
import threading
import time
from collections.abc import Sequence

from app.clock import Clock, SystemClock
from app.config import Settings, settings
from app.domain.account import Account, load_account
from app.domain.slice import Resident
from app.engine.slices import BoardCache, OpenSlice, SliceBook, SliceEnergy
from app.errors import JoulekeeperError
from app.ledger.ring import RingHeader, RingWriter
from app.metering.place import board_path, place, rings_directory
from app.sensors.process_table import birth_monotonic_ns, process_key

__all__ = ["OpenSlice", "SliceEnergy", "WorkClient"]

_log = logging.getLogger(__name__)
_WATCH_S, _MAX_WATCH_S = 2.0, 60.0
_rings_opened = itertools.count()


class WorkClient:
    """The slices of this process. One per process; safe from several threads."""

    def __init__(self, book: SliceBook | None, born_ns: int = 0) -> None:
        self._book, self._born_ns = book, born_ns
        self._closed = threading.Event()

    @classmethod
    def open(cls, resident: Account, *, devices: Sequence[str] = ()) -> "WorkClient":
        """Start putting this process on the books.

        `resident` is charged for its time without slices: `warm` of a model version, or the `job` it works for.
        `devices` are the UUIDs of the accelerators it holds; the host is implied.
        """
        try:
            config = settings()
            if not config.metering:
                return cls(None)
            client = cls._open(config, resident, devices, SystemClock())
        except (OSError, JoulekeeperError) as error:
            _log.warning("metering is off for this process: %s", error)
            return cls(None)
        threading.Thread(target=client._watch, name="joulekeeper-watch", daemon=True).start()
        atexit.register(client.close)
        return client

    @classmethod
    def _open(cls, config: Settings, resident: Account, devices: Sequence[str], clock: Clock) -> "WorkClient":
        here = place(config)
        key = process_key(os.getpid())
        if key is None:
            raise OSError("/proc does not show this process")
        born_ns = birth_monotonic_ns(key)
        gpu_share, host_share = _shares()
        header = RingHeader(
            here.machine,
            here.boot,
            here.node,
            Resident(key, resident, frozenset(devices)),
            gpu_share,
            host_share,
            born_ns,
            next(_rings_opened),
        )
        ring = RingWriter.create(rings_directory(config), header, config.ring_records)
        board = BoardCache(board_path(config), frozenset(devices), clock)
        return cls(SliceBook(ring, board, clock), born_ns)

    def begin(self, account: Account, weight: float = 1.0) -> OpenSlice:
        """Open a slice of `weight` > 0 (rows, tokens, FLOPs: one unit per process)."""
        return self._book.begin(account, weight) if self._book else OpenSlice(None)

    def begin_load(self, model: str, version: str) -> OpenSlice:
        """Open the slice of bringing a model version into service; it starts at the birth of this process."""
        return self._book.begin(load_account(model, version), 1.0, self._born_ns) if self._book else OpenSlice(None)

    def close(self) -> None:
        """Say that this process works no more; its receipts stay. A second call does nothing."""
        if self._book and not self._closed.is_set():
            self._closed.set()
            self._book.close()

    def _watch(self) -> None:
        """Ask for a meter whenever the board says that none watches this node."""
        wait_s, next_ask = _WATCH_S, 0.0
        while self._book and not self._closed.is_set():
            self._book.touch()
            if time.monotonic() >= next_ask and self._book.board.is_stale():
                try:
                    _ask_for_meter()
                    wait_s = _WATCH_S
                except Exception as error:
                    _log.debug("no meter yet: %s", error)
                    wait_s = min(2 * wait_s, _MAX_WATCH_S)  # starting an accountant that cannot live costs CPU
                next_ask = time.monotonic() + wait_s
            self._closed.wait(_WATCH_S)


def _ask_for_meter() -> None:
    import ray

    if not ray.is_initialized():
        return
    from app.metering.accountant import connect_books

    connect_books(create=True).ensure_meter(ray.get_runtime_context().get_node_id())


def _shares() -> tuple[float, float]:
    """Parts of the accelerators and of the host's CPUs that Ray reserved for this process."""
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return 1.0, 0.0  # a driver has reserved nothing
    assigned = ray.get_runtime_context().get_assigned_resources()
    return min(1.0, float(assigned.get("GPU", 0.0))), min(1.0, float(assigned.get("CPU", 0.0)) / (os.cpu_count() or 1))
