"""The accountant: one named, detached actor on the head that keeps the ledger of the cluster.

A thin shell around engine/cluster_books.py, and the only creator of meters: a detached actor inherits the runtime
environment of the job that makes it, and a meter should not live in some job's working directory. The console makes the
accountant, from no job's environment; only where there is no console does the first replica or job.

    books = connect_books()            # needs ray.init() done
    books.report("model")
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.carbon.footprint import carbon_settings
from app.clock import SystemClock
from app.config import settings
from app.engine.cluster_books import ClusterBooks
from app.engine.evidence import Evidence
from app.engine.views import Audit, Receipt, Report, ReportKey, Status
from app.errors import JoulekeeperError, NotFound, Unavailable
from app.ledger.journal import Batch
from app.ledger.ring import parse_receipt_id
from app.ledger.store import Store
from app.metering.meter import MeterActor
from app.telemetry.exporter import MetricsExporter

_log = logging.getLogger(__name__)

NAMESPACE = "joulekeeper"
ACCOUNTANT = "accountant"
METER_PREFIX = "meter-"
RESIDENT_LABEL = "joulekeeper.io/meter"
"""Ray node label; `resident` keeps a meter on a node that the autoscaler does not release."""
HEAD_RESOURCE = "node:__internal_head__"

_CALL_TIMEOUT_S = 60.0
_METER_TIMEOUT_S = 20.0
_RESIDENTS_EVERY_S = 10.0
_SETTLE_POLL_S = 0.1


class Accountant:
    """Keeps the ledger. Called from several threads."""

    def __init__(self) -> None:
        config = settings()
        carbon = carbon_settings(zone=config.zone, pue=config.pue)
        self._books = ClusterBooks(Store(config.store_url), carbon, SystemClock())
        self._exporter = MetricsExporter(self._books.snapshot)
        self._ray_node_of: dict[str, str] = {}
        self._closing = threading.Event()
        self._starting = threading.Lock()
        threading.Thread(target=self._keep_residents, name="residents", daemon=True).start()

    # Meters

    def ensure_meter(self, ray_node_id: str) -> None:
        """See to it that a meter watches the node; returns at once when there is one."""
        node = next((node for node in ray.nodes() if node["NodeID"] == ray_node_id and node["Alive"]), None)
        if node is not None:
            self._start_meter(node)

    def deliver(self, batches: Sequence[Batch], ray_node_id: str) -> tuple[int, int]:
        """Book the batches of one meter; returns the position of the last. Raises Unavailable."""
        self._ray_node_of[batches[0].meter] = ray_node_id
        return self._books.deliver(batches)

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

    def _keep_residents(self) -> None:
        while True:
            try:
                for node in ray.nodes():
                    if node["Alive"] and _is_resident(node):
                        self._start_meter(node)
            except Exception as error:
                _log.warning("resident meters could not be checked: %s", error)
            time.sleep(_RESIDENTS_EVERY_S)

    # Answers

    def report(self, by: ReportKey, since_s: float | None, until_s: float | None) -> Report:
        """See ClusterBooks.report."""
        return self._books.report(by, since_s, until_s)

    def status(self) -> Status:
        """See ClusterBooks.status."""
        status = self._books.status()
        if not self._closing.is_set():
            return status
        closed = "the books are closed, nothing is metered; `joulekeeper ledger open` opens them"
        return status.model_copy(update={"warnings": (*status.warnings, closed)})

    def audit(self) -> Audit:
        """Recompute the books, with the testimony of every meter that answers."""
        testimonies: list[Evidence | None] = _ask(_meters(), "evidence")
        return self._books.audit([evidence for evidence in testimonies if evidence is not None])

    def receipt(self, receipt_id: str) -> Receipt:
        """A receipt from the node that holds it, as it is now."""
        tag, _, _ = parse_receipt_id(receipt_id)
        receipt: Receipt = _get(self._meter_of(tag, receipt_id).receipt.remote(receipt_id), _METER_TIMEOUT_S)
        return receipt

    def prometheus(self) -> str:
        """Exposition text of all metrics."""
        return self._exporter.exposition()

    def _meter_of(self, tag: str, receipt_id: str) -> Any:
        """The meter of the node whose receipts begin with `tag`; one that left is called back."""
        name = self._books.meter_of_tag(tag)
        ray_node_id = self._ray_node_of.get(name or "")
        if ray_node_id is None:
            for meter in _meters():
                with contextlib.suppress(JoulekeeperError):
                    if _get(meter.tag.remote(), _METER_TIMEOUT_S) == tag:
                        return meter
            raise NotFound(f"receipt {receipt_id}: no node of this cluster gave it, or the node is gone")
        self.ensure_meter(ray_node_id)
        try:
            return ray.get_actor(_meter_name(ray_node_id), NAMESPACE)
        except ValueError as error:
            raise NotFound(f"receipt {receipt_id}: its node {ray_node_id[:12]} has left the cluster") from error


def _meter_name(ray_node_id: str) -> str:
    return f"{METER_PREFIX}{ray_node_id}"


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


AccountantActor = ray.remote(Accountant)


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

    def deliver(self, batches: Sequence[Batch], ray_node_id: str, timeout_s: float) -> None:
        """Book batches of one meter. Raises Unavailable: nothing is known of them then, deliver again."""
        _get(self._actor.deliver.remote(batches, ray_node_id), timeout_s)

    def close_books(self) -> int:
        """Have every meter take a closing reading and go; returns how many did."""
        return int(_get(self._actor.close_books.remote(), _CALL_TIMEOUT_S))

    def open_books(self) -> None:
        """Take back `close_books`."""
        _get(self._actor.open_books.remote(), _CALL_TIMEOUT_S)

    def report(self, by: ReportKey, since_s: float | None = None, until_s: float | None = None) -> Report:
        """Energy and carbon of a period; None: from the beginning, until now (Unix seconds)."""
        return _get(self._actor.report.remote(by, since_s, until_s), _CALL_TIMEOUT_S)

    def audit(self) -> Audit:
        """Recompute the books and compare."""
        return _get(self._actor.audit.remote(), 10 * _CALL_TIMEOUT_S)

    def receipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        """One receipt, waited for up to `settle_timeout_s` until it is settled.

        Raises NotFound, InvalidInput, Unavailable.
        """
        deadline = time.monotonic() + settle_timeout_s
        while True:
            receipt: Receipt = _get(self._actor.receipt.remote(receipt_id), _CALL_TIMEOUT_S)
            if not receipt.provisional or time.monotonic() >= deadline:
                return receipt
            time.sleep(_SETTLE_POLL_S)

    def status(self) -> Status:
        """The live picture."""
        return _get(self._actor.status.remote(), _CALL_TIMEOUT_S)

    def prometheus(self) -> str:
        """Exposition text."""
        return _get(self._actor.prometheus.remote(), _CALL_TIMEOUT_S)

    async def areport(self, by: ReportKey, since_s: float | None = None, until_s: float | None = None) -> Report:
        """Like report."""
        return await _awaited(self._actor.report.remote(by, since_s, until_s))

    async def areceipt(self, receipt_id: str, settle_timeout_s: float = 0) -> Receipt:
        """Like receipt."""
        deadline = time.monotonic() + settle_timeout_s
        while True:
            receipt: Receipt = await _awaited(self._actor.receipt.remote(receipt_id))
            if not receipt.provisional or time.monotonic() >= deadline:
                return receipt
            await asyncio.sleep(_SETTLE_POLL_S)

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
