"""The meter: one 0-CPU actor per node that samples, attributes, journals and delivers.

A thin shell around engine/node_books.py. Two threads: one samples and commits, one delivers, so that an accountant that
does not answer never disturbs the sampling. A meter that is not resident leaves with the last piece of work:
linger, closing reading, acknowledged delivery, then the accountant lets it go (a 0-CPU actor would keep its Ray node
from ever counting as idle).
"""

import contextlib
import fcntl
import logging
import math
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

import ray

from app.carbon.footprint import carbon_settings
from app.clock import SystemClock
from app.config import Settings, settings
from app.engine.evidence import Evidence, gather
from app.engine.node_books import NodeBooks
from app.engine.receipts import read_receipt
from app.engine.ring_watch import RingWatch
from app.engine.views import Receipt
from app.errors import Unavailable
from app.ledger.board import BoardWriter, Present, uuid_hash
from app.ledger.journal import Batch, Journal
from app.ledger.ring import GRADE_BITS, node_tag
from app.metering.place import board_path, journal_directory, lease_path, place, rings_directory
from app.sensors.discovery import discover, sensor_settings
from app.sensors.process_table import Liveness, ProcessTable
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.metering.accountant import BooksClient

_log = logging.getLogger(__name__)

_BATCHES_PER_DELIVERY = 64
_DELIVERY_TIMEOUT_S = 30.0
_RETRY_S = 1.0
_IDLE_FLUSHES = 5  # a batch costs more than the readings in it; with nobody at work none is waited for
_HOUSEKEEPING_NS = 600 * NS_PER_S
_SHOW_IDLE_NS = NS_PER_S
_RESTART_AFTER_S = 10.0
_RETIRE_WITHIN_S = 30.0


class Lease:
    """An exclusive lock on this host's devices: two raylets on one host must not book them twice."""

    def __init__(self, config: Settings) -> None:
        path = lease_path(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def acquire(self) -> bool:
        """True once this process holds the lease; it is given back when the process ends."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def open_books(config: Settings) -> NodeBooks:
    """The books of this node. The lease must be held: opening the journal begins an epoch."""
    here, clock = place(config), SystemClock()
    found = discover(sensor_settings(backends=config.sensors), clock, here.machine, here.boot)
    for backend, reason in found.unusable.items():
        _log.info("sensor %s is not used: %s", backend, reason)
    rings = RingWatch(rings_directory(config), here.boot, Liveness(), config.receipt_hours * 3600)
    # A new journal needs a new name: under the old one the store would take its first batches for repetitions.
    journal = Journal(journal_directory(config), f"{here.machine}:{here.node}:{secrets.token_hex(4)}")
    lag_ns = round(config.settle_lag_s * NS_PER_S)
    return NodeBooks(here, found.sensors, clock, journal, rings, ProcessTable(), lag_ns)


class Meter:
    """The meter of one node. Its methods are called from Ray's threads, its loops run in their own."""

    def __init__(self, ray_node_id: str, resident: bool) -> None:
        self._config = settings()
        self._ray_node_id, self._resident = ray_node_id, resident
        carbon = carbon_settings(zone=self._config.zone, pue=self._config.pue)
        self._intensity = carbon.series().intensity_at(time.time_ns()).g_per_kwh * carbon.pue
        self._books: NodeBooks | None = None
        self._lock = threading.Lock()
        self._committed = threading.Event()
        self._stop = threading.Event()
        self._left = False
        threading.Thread(target=self._run, name="meter", daemon=True).start()

    # Asked by the accountant

    def evidence(self) -> Evidence | None:
        """This node's testimony for an audit; None while another meter of the host holds the devices."""
        books = self._books
        return gather(books.journal.meter, books, self._lock) if books else None

    def tag(self) -> str:
        """First part of the receipt ids of this node."""
        here = place(self._config)
        return node_tag(here.machine, here.boot)

    def receipt(self, receipt_id: str) -> Receipt:
        """A receipt of this node. Raises NotFound, InvalidInput, or Unavailable before the books are open."""
        if self._books is None:
            raise Unavailable("the meter of this node is still starting; try again in a moment")
        offset_ns = time.time_ns() - time.monotonic_ns()
        return read_receipt(receipt_id, self._books.rings.open_for_receipt, self.tag(), self._intensity, offset_ns)

    def leave(self, timeout_s: float = 15.0) -> bool:
        """Take a closing reading and deliver everything; False if the store did not acknowledge in time."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._left and not self._undelivered(1):
                return True
            time.sleep(0.05)
        return False

    # Sampling

    def _run(self) -> None:
        """The life of the meter. A fault that nobody foresaw ends the process: Ray starts a new one, which resumes."""
        try:
            self._watch_node()
        except Exception:
            _log.exception("the meter failed; it starts again in %s s and continues from its journal", _RESTART_AFTER_S)
            time.sleep(_RESTART_AFTER_S)
            os._exit(1)

    def _watch_node(self) -> None:
        lease = Lease(self._config)
        while not lease.acquire():
            if self._stop.wait(_RETRY_S):
                self._left = True
                return
        self._books = open_books(self._config)
        threading.Thread(target=self._deliver_for_ever, name="deliver", daemon=True).start()
        board = BoardWriter(board_path(self._config))
        try:
            self._sample(self._books, board)
            self._close(self._books)
        finally:
            board.close()
        self._left = True

    def _sample(self, books: NodeBooks, board: BoardWriter) -> None:
        """Sample until told to stop or, unless resident, until work has been gone for the linger."""
        config = self._config
        last_work = time.monotonic()
        committed = -math.inf  # the first batch, which holds the baseline, as soon as there is one
        last_housekeeping_ns = shown_ns = 0
        while not self._stop.is_set():
            begun = time.monotonic()
            with self._lock:
                books.tick()
            working = bool(books.rings.living)
            if working or time.monotonic_ns() - shown_ns >= _SHOW_IDLE_NS:
                shown_ns = time.monotonic_ns()
                _show(board, books, self._intensity)
            flush_s = config.flush_s if books.rings.rings else config.flush_s * _IDLE_FLUSHES
            if begun - committed >= flush_s and self._commit(books):
                committed = begun
            if working:
                last_work = begun
            elif not self._resident and begun - last_work > config.linger_s:
                return
            if time.monotonic_ns() - last_housekeeping_ns > _HOUSEKEEPING_NS:
                last_housekeeping_ns = time.monotonic_ns()
                books.rings.drop_old(time.time_ns())
            rate_hz = config.sample_hz if working else min(config.sample_hz, config.idle_sample_hz)
            self._stop.wait(max(0.0, begun + 1 / rate_hz - time.monotonic()))

    def _commit(self, books: NodeBooks, final: bool = False) -> bool:
        """True when a batch was written."""
        try:
            with self._lock:
                batch = books.commit(final)
        except OSError as error:
            _log.warning("the node journal cannot be written, readings wait in memory: %s", error)
            return False
        self._committed.set()
        return batch is not None

    def _close(self, books: NodeBooks) -> None:
        """The closing reading; a leaving meter is then let go by the accountant once all is delivered."""
        with self._lock:
            books.tick()
        self._commit(books, final=True)
        if self._stop.is_set():
            return
        deadline = time.monotonic() + _RETIRE_WITHIN_S
        while time.monotonic() < deadline and not self._stop.is_set():
            if not self._undelivered(1):
                with contextlib.suppress(Exception):  # asked again, until the accountant ends this process
                    _accountant().retire_meter(self._ray_node_id, ray.get_runtime_context().get_actor_id() or "")
            time.sleep(_RETRY_S)
        if not self._stop.is_set():
            raise Unavailable("the accountant did not let this meter go in time")

    # Delivering

    def _undelivered(self, limit: int) -> list[Batch]:
        with self._lock:
            return self._books.journal.unacknowledged(limit) if self._books else []

    def _deliver_for_ever(self) -> None:
        books: BooksClient | None = None
        while True:
            self._committed.wait(self._config.flush_s)
            self._committed.clear()
            try:
                books = books or _accountant()
                while batches := self._undelivered(_BATCHES_PER_DELIVERY):
                    self._sync()
                    books.deliver(batches, self._ray_node_id, _DELIVERY_TIMEOUT_S)
                    with self._lock:
                        if self._books:
                            self._books.journal.acknowledge(batches[-1])
            except Exception as error:
                _log.warning("the accountant did not take a delivery, it waits in the journal: %s", error)
                books = None
                time.sleep(_RETRY_S)

    def _sync(self) -> None:
        """Nothing is delivered that a power failure could take from the journal."""
        if self._books:
            self._books.journal.sync()


def _accountant() -> "BooksClient":
    from app.metering.accountant import connect_books

    return connect_books(create=True)


def _show(board: BoardWriter, books: NodeBooks, intensity_g_per_kwh: float) -> None:
    """Put the present of the node on the board."""
    devices = [
        Present(
            uuid_hash(uuid),
            track.device.kind.is_host,
            GRADE_BITS[track.device.grade],
            track.power_mw,
            track.floor.floor_mw,
        )
        for uuid, track in books.tracks.items()
    ]
    board.write(time.monotonic_ns(), intensity_g_per_kwh, devices)


MeterActor = ray.remote(Meter)
