"""How a replica or a training worker puts its work on the books.

Never raises, never waits: the ring takes slices whether or not a meter is there, and a background thread asks for one
until it is. With metering off, or on a disk that cannot be written, the same calls do nothing.

    client = WorkClient.open(warm_account("minilm", "1"))
    load = client.begin_load("minilm", "1"); ...; load.end()
    piece = client.begin(request_account("default", "minilm", "1"), weight=tokens)
    ...                                   # the work
    piece.end()
    piece.receipt_id, piece.energy()

Two clients of one process would count it twice: code that does not own its process asks `lent_client` for one.
"""

import atexit
import itertools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from app.clock import Clock, SystemClock
from app.config import Settings, settings
from app.domain.account import Account, load_account
from app.domain.slice import Resident
from app.engine.phases import PhaseBook, PhasedSlice, PhaseWork
from app.engine.slices import BoardCache, OpenSlice, SliceBook, SliceEnergy
from app.errors import JoulekeeperError
from app.ledger.ring import Charged, RingHeader, RingWriter
from app.ledger.step_rows import Fact
from app.metering.place import board_path, place, rings_directory
from app.sensors.process_table import birth_monotonic_ns, process_key

__all__ = ["OpenSlice", "PhaseWork", "PhasedSlice", "SliceEnergy", "WorkClient"]

_log = logging.getLogger(__name__)
_WATCH_S, _MAX_WATCH_S = 2.0, 60.0
_BOARD_POLL_S = 0.1
_LENT_RECORDS = 4096  # a ring of 320 KiB: processes that only measure come and go
_rings_opened = itertools.count()


class WorkClient:
    """The slices of this process. One per process; safe from several threads."""

    _own: ClassVar["WorkClient | None"] = None
    """The open client that this process opened for its own work."""
    waited: ClassVar[bool] = False
    """Whether this process stood prepared, for nobody, until its client is opened: that time is Ray's, no model's."""

    def __init__(self, book: SliceBook | None, born_ns: int = 0, unused: Callable[[], bool] | None = None) -> None:
        self._book, self._born_ns, self._unused = book, born_ns, unused
        self._phases = PhaseBook(book) if book else None
        self._pid = os.getpid()
        self._closed = threading.Event()

    @classmethod
    def open(
        cls,
        resident: Account,
        *,
        devices: Sequence[str] = (),
        worker: int = -1,
        unused: Callable[[], bool] | None = None,
    ) -> "WorkClient":
        """Start putting this process on the books.

        `resident` is charged for its time without slices: `warm` of a model version, or the `job` it works for.
        `devices` are the UUIDs of the accelerators it holds; the host is implied. `worker` is its rank in a job, -1:
        it has none. `unused` is for work that only passes through this process: the client then reserves nothing, and
        closes itself when `unused`, asked every two seconds, says True.
        """
        try:
            config = settings()
            if not config.metering:
                return cls(None)
            client = cls._open(config, SystemClock(), resident, devices, worker, unused)
        except (OSError, JoulekeeperError) as error:
            _log.warning("metering is off for this process: %s", error)
            return cls(None)
        if unused is None:
            cls._own = client
        threading.Thread(target=client._watch, name="joulekeeper-watch", daemon=True).start()
        atexit.register(client.close)
        return client

    @classmethod
    def of_process(cls) -> "WorkClient | None":
        """The open client that this process opened for its own work, a replica's or a training worker's, if any."""
        own = cls._own
        return own if own and own._is_here and not own._closed.is_set() else None

    @property
    def _is_here(self) -> bool:
        """False in a forked child, which must not write to its parent's ring."""
        return self._pid == os.getpid()

    @classmethod
    def _open(
        cls,
        config: Settings,
        clock: Clock,
        resident: Account,
        devices: Sequence[str],
        worker: int,
        unused: Callable[[], bool] | None,
    ) -> "WorkClient":
        here = place(config)
        key = process_key(os.getpid())
        if key is None:
            raise OSError("/proc does not show this process")
        born_ns = clock.monotonic_ns() if cls.waited else birth_monotonic_ns(key)
        gpu_share, host_share = _shares() if unused is None else (0.0, 0.0)
        header = RingHeader(
            here.machine,
            here.boot,
            here.node,
            Resident(key, resident, frozenset(devices)),
            gpu_share,
            host_share,
            born_ns,
            next(_rings_opened),
            worker,
            time.process_time_ns(),
        )
        records = config.ring_records if unused is None else min(config.ring_records, _LENT_RECORDS)
        ring = RingWriter.create(rings_directory(config), header, records)
        board = BoardCache(board_path(config), frozenset(devices), clock)
        return cls(SliceBook(ring, board, clock), born_ns, unused)

    def mark(self) -> int | None:
        """This moment, for a slice whose weight is known only a little later; None with metering off."""
        return self._book.mark() if self._book else None

    def begin(self, account: Account, weight: float = 1.0, part: int = 0, since: int | None = None) -> OpenSlice:
        """Open a slice of `weight` > 0 (rows, tokens, FLOPs: one unit per process), now or `since` an earlier mark.

        `part` is the epoch of a job, from 1; 0: none.
        """
        return self._book.begin(account, weight, since, part) if self._book else OpenSlice(None)

    def done(self, account: Account, weight: float, since: int | None) -> OpenSlice:
        """Put short work on the books that began at a mark and is over now: half as dear as to begin and to end it.

        For work of milliseconds. Until it is told it is none: of a process that is killed in it nothing is seen.
        """
        return OpenSlice(None) if self._book is None or since is None else self._book.done(account, weight, since)

    def begin_together(self, shared: Sequence[tuple[Account, float]], since: int | None) -> list[OpenSlice]:
        """Open the slices of one batch, which began at a mark: one for each account and weight, in that order."""
        if self._book is None or since is None:
            return [OpenSlice(None)] * len(shared)
        return self._book.begin_together(shared, since)

    def end_together(self, pieces: Sequence[OpenSlice]) -> None:
        """End the slices of one batch, all at the same moment."""
        if self._book:
            self._book.end_together(pieces)

    def record(
        self, shared: Sequence[tuple[Account, float]], start_ns: int, end_ns: int, part: int = 0
    ) -> list[OpenSlice]:
        """Put work on the books that is over: a slice, and a receipt, for each of those it was done for.

        `shared` are the accounts it was done for with their weights; each gets a slice, in that order. Times are of the
        monotonic clock. To be told within a second of its end: what is reported after the settle lag finds its energy
        booked.
        """
        return self._book.record(shared, start_ns, end_ns, part) if self._book else [OpenSlice(None)] * len(shared)

    def begin_phases(self, account: Account) -> PhasedSlice:
        """Open the slices of a request that will be in many steps: its prefill and its decode, under one receipt."""
        return self._phases.begin(account) if self._phases else PhasedSlice(None, account)

    def record_steps(self, start_ns: int, end_ns: int, done: Sequence[PhaseWork], device_mw: float) -> float:
        """Put steps on the books that are over, as `record`: what each request drew from `start_ns` to `end_ns`.

        Returns the microjoules that they are expected to have taken together.

        `device_mw`: what each device of this process drew, for estimates; 0: not known.
        """
        if self._phases:
            return self._phases.record(start_ns, end_ns, done, device_mw)
        for each in done:
            each.work.add(0.0, 0.0, each.new_tokens)
        return 0.0

    def step_facts(self) -> list[Fact]:
        """What the books have charged to steps, by interval of a device, since this was asked last."""
        return self._phases.facts() if self._phases else []

    def begin_load(self, model: str, version: str) -> OpenSlice:
        """Open the slice of bringing a model version into service.

        It starts at the birth of this process, or, where that had `waited`, when the client was opened.
        """
        return self._book.begin(load_account(model, version), 1.0, self._born_ns) if self._book else OpenSlice(None)

    @property
    def charged(self) -> Charged:
        """What the books have charged to this process so far; nothing with metering off."""
        return self._book.ring.charged if self._book else Charged(0, 0, 0)

    @property
    def g_per_kwh(self) -> float:
        """What a kWh emits now as the node's meter has it, PUE included; 0 before any said."""
        shown = self._book.board.present() if self._book else None
        return shown.intensity_g_per_kwh if shown else 0.0

    def await_meter(self, timeout_s: float) -> bool:
        """Wait until a meter watches this node, `timeout_s` at most; False if none does, or metering is off.

        Only work that no meter has watched from its beginning, on a node that none ever watched, is lost to the books.
        """
        deadline = time.monotonic() + timeout_s
        while self._book and self._book.board.is_stale():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_BOARD_POLL_S)
        return self._book is not None

    def close(self) -> None:
        """Say that this process works no more; its receipts stay. A second call does nothing."""
        if self._book and self._is_here and not self._closed.is_set():
            self._closed.set()
            self._book.close()
            atexit.unregister(self.close)
            if self._unused and _ray_joined() is None and not self._book.board.exists:
                self._book.discard()  # no meter was ever here to read it, and none is on its way

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
            if self._unused and self._unused():
                self.close()


def _ask_for_meter() -> None:
    ray = _ray_joined()
    if ray is None:
        return
    from app.metering.accountant import connect_books

    connect_books(create=True).ensure_meter(ray.get_runtime_context().get_node_id())


def _shares() -> tuple[float, float]:
    """Parts of the accelerators and of the host's CPUs that Ray reserved for this process."""
    if not is_ray_worker():
        return 1.0, 0.0  # a driver has reserved nothing
    assigned = sys.modules["ray"].get_runtime_context().get_assigned_resources()
    return min(1.0, float(assigned.get("GPU", 0.0))), min(1.0, float(assigned.get("CPU", 0.0)) / (os.cpu_count() or 1))


def is_ray_worker() -> bool:
    """Whether Ray started this process for tasks or an actor; a driver is none."""
    ray = _ray_joined()
    return ray is not None and ray.get_runtime_context().worker.mode == ray.WORKER_MODE


def _ray_joined() -> Any:
    """The ray module in a process that belongs to a cluster; None in others, which are spared its import."""
    ray = sys.modules.get("ray")
    return ray if ray is not None and ray.is_initialized() else None
