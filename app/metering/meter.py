"""The meter: one 0-CPU actor per node that samples, attributes, journals and delivers.

A thin shell around engine/node_books.py. Two threads: one samples and commits, one delivers, so that an accountant that
does not answer never disturbs the sampling. A meter that is not resident leaves with the last piece of work:
linger, closing reading, acknowledged delivery, then the accountant lets it go (a 0-CPU actor would keep its Ray node
from ever counting as idle).
"""

import contextlib
import gc
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ray

from app.carbon.footprint import carbon_settings
from app.clock import SystemClock
from app.config import Settings, settings
from app.domain.place import Place
from app.engine.delivery import Delivery, MeterCondition
from app.engine.evidence import Evidence, gather
from app.engine.node_books import NodeBooks
from app.engine.node_export import NodeExport
from app.engine.receipts import ReceiptDesk
from app.engine.ring_watch import RingWatch
from app.engine.troubles import Troubles
from app.engine.views import MeasuredReceipt, MeasuredReceipts
from app.errors import Unavailable
from app.ledger.board import BoardWriter, Present, uuid_hash
from app.ledger.journal import Journal
from app.ledger.ring import GRADE_BITS, node_tag
from app.metering.courier import Courier, Taker, warn_of_refused
from app.metering.door import Caller
from app.metering.lease import DeviceLeases, DirectoryLease, LeasedSensor
from app.metering.place import (
    board_path,
    journal_directory,
    lease_path,
    place,
    raise_priority,
    rings_directory,
    totals_path,
)
from app.metering.present import PresentIntensity
from app.metering.rhythm import IDLE_FLUSHES, Rhythm
from app.sensors.base import Sensor
from app.sensors.discovery import discover, sensor_settings
from app.sensors.process_table import Liveness, ProcessTable
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.metering.accountant import BooksClient

_log = logging.getLogger(__name__)

_DELIVERY_TIMEOUT_S = 30.0
_RETRY_S = 1.0
_HOUSEKEEPING_S = 600.0
_RESTART_AFTER_S = 10.0
_RETIRE_WITHIN_S = 30.0
_TRY_DOOR_AGAIN_S = 300.0


def open_books(config: Settings, sensors: Sequence[Sensor] | None = None) -> NodeBooks:
    """The books of this node, of every sensor it has unless told which. The directory must be leased."""
    here, clock = place(config), SystemClock()
    rings = RingWatch(rings_directory(config), here.boot, Liveness(), config.receipt_hours * 3600)
    journal = Journal(journal_directory(config), journal_name(here))
    lag_ns = round(config.settle_lag_s * NS_PER_S)
    found = find_sensors(config) if sensors is None else sensors
    return NodeBooks(here, found, clock, journal, rings, ProcessTable(), lag_ns)


def find_sensors(config: Settings) -> Sequence[Sensor]:
    """What this host has of what the settings ask for."""
    here = place(config)
    found = discover(sensor_settings(backends=config.sensors), SystemClock(), here.machine, here.boot)
    for backend, reason in found.unusable.items():
        _log.info("sensor %s is not used: %s", backend, reason)
    return found.sensors


def yearly_g_per_kwh(config: Settings) -> float:
    """What the zone emits in the mean of a year, the building's overhead included."""
    carbon = carbon_settings(zone=config.zone, pue=config.pue)
    return carbon.series().intensity_at(time.time_ns()).g_per_kwh * carbon.pue


def journal_name(here: Place) -> str:
    """A new journal needs a new name: under an old one the store would take its first batches for repetitions."""
    return f"{here.machine}:{here.node}:{secrets.token_hex(4)}"


class Meter:
    """The meter of one node. Its methods are called from Ray's threads, its loops run in their own."""

    def __init__(self, ray_node_id: str, resident: bool) -> None:
        self._config = settings()
        self._ray_node_id, self._resident = ray_node_id, resident
        self._present = PresentIntensity(yearly_g_per_kwh(self._config), lambda: _accountant().present_price())
        self._books: NodeBooks | None = None
        self._export: NodeExport | None = None
        self._troubles = Troubles()
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

    def receipt(self, receipt_id: str) -> MeasuredReceipt:
        """A receipt of this node, unpriced. Raises NotFound, InvalidInput, or Unavailable before the books are open."""
        return self._desk().receipt(receipt_id)

    def receipts(self, receipt_ids: Sequence[str]) -> MeasuredReceipts:
        """Many receipts of this node. Raises Unavailable before the books are open."""
        return self._desk().receipts(receipt_ids)

    def _desk(self) -> ReceiptDesk:
        if self._books is None:
            raise Unavailable("the meter of this node is still starting; try again in a moment")
        rings, offset_ns = self._books.rings, time.time_ns() - time.monotonic_ns()
        return ReceiptDesk(self.tag(), rings.open_for_receipt, rings.is_watched, offset_ns)

    def _present_g_per_kwh(self) -> float:
        return self._present.g_per_kwh

    def leave(self, timeout_s: float = 15.0) -> bool:
        """Take a closing reading and deliver everything; False if the store did not acknowledge in time."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._left and not self._waiting():
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
        raise_priority()
        sensors = self._leased_sensors()
        if not sensors:
            self._left = True
            return
        books = open_books(self._config, sensors)
        gc.freeze()  # modules and books are here to stay: no need to look through them again and again
        self._export = NodeExport(
            books.journal, totals_path(self._config), self._lock, self._present_g_per_kwh, SystemClock()
        )
        self._books = books
        threading.Thread(target=self._deliver_for_ever, args=(books,), name="deliver", daemon=True).start()
        board = BoardWriter(board_path(self._config))
        try:
            self._sample(books, board)
            self._close(books)
        finally:
            board.close()
        self._left = True

    def _leased_sensors(self) -> Sequence[Sensor]:
        """Waits for devices that no other meter of this host books; empty when this meter is to go without any."""
        directory, devices = DirectoryLease(lease_path(self._config)), DeviceLeases(_cluster())
        begun = time.monotonic()
        sensors: Sequence[Sensor] = ()
        while True:
            if directory.acquire():
                sensors = sensors or find_sensors(self._config)
                wanted = [device for sensor in sensors for device in sensor.devices if not device.parent]
                held = devices.acquire(wanted)
                if held or not wanted:
                    self._say_missing(len(wanted) - len(held))
                    return [LeasedSensor(sensor, held) for sensor in sensors]
            if not self._resident and time.monotonic() - begun > self._config.linger_s:
                self._ask_to_go()  # another meter books this host; waiting would keep the Ray node from growing idle
            if self._stop.wait(_RETRY_S):
                return ()

    def _say_missing(self, count: int) -> None:
        if count:
            sentence = f"{count} devices are booked by another meter of this host"
            self._troubles.begin("lease", sentence, time.time())

    def _sample(self, books: NodeBooks, board: BoardWriter) -> None:
        """Sample until told to stop or, unless resident, until work has been gone for the linger."""
        rhythm = Rhythm(self._config, self._resident, time.monotonic())
        housekept = -math.inf
        while not self._stop.is_set():
            begun = time.monotonic()
            if rhythm.may_read(sum(len(track.raw) for track in books.tracks.values())):
                with self._lock:
                    books.tick(with_host=rhythm.host_is_due(begun))
            rhythm.see(bool(books.rings.living), begun)
            if rhythm.show_is_due(begun):
                show_present(board, books, self._present.g_per_kwh)
            if rhythm.commit_is_due(bool(books.rings.rings), begun):
                wrote = self._commit(books)
                rhythm.tried(bool(wrote), wrote is None, begun)
            if rhythm.leaves(begun):
                return
            if begun - housekept > _HOUSEKEEPING_S:
                housekept = begun
                books.rings.drop_old(time.time_ns())
            self._stop.wait(max(0.0, begun + rhythm.period_s() - time.monotonic()))

    def _commit(self, books: NodeBooks, final: bool = False) -> bool | None:
        """True when a batch was written, None when the journal failed."""
        try:
            with self._lock:
                batch = books.commit(final)
                if batch is not None and self._export is not None:
                    self._export.add(batch)
        except OSError as error:
            sentence = f"the node journal cannot be written, readings wait in memory: {error}"
            if self._troubles.begin("journal", sentence, time.time()):
                _log.warning("%s", sentence)
            self._committed.set()  # the courier tells of it
            return None
        if self._troubles.end("journal"):
            _log.warning("the node journal can be written again")
        self._committed.set()
        return batch is not None

    def _close(self, books: NodeBooks) -> None:
        """The closing reading; a leaving meter is then let go by the accountant once all is delivered."""
        deadline = time.monotonic() + _RETIRE_WITHIN_S
        with self._lock:
            books.tick()
        while not self._commit(books, final=True) and time.monotonic() < deadline:
            time.sleep(_RETRY_S)
        if self._export is not None:
            self._export.close()
        if self._stop.is_set():
            return
        while time.monotonic() < deadline and not self._stop.is_set():
            if not self._waiting():
                self._ask_to_go()
            time.sleep(_RETRY_S)
        if not self._stop.is_set():
            raise Unavailable("the accountant did not let this meter go in time")

    def _ask_to_go(self) -> None:
        """Asked again and again, until the accountant ends this process."""
        with contextlib.suppress(Exception):
            _accountant().retire_meter(self._ray_node_id, ray.get_runtime_context().get_actor_id() or "")

    # Delivering

    def _waiting(self) -> int:
        """Batches that were not acknowledged."""
        with self._lock:
            return self._books.journal.waiting if self._books else 0

    def _deliver_for_ever(self, books: NodeBooks) -> None:
        courier = Courier(
            books.journal,
            self._lock,
            connect_to_accountant,
            self._describe,
            self._troubles,
            lambda: journal_name(books.place),
        )
        while True:
            self._committed.wait(self._config.flush_s * IDLE_FLUSHES)
            self._committed.clear()
            now_s = time.time()
            self._present.renew(time.time_ns())
            warn_of_refused(books.journal, self._troubles, now_s)
            try:
                courier.deliver(now_s)
                if self._troubles.end("accountant"):
                    _log.warning("the accountant takes deliveries again")
            except Exception as error:
                sentence = f"the accountant does not take deliveries, they wait in the journal: {error}"
                if self._troubles.begin("accountant", sentence, now_s):
                    _log.warning("%s", sentence)
                time.sleep(_RETRY_S)
                self._committed.set()

    def _describe(self, waiting: int) -> MeterCondition:
        books = self._books
        assert books is not None, "the courier works for open books"  # noqa: S101
        sentences = self._troubles.sentences(time.time())
        return MeterCondition(books.journal.meter, books.place.node, self._ray_node_id, waiting, sentences)


class _ByRay:
    """Deliveries as calls of the accountant, for a node whose network lets Ray through and nothing else."""

    def __init__(self, books: "BooksClient") -> None:
        self._books, self._until_s = books, time.monotonic() + _TRY_DOOR_AGAIN_S

    def deliver(self, delivery: Delivery) -> None:
        if time.monotonic() > self._until_s:
            raise Unavailable("it is time to try the accountant's door again")
        self._books.deliver(delivery, _DELIVERY_TIMEOUT_S)

    def close(self) -> None:
        return None


def connect_to_accountant() -> Taker:
    """The accountant's door, or calls where the door cannot be reached. Raises Unavailable."""
    books = _accountant()
    plate = books.door()
    try:
        return Caller(plate, _DELIVERY_TIMEOUT_S)
    except Unavailable as error:
        _log.warning("%s; delivering by Ray calls, which cost the accountant more", error)
        return _ByRay(books)


def _cluster() -> str:
    """Which ledger this is: a cluster has one."""
    return str(ray.get_runtime_context().gcs_address)


def _accountant() -> "BooksClient":
    from app.metering.accountant import connect_books

    return connect_books(create=True)


def show_present(board: BoardWriter, books: NodeBooks, intensity_g_per_kwh: float) -> None:
    """Put the present of the node on the board."""
    now_ns = time.monotonic_ns()
    devices = [
        Present(
            uuid_hash(uuid),
            track.device.kind.is_host,
            GRADE_BITS[track.device.grade],
            track.power_mw,
            track.floor.floor_mw,
            track.pace.pace,
            track.working.power_mw(now_ns),
        )
        for uuid, track in books.tracks.items()
    ]
    board.write(now_ns, intensity_g_per_kwh, devices)


MeterActor = ray.remote(Meter)
