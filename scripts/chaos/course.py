"""The course of a chaos run: bring up, load, kill, let recover, examine. Prints where it is; returns plain figures."""

import contextlib
import logging
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray

from app.engine.views import Audit
from app.errors import JoulekeeperError
from app.metering.accountant import BooksClient, connect_books
from app.units import NS_PER_S
from scripts.chaos.books_check import BooksCheck, check_books, counter_difference_uj, gap_rows
from scripts.chaos.ground import NODES, TwoNodes, wait_until
from scripts.chaos.kills import WEIGHTS, Killer, plan
from scripts.chaos.load import MODEL, Clients, Training
from scripts.chaos.postgres import Postgres
from scripts.chaos.power import BUSY_MW, PowerWatch
from scripts.chaos.receipts_check import ReceiptsCheck, check_receipts
from scripts.chaos.schedule import Schedule

STORES = ("postgresql", "sqlite")
_CLIENTS = 3
_EPOCHS = 20
_RECOVERY_S = 180.0
_BASELINE_S = 3.0
"""After the meters have started: the energy of work before the first reading of a device is on no books."""
_LAST_LOAD_S = 5.0
"""Load after all has come back, so that the run does not end in the middle of a recovery."""
_CALM_UJ = 10 * BUSY_MW * 1000
"""Ten seconds of a GPU: what may still wait for its batch at the end."""
_METER, _REPLICA, _WORKER = "ray::Meter", "ray::ServeReplica", "ray::RayTrainWorker"


class Course:
    """One run."""

    def __init__(self, kills: int, seed: int, mean_pause_s: float, store: str, keep: bool) -> None:
        self._kills, self._seed, self._mean_pause_s = kills, seed, mean_pause_s
        self._store, self._keep = store, keep
        self._started_s = time.monotonic()

    def run(self) -> dict[str, Any]:
        """From nothing to nothing; raises RuntimeError when the cluster does not come up or does not recover."""
        with contextlib.ExitStack() as stack:
            directory = self._directory(stack)
            database, store_url = _database(stack, self._store, directory)
            schedule = Schedule(time.monotonic_ns())
            ground = stack.enter_context(TwoNodes(directory, store_url))
            clients, training = self._bring_up(stack, ground, schedule)
            killer = Killer(ground, database, lambda: connect_books().status().warnings, self._tell)
            begun_ns = time.monotonic_ns()
            kinds = {kind: weight for kind, weight in WEIGHTS.items() if kind != "postgres" or database}
            killer.carry_out(plan(self._kills, self._seed, self._mean_pause_s, kinds))
            ended_ns = time.monotonic_ns()
            self._recover(ground, clients, training)
            books = connect_books()
            self._tell(f"asking for {len(clients.answered)} receipts")
            receipts = check_receipts(books, clients.answered)
            self._tell("auditing")
            audit = _settled_audit(books, 60)
            journals = [ground.state_of(node) / "journal" for node in NODES]
            checked = check_books(store_url, journals, killer.done)
            return {
                "asked": self._kills,
                "seed": self._seed,
                "store": self._store,
                "kills": dict(Counter(kill.kind for kill in killer.done)),
                "outages": dict(killer.outages),
                "killing_s": round((ended_ns - begun_ns) / NS_PER_S, 1),
                "requests": clients.figures(),
                "jobs": {"finished": training.finished, "failed": training.failed},
                **_audited(audit, checked, ground, begun_ns),
                "receipts": _receipts(receipts, checked),
            }

    def _directory(self, stack: contextlib.ExitStack) -> Path:
        if self._keep:
            return Path(tempfile.mkdtemp(prefix="joulekeeper-chaos-"))
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="joulekeeper-chaos-")))

    def _bring_up(self, stack: contextlib.ExitStack, ground: TwoNodes, schedule: Schedule) -> tuple[Clients, Training]:
        self._tell(f"two nodes are up in {ground.directory}")
        power = PowerWatch(ground.gpus, lambda: _working(ground, schedule))
        power.start()
        stack.callback(power.stop)
        ground.head.deploy(_applications(), timeout_s=_RECOVERY_S)
        ray.init(address=ground.head.address, namespace="chaos", log_to_driver=False, logging_level=logging.ERROR)
        stack.callback(ray.shutdown)
        clients = Clients(_CLIENTS, schedule)
        training = Training(ground.directory, ground.driver_environment, _EPOCHS)
        training.start()
        stack.callback(training.stop)
        wait_until(lambda: _all_run(ground), "meters and replicas run on both nodes", _RECOVERY_S)
        time.sleep(_BASELINE_S)
        clients.start()
        stack.callback(clients.stop)
        wait_until(lambda: _nodes_with(ground, _WORKER) != set(), "a job trains", _RECOVERY_S)
        self._tell("serving and training; the killing begins")
        return clients, training

    def _recover(self, ground: TwoNodes, clients: Clients, training: Training) -> None:
        self._tell("the killing is over; waiting until all is back")
        wait_until(lambda: _all_run(ground), "meters and replicas are back on both nodes", _RECOVERY_S)
        time.sleep(_LAST_LOAD_S)
        training.stop()
        clients.stop()

    def _tell(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started_s:4.0f}s] {text}", flush=True)


def _database(stack: contextlib.ExitStack, store: str, directory: Path) -> tuple[Postgres | None, str]:
    """What can be killed, and the URL of the books."""
    if store == "sqlite":
        return None, f"sqlite:///{directory}/books.sqlite"
    database = stack.enter_context(Postgres())
    return database, database.url


def _applications() -> dict[str, Any]:
    """One replica on each node, and no console: it has no part in this."""
    actor = {"num_cpus": 0.3, "num_gpus": 0.5}
    model = {"name": "Model", "num_replicas": 2, "max_replicas_per_node": 1, "ray_actor_options": actor}
    pulse = {
        "name": MODEL,
        "route_prefix": f"/v2/models/{MODEL}",
        "import_path": "scripts.chaos.pulse_app:build",
        "args": {"name": MODEL, "source": "package:none"},
        "deployments": [model | {"health_check_period_s": 2, "health_check_timeout_s": 10}],
    }
    http = {"host": "127.0.0.1", "port": 8000}
    return {"proxy_location": "HeadOnly", "http_options": http, "applications": [pulse]}


def _nodes_with(ground: TwoNodes, title: str) -> frozenset[str]:
    return frozenset(node for node, _, found in ground.workers() if found.startswith(title))


def _working(ground: TwoNodes, schedule: Schedule) -> frozenset[str]:
    """Nodes whose GPU is at work."""
    return _nodes_with(ground, _REPLICA) if schedule.is_busy(time.monotonic_ns()) else frozenset()


def _all_run(ground: TwoNodes) -> bool:
    both = set(NODES)
    if _nodes_with(ground, _METER) != both or _nodes_with(ground, _REPLICA) != both:
        return False
    return [replica["state"] for replica in ground.head.replicas(MODEL)] == ["RUNNING"] * len(NODES)


def _settled_audit(books: BooksClient, timeout_s: float) -> Audit:
    """The first clean audit in which nothing large is pending, or the last one in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            audit = books.audit()
            if audit.ok and all(device.pending_uj < _CALM_UJ for device in audit.devices):
                return audit
            if time.monotonic() > deadline:
                return audit
        except JoulekeeperError:
            if time.monotonic() > deadline:
                raise
        time.sleep(2)


def _audited(audit: Audit, checked: BooksCheck, ground: TwoNodes, begun_ns: int) -> dict[str, Any]:
    against_script = {
        gpu.uuid: counter_difference_uj(check, gpu)
        for key, check in checked.devices.items()
        for gpu in ground.gpus.values()
        if key.endswith(f"/{gpu.uuid}")
    }
    return {
        "audit_ok": audit.ok,
        "audit_faults": list(audit.faults),
        "off_uj": {device.device_key.rpartition("/")[2]: device.difference_uj for device in audit.devices},
        "energy_uj": audit.energy_uj,
        "script_off_uj": {uuid: off for uuid, (off, _) in against_script.items()},
        "last_reading_off_uj": {uuid: off for uuid, (_, off) in against_script.items()},
        "meters": checked.meters,
        "batches": checked.batches,
        "posted_twice": checked.posted_twice,
        "holes": checked.holes,
        "undelivered": checked.undelivered,
        "gap_share": audit.gap_share,
        "gap_unexplained_uj": sum(gap.energy_uj for gap in checked.unexplained),
        "gaps": gap_rows(checked.gaps, begun_ns),
        "without_meter_s": {node: round(seconds, 1) for node, seconds in checked.dead_s.items()},
    }


def _receipts(receipts: ReceiptsCheck, checked: BooksCheck) -> dict[str, Any]:
    first_ns = {device.node: device.first[0] for device in checked.devices.values()}
    early = sum(at_ns < first_ns[node] + NS_PER_S for node, at_ns in receipts.without_energy)
    return {
        "answered": receipts.answered,
        "settled": receipts.settled,
        "provisional": receipts.provisional,
        "lost": len(receipts.lost),
        "lost_first": receipts.lost[:20],
        "without_energy": len(receipts.without_energy),
        "of_them_before_the_first_reading": early,
        "energy_uj": receipts.energy_uj,
        "retries": dict(receipts.retries),
    }
