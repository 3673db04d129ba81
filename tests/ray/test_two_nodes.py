"""Two nodes: a meter on each that has work, gone with the last of it, and what passed meanwhile booked on return.

`ray.cluster_utils.Cluster` gives both nodes on one host; each has a GPU of its own through its own NVML script, and a
state directory and machine id of its own, as two hosts would. A node that crashed comes back as another Ray node on its
old state directory.
"""

import contextlib
import time

import psutil
import pytest
import ray
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.domain.account import job_account
from app.errors import Unavailable
from app.metering.accountant import METER_PREFIX, NAMESPACE, connect_books
from tests.fixtures.otlp import grpc_receiver
from tests.fixtures.ray_cluster import ROOT
from tests.stubs.nvml.stub import StubDevice, StubScript

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

WATTS = 200
LINGER_S = 1
AWAY_S = 3


@ray.remote(num_cpus=0, num_gpus=1, max_concurrency=2)
class Worker:
    """A piece of work on one node: slices of 50 ms until it is told to finish."""

    def __init__(self):
        import threading

        self._finish = threading.Event()

    def finish(self):
        self._finish.set()

    def work(self, job):
        import time

        from app.metering.client import WorkClient
        from app.metering.devices import visible_accelerators

        account = job_account("default", job, 1)
        client = WorkClient.open(account, devices=visible_accelerators())
        self._receipts = []
        while not self._finish.is_set():
            piece = client.begin(account)
            time.sleep(0.05)
            piece.end()
            self._receipts.append(piece.receipt_id)
        client.close()
        return visible_accelerators()

    def receipts(self):
        """Ids of the slices so far."""
        return list(self._receipts)


@pytest.fixture
def receiver():
    with grpc_receiver() as receiver:
        yield receiver


@pytest.fixture
def environment(nvml_library, tmp_path, receiver):
    """What makes a process belong to the node of a name."""

    def environment(name):
        stub = nvml_library.with_script(tmp_path / f"{name}.script")
        stub.write(StubScript(devices=(StubDevice(uuid=f"GPU-{name}", phases=((0, WATTS * 1000),)),), tick_ms=20))
        return stub.env() | {
            "JOULEKEEPER_STATE_DIR": str(tmp_path / name),
            "JOULEKEEPER_MACHINE": name,
            "JOULEKEEPER_NODE": name,
            "JOULEKEEPER_SENSORS": "nvml",
            "JOULEKEEPER_LINGER_S": str(LINGER_S),
            "JOULEKEEPER_SETTLE_LAG_S": "0.5",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        }

    return environment


@pytest.fixture
def cluster(environment, monkeypatch):
    faster_deaths = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    for name, value in {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT), **faster_deaths}.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, num_gpus=0, env_vars=environment("head"))
        nodes = {name: cluster.add_node(num_cpus=1, num_gpus=1, env_vars=environment(name)) for name in ("one", "two")}
        ray.init(address=cluster.address, namespace="tests", log_to_driver=False)
        yield {name: node.node_id for name, node in nodes.items()}, cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def metered():
    """Ray node ids of the nodes that have a meter."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    return {
        actor["name"].removeprefix(METER_PREFIX)
        for actor in actors
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(METER_PREFIX)
    }


def idle_ms(cluster, node_id):
    """How long the autoscaler would say that the node has been idle."""
    state = get_cluster_resource_state(GcsClient(address=cluster.address))
    return next(node.idle_duration_ms for node in state.node_states if node.node_id.hex() == node_id)


def await_that(condition, what, timeout_s=90):  # Ray gives its workers a low priority: slow on a busy machine
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(Unavailable):
            if condition():
                return
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.1)


@ray.remote(num_cpus=0)
def held():
    from app.metering.devices import visible_accelerators

    return visible_accelerators()


def kill_accountant():
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::Accountant"):
                process.kill()
                return
    raise AssertionError("no accountant to kill")


class Work:
    """A worker on a node, let go of as soon as its result is in."""

    def __init__(self, node_id, job):
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
        self._worker = Worker.options(scheduling_strategy=strategy).remote()
        self._result = self._worker.work.remote(job)

    def receipts(self):
        """Ids of its slices so far."""
        return ray.get(self._worker.receipts.remote(), timeout=60)

    def result(self, seconds):
        """What it says after working for `seconds` more."""
        time.sleep(seconds)
        self._worker.finish.remote()
        result = ray.get(self._result, timeout=60)
        ray.kill(self._worker)
        return result


def energy_of(books, node):
    """Energy by (account, kind) of one node."""
    report = books.report("account")
    by_node = {row.group["node"]: row.energy_uj for row in books.report("node").rows}
    return by_node.get(node, 0), {
        (row.group["account"], row.group.get("kind", "")): row.energy_uj for row in report.rows
    }


def test_meters_come_with_work_and_leave_with_it(cluster, receiver):
    nodes, ray_cluster = cluster
    books = connect_books(create=True)

    work = {name: Work(node_id, f"job-{name}") for name, node_id in nodes.items()}
    await_that(lambda: set(nodes.values()) <= metered(), "a meter watches each node")
    await_that(lambda: all(energy_of(books, name)[0] for name in nodes), "each has booked something")
    assert {name: piece.result(2) for name, piece in work.items()} == {name: [f"GPU-{name}"] for name in nodes}

    await_that(lambda: not metered() & set(nodes.values()), "both meters have left")
    await_that(lambda: all(idle_ms(ray_cluster, node_id) > 1500 for node_id in nodes.values()), "the nodes grow idle")
    first_uj, accounts = energy_of(books, "one")
    assert first_uj > 2 * WATTS * 1e6
    assert ("idle", "unwatched") not in accounts
    audit = books.audit()
    assert audit.ok, audit.faults

    time.sleep(AWAY_S)
    work_again = Work(nodes["one"], "job-one-again")
    await_that(lambda: nodes["one"] in metered(), "a meter has come back")
    work_again.result(2)
    await_that(lambda: nodes["one"] not in metered(), "the second meter has left too")
    _, accounts = energy_of(books, "one")
    # The counter ran on at 200 W while nobody watched; all of it is on the books, nearly all of it as unwatched idle.
    assert accounts["idle", "unwatched"] > 0.9 * AWAY_S * WATTS * 1e6
    audit = books.audit()
    assert audit.ok, audit.faults
    assert [device.difference_uj for device in audit.devices] == [0] * len(audit.devices)
    assert audit.gap_share == 0

    # Each node pushes its own figures; once the books are closed they add up to the ledger, to the microjoule.
    books.close_books()
    ledger_uj = books.report("account").energy_uj
    for metric in ("joulekeeper.energy", "hw.energy"):
        await_that(
            lambda metric=metric: round(receiver.sum_over_senders(metric) * 1e6) == ledger_uj, f"{metric} is the ledger"
        )


def test_the_books_of_a_crashed_node_are_closed_when_it_is_back_though_nobody_works_there(cluster, environment):
    nodes, ray_cluster = cluster
    books = connect_books(create=True)
    work = Work(nodes["one"], "job-one")
    await_that(lambda: energy_of(books, "one")[0] > 2 * WATTS * 1e6, "the node has booked two seconds")
    receipts = work.receipts()[-20:]  # one second: none of them from before the first reading

    crashed = next(node for node in ray_cluster.worker_nodes if node.node_id == nodes["one"])
    ray_cluster.remove_node(crashed, allow_graceful=False)
    before_uj = energy_of(books, "one")[0]
    kill_accountant()
    back = ray_cluster.add_node(num_cpus=1, num_gpus=1, env_vars=environment("one")).node_id

    await_that(lambda: energy_of(books, "one")[0] > before_uj, "what the crash left is booked")
    await_that(lambda: back not in metered(), "the meter that booked it has left")
    found = [books.receipt(receipt_id, settle_timeout_s=30) for receipt_id in receipts]
    assert [receipt.provisional for receipt in found] == [False] * len(receipts)
    assert min(receipt.energy_uj for receipt in found) > 0
    await_that(lambda: back not in metered(), "the meter that was called back for the receipts has left")
    audit = books.audit()
    assert audit.ok, audit.faults
    assert [device.difference_uj for device in audit.devices] == [0] * len(audit.devices)


def test_work_that_reserved_no_gpu_holds_none_though_it_could_see_them_all(cluster):
    nodes, _ = cluster
    here = NodeAffinitySchedulingStrategy(nodes["one"], soft=False)
    assert ray.get(held.options(num_gpus=0, scheduling_strategy=here).remote(), timeout=60) == []
    assert ray.get(held.options(num_gpus=1, scheduling_strategy=here).remote(), timeout=60) == ["GPU-one"]
