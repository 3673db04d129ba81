"""The accountant: one named, detached actor on the head that keeps the ledger of the cluster.

A thin shell around engine/cluster_books.py, and the only creator of meters: a detached actor inherits the runtime
environment of the job that makes it, and a meter should not live in some job's working directory. The console makes the
accountant, from no job's environment; only where there is no console does the first replica or job.

    books = connect_books()            # needs ray.init() done
    books.report("model")
"""

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.access.snapshot import Poll, PollAnswer
from app.clock import SystemClock
from app.config import Settings, settings
from app.engine.cluster_books import ClusterBooks
from app.engine.delivery import Delivery
from app.engine.evidence import Evidence
from app.engine.spending_words import SpendingPoll, Told
from app.engine.views import (
    Audit,
    HourEnergy,
    MeasuredReceipt,
    MeasuredReceipts,
    PresentPrice,
    Receipt,
    Receipts,
    Report,
    ReportKey,
    Status,
)
from app.errors import JoulekeeperError, NotFound, Unavailable
from app.ledger.compaction import DAY_S, Retention
from app.ledger.ring import parse_receipt_id
from app.ledger.store import Store
from app.metering.access_desk import open_desk
from app.metering.census import Leftover, NodeCensus, leftover
from app.metering.door import Door, DoorPlate
from app.metering.meter import MeterActor
from app.metering.place import raise_priority
from app.telemetry.exporter import MetricsExporter
from app.telemetry.instruments import METRICS

_log = logging.getLogger(__name__)

NAMESPACE = "joulekeeper"
ACCOUNTANT = "accountant"
METER_PREFIX = "meter-"
RESIDENT_LABEL = "joulekeeper.io/meter"
"""Ray node label; `resident` keeps a meter on a node that the autoscaler does not release."""
HEAD_RESOURCE = "node:__internal_head__"

_CALL_TIMEOUT_S = 60.0
_METER_TIMEOUT_S = 20.0
_LOOK_EVERY_S = 3.0
_SETTLE_POLL_S = 0.1
_RECALL_S = 10.0
"""How long a receipt is asked for while its node's meter is on its way: Ray starts a process in seconds."""
_HOUSE_EVERY_S, _HOUSE_REST_S = 600.0, 1.0
_GARBAGE_AFTER = 20_000


class Accountant:
    """Keeps the ledger. Called from several threads."""

    def __init__(self) -> None:
        # Whoever only calls the accountant needs no grid providers.
        from app.metering.price_terms import PriceTerms
        from app.metering.spending_books import open_spending

        config = settings()
        raise_priority()
        # What was imported stays for ever; walking through it over and over costs more than the garbage is worth.
        gc.freeze()
        gc.set_threshold(_GARBAGE_AFTER, 20, 20)
        self._terms = PriceTerms(config, SystemClock())
        self._terms.keep_fresh()
        store = Store(config.store_url, _retention(config), at_once=False, bucket_s=config.bucket_s)
        self._books = ClusterBooks(store, self._terms.now, SystemClock())
        own = [metric for metric in METRICS if metric.pushed_by == "accountant"]
        self._exporter = MetricsExporter(self._books.snapshot, pushed=own)
        self._access = open_desk(config, self._books.used_by_tenant)
        self._spending = open_spending(config, self._books, self._terms.grid)
        self._door = Door(self._books.book, ray.util.get_node_ip_address())
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._census = NodeCensus(_ask_leftover, _answered)
        threading.Thread(target=self._keep_meters, name="meters", daemon=True).start()
        threading.Thread(target=self._keep_house, name="house", daemon=True).start()

    # Meters

    def ensure_meter(self, ray_node_id: str) -> None:
        """See to it that a meter watches the node; returns at once when there is one."""
        node = next((node for node in ray.nodes() if node["NodeID"] == ray_node_id and node["Alive"]), None)
        if node is not None:
            self._start_meter(node)

    def door(self) -> DoorPlate:
        """Where deliveries are taken, cheaply."""
        return self._door.plate

    @ray.method(concurrency_group="deliveries")
    def deliver(self, delivery: Delivery) -> None:
        """Book what a meter brings that cannot reach the door. Raises Unavailable, BooksDamaged."""
        self._door.deliver(delivery)

    def retire_meter(self, ray_node_id: str, actor_id: str) -> None:
        """Let go of a meter that has closed its books; one that has taken its place since is left alone."""
        with contextlib.suppress(ValueError):
            meter = ray.get_actor(_meter_name(ray_node_id), NAMESPACE)
            if meter._actor_id.hex() == actor_id:
                ray.kill(meter, no_restart=True)

    def close_books(self) -> int:
        """Before a planned stop: every meter takes a closing reading and goes. Returns how many did.

        No meter starts again until `open_books`.
        """
        with self._starting:
            self._closing.set()
        meters = _meters()
        closed = sum(bool(done) for done in _ask(meters, "leave"))
        for meter in meters:
            ray.kill(meter, no_restart=True)
        self._exporter.flush()
        return closed

    def open_books(self) -> None:
        """Take back `close_books`: meters start again where they are needed."""
        self._closing.clear()

    def _start_meter(self, node: dict[str, Any]) -> None:
        with self._starting:
            if not self._closing.is_set():
                _start_meter(node)

    def _keep_meters(self) -> None:
        """Residents always have a meter; a node that is new gets one if the last one left something to do there."""
        while True:
            try:
                alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
                for node_id in {*self._census.look(alive), *filter(lambda each: _is_resident(alive[each]), alive)}:
                    self._start_meter(alive[node_id])
            except Exception as error:
                _log.warning("meters could not be checked: %s", error)
            time.sleep(_LOOK_EVERY_S)

    def _keep_house(self) -> None:
        """Join old balances and seal old batches, a little at a time: deliveries go on meanwhile."""
        while True:
            time.sleep(_HOUSE_EVERY_S)
            try:
                while self._books.compact():
                    time.sleep(_HOUSE_REST_S)
            except Exception as error:
                _log.warning("the store could not be compacted, it is tried again later: %s", error)

    # Answers

    @ray.method(concurrency_group="access")
    def access(self, poll: Poll) -> PollAnswer:
        """What the gate of a replica or console tells, and what it may let in."""
        return self._access.answer(poll)

    @ray.method(concurrency_group="spending")
    def spending(self, poll: SpendingPoll) -> Told:
        """What a deployment with a budget may do until it asks again. See SpendingDesk.answer."""
        return self._spending.answer(poll)

    def report(self, by: ReportKey, since_s: float | None, until_s: float | None, tenant: str | None = None) -> Report:
        """See ClusterBooks.report."""
        return self._books.report(by, since_s, until_s, tenant)

    def job_hours(self, job: str) -> tuple[HourEnergy, ...]:
        """See ClusterBooks.job_hours."""
        return self._books.job_hours(job)

    @ray.method(concurrency_group="access")
    def present_price(self) -> PresentPrice:
        """See ClusterBooks.present_price."""
        return self._books.present_price()

    def status(self) -> Status:
        """See ClusterBooks.status."""
        status = self._books.status()
        if more := (*self._access.warnings, *self._terms.warnings):
            status = status.model_copy(update={"warnings": (*status.warnings, *more)})
        if not self._closing.is_set():
            return status
        closed = "the books are closed, nothing is metered; `joulekeeper ledger open` opens them"
        return status.model_copy(update={"warnings": (*status.warnings, closed)})

    def audit(self) -> Audit:
        """Recompute the books, with the testimony of every meter that answers."""
        testimonies: list[Evidence | None] = _ask(_meters(), "evidence")
        return self._books.audit([evidence for evidence in testimonies if evidence is not None])

    def receipt(self, receipt_id: str) -> Receipt:
        """A receipt from the node that holds it, as it is now, priced by the grid data of now."""
        tag, _, _ = parse_receipt_id(receipt_id)
        measured: MeasuredReceipt = _get(self._meter_of(tag, receipt_id).receipt.remote(receipt_id), _METER_TIMEOUT_S)
        return self._books.priced(measured)

    def receipts(self, receipt_ids: Sequence[str]) -> Receipts:
        """Many receipts from the nodes that hold them, as they are now."""
        by_tag: dict[str, list[str]] = {}
        for receipt_id in receipt_ids:
            by_tag.setdefault(parse_receipt_id(receipt_id)[0], []).append(receipt_id)
        found: list[Receipt] = []
        missing: dict[str, str] = {}
        for tag, ids in by_tag.items():
            try:
                answer: MeasuredReceipts = _get(self._meter_of(tag, ids[0]).receipts.remote(ids), _METER_TIMEOUT_S)
                found += map(self._books.priced, answer.receipts)
                missing |= answer.missing
            except NotFound as error:
                missing |= dict.fromkeys(ids, str(error))
        return Receipts(receipts=tuple(found), missing=missing)

    def prometheus(self) -> str:
        """Exposition text of all metrics."""
        return self._exporter.exposition()

    def _meter_of(self, tag: str, receipt_id: str) -> Any:
        """The meter of the node whose receipts begin with `tag`; one that left is called back."""
        known = {self._books.ray_node_of_tag(tag), self._census.node_of_tag(tag)}
        node = next((node for node in ray.nodes() if node["Alive"] and node["NodeID"] in known), None)
        if node is not None:
            self._start_meter(node)
            with contextlib.suppress(ValueError):
                return ray.get_actor(_meter_name(node["NodeID"]), NAMESPACE)
        if node is not None or not self._census.complete:
            raise Unavailable(f"receipt {receipt_id}: the meter of its node is not there yet; try again in a moment")
        raise NotFound(f"receipt {receipt_id}: no node of this cluster gave it, or the node is gone")


def _retention(config: Settings) -> Retention:
    days = (config.keep_batches_days, config.keep_minutes_days, config.keep_hours_days)
    return Retention(*(kept * DAY_S for kept in days))


def _meter_name(ray_node_id: str) -> str:
    return f"{METER_PREFIX}{ray_node_id}"


def _ask_leftover(ray_node_id: str) -> Any:
    """A task that says what the last meter of a node left there."""
    here = NodeAffinitySchedulingStrategy(ray_node_id, soft=False)
    return _leftover.options(scheduling_strategy=here).remote()


def _answered(reference: Any) -> Leftover | None:
    ready, _ = ray.wait([reference], timeout=0)
    return ray.get(reference) if ready else None


def _is_resident(node: dict[str, Any]) -> bool:
    return HEAD_RESOURCE in node["Resources"] or node.get("Labels", {}).get(RESIDENT_LABEL) == "resident"


def _start_meter(node: dict[str, Any]) -> None:
    MeterActor.options(
        name=_meter_name(node["NodeID"]),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_concurrency=4,
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
    ).remote(node["NodeID"], _is_resident(node))


def _meters() -> list[Any]:
    """Handles of the meters that exist now."""
    handles = []
    for entry in ray.util.list_named_actors(all_namespaces=True):
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(METER_PREFIX):
            with contextlib.suppress(ValueError):
                handles.append(ray.get_actor(entry["name"], NAMESPACE))
    return handles


def _ask(meters: Sequence[Any], method: str) -> list[Any]:
    """What each meter answers; those that do not answer in time are left out."""
    references = [getattr(meter, method).remote() for meter in meters]
    answers = []
    for reference in references:
        try:
            answers.append(_get(reference, _METER_TIMEOUT_S))
        except JoulekeeperError as error:
            _log.warning("a meter did not answer %s: %s", method, error)
    return answers


def _get(reference: Any, timeout_s: float) -> Any:
    """ray.get with our errors. Raises Unavailable when the actor does not answer, else what it raised."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except (RayActorError, GetTimeoutError, RayTaskError) as error:
        raise _translated(error) from error


def _translated(error: Exception) -> Exception:
    if isinstance(error, RayTaskError):
        cause = error.cause
        return cause if isinstance(cause, JoulekeeperError) else JoulekeeperError(str(error))
    return Unavailable(f"the books do not answer now, try again: {type(error).__name__}: {error}")


_leftover = ray.remote(num_cpus=0, max_retries=1)(leftover)
AccountantActor = ray.remote(concurrency_groups={"deliveries": 8, "access": 2, "spending": 1})(Accountant)


class BooksClient:
    """The accountant as others call it. The `a...` methods are for event loops."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def ensure_meter(self, ray_node_id: str) -> None:
        """Ask for a meter on a node."""
        _get(self._actor.ensure_meter.remote(ray_node_id), _CALL_TIMEOUT_S)

    def retire_meter(self, ray_node_id: str, actor_id: str) -> None:
        """Say that the meter of a node, this actor, has closed its books."""
        self._actor.retire_meter.remote(ray_node_id, actor_id)

    def door(self) -> DoorPlate:
        """Where deliveries are taken."""
        plate: DoorPlate = _get(self._actor.door.remote(), _CALL_TIMEOUT_S)
        return plate

    def deliver(self, delivery: Delivery, timeout_s: float) -> None:
        """Book without the door. Raises Unavailable (nothing is known of it, deliver again), BooksDamaged."""
        _get(self._actor.deliver.remote(delivery), timeout_s)

    def access(self, poll: Poll, timeout_s: float) -> PollAnswer:
        """Tell and ask for a gate."""
        answer: PollAnswer = _get(self._actor.access.remote(poll), timeout_s)
        return answer

    def spending(self, poll: SpendingPoll, timeout_s: float) -> Told:
        """Tell and ask for a purse. Raises InvalidInput, Unavailable."""
        told: Told = _get(self._actor.spending.remote(poll), timeout_s)
        return told

    def close_books(self) -> int:
        """Have every meter take a closing reading and go; returns how many did."""
        return int(_get(self._actor.close_books.remote(), _CALL_TIMEOUT_S))

    def open_books(self) -> None:
        """Take back `close_books`."""
        _get(self._actor.open_books.remote(), _CALL_TIMEOUT_S)

    def report(self, by: ReportKey, since_s: float | None = None, until_s: float | None = None) -> Report:
        """Energy and carbon of a period; None: from the beginning, until now (Unix seconds)."""
        return _get(self._actor.report.remote(by, since_s, until_s), _CALL_TIMEOUT_S)

    def job_hours(self, job: str) -> tuple[HourEnergy, ...]:
        """What all attempts of a job were charged, by the buckets of the books."""
        return _get(self._actor.job_hours.remote(job), _CALL_TIMEOUT_S)

    def present_price(self) -> PresentPrice:
        """Carbon of a kWh of devices now, and until when."""
        return _get(self._actor.present_price.remote(), _METER_TIMEOUT_S)

    def audit(self) -> Audit:
        """Recompute the books and compare."""
        return _get(self._actor.audit.remote(), 10 * _CALL_TIMEOUT_S)

    def receipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        """One receipt, waited for up to `settle_timeout_s` until it is settled.

        Raises NotFound, InvalidInput, Unavailable.
        """
        begun = time.monotonic()
        while True:
            try:
                receipt: Receipt = _get(self._actor.receipt.remote(receipt_id), _CALL_TIMEOUT_S)
                if not receipt.provisional or time.monotonic() - begun >= settle_timeout_s:
                    return receipt
            except Unavailable:  # the meter of its node may just be called back
                if time.monotonic() - begun >= max(settle_timeout_s, _RECALL_S):
                    raise
            time.sleep(_SETTLE_POLL_S)

    def status(self) -> Status:
        """The live picture."""
        return _get(self._actor.status.remote(), _CALL_TIMEOUT_S)

    def prometheus(self) -> str:
        """Exposition text."""
        return _get(self._actor.prometheus.remote(), _CALL_TIMEOUT_S)

    async def areport(
        self, by: ReportKey, since_s: float | None = None, until_s: float | None = None, tenant: str | None = None
    ) -> Report:
        """Like report; of one tenant if one is named."""
        return await _awaited(self._actor.report.remote(by, since_s, until_s, tenant))

    async def areceipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        """Like receipt."""
        begun = time.monotonic()
        while True:
            try:
                receipt: Receipt = await _awaited(self._actor.receipt.remote(receipt_id))
                if not receipt.provisional or time.monotonic() - begun >= settle_timeout_s:
                    return receipt
            except Unavailable:
                if time.monotonic() - begun >= max(settle_timeout_s, _RECALL_S):
                    raise
            await asyncio.sleep(_SETTLE_POLL_S)

    async def areceipts(self, receipt_ids: Sequence[str]) -> Receipts:
        """Many receipts as they are now. Raises InvalidInput, Unavailable."""
        return await _awaited(self._actor.receipts.remote(receipt_ids))

    async def astatus(self) -> Status:
        """Like status."""
        return await _awaited(self._actor.status.remote())

    async def aprometheus(self) -> str:
        """Like prometheus."""
        return await _awaited(self._actor.prometheus.remote())


async def _awaited(reference: Any) -> Any:
    try:
        return await asyncio.wait_for(reference, _CALL_TIMEOUT_S)
    except (RayActorError, RayTaskError, TimeoutError) as error:
        raise _translated(error) from error


def connect_books(create: bool = False) -> BooksClient:
    """The accountant of this cluster; `create` starts one if there is none. Raises Unavailable."""
    if create:
        actor = AccountantActor.options(
            name=ACCOUNTANT,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=16,
            num_cpus=0,
            resources={HEAD_RESOURCE: 0.001},
        ).remote()
        return BooksClient(actor)
    try:
        return BooksClient(ray.get_actor(ACCOUNTANT, NAMESPACE))
    except ValueError as error:
        raise Unavailable("no accountant keeps books on this cluster; it starts with the first model or job") from error
