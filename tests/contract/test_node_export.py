"""What a node pushes, as a real receiver gets it: counters that outlive the meter, dated from their first batch."""

import threading
from pathlib import Path

import pytest

from app.clock import ManualClock
from app.domain.account import IDLE_WATCHED, request_account
from app.engine.node_export import NodeExport
from app.ledger.journal import Journal
from app.telemetry.exporter import MetricsExporter
from app.telemetry.instruments import METRICS
from app.telemetry.snapshot import LedgerSnapshot, MeterHealth
from tests.fixtures.batches import WALL_NS, body
from tests.fixtures.otlp import Receiver, grpc_receiver

REQUEST = request_account("acme", "a", "1")
VITALS = {"power_mw": 5, "utilization": 0.5, "memory_used_bytes": 1, "memory_total_bytes": 2, "temperature_c": 40.0}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch):
    with grpc_receiver() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
        yield running


class Life:
    """One life of a node's meter: its journal and its export."""

    def __init__(self, directory: Path, node: str = "node") -> None:
        self.node = node
        self.journal = Journal(directory / node, f"machine:{node}")
        clock = ManualClock(wall_ns=WALL_NS)
        self.export = NodeExport(self.journal, directory / f"{node}.totals", threading.Lock(), lambda: 400.0, clock)

    def book(self, n: int) -> None:
        contents = body([(n, 4 * n), (n + 1, 4 * n + 4)], {REQUEST: 3, IDLE_WATCHED: 1}, minute=n, node=self.node)
        self.export.add(self.journal.append(contents | {"vitals": {"GPU-1": VITALS}}))


def sum_uj(receiver: Receiver, metric: str, node: str) -> int:
    points = [joules for labels, joules in receiver.points(metric) if labels["joulekeeper.node"] == node]
    return round(sum(points) * 1e6)


def test_counters_go_on_over_the_lives_of_meters_with_the_start_time_of_the_first(tmp_path: Path, receiver: Receiver):
    lives = []
    for life_number in range(3):
        lives.append(life := Life(tmp_path))
        life.book(2 * life_number)
        life.book(2 * life_number + 1)
        if life_number != 1:  # the second one is killed
            life.export.close()
            for metric in ("joulekeeper.energy", "hw.energy"):
                assert sum_uj(receiver, metric, "node") == 8 * (life_number + 1)
                data = receiver.metrics()[metric].sum
                assert {point.start_time_unix_nano for point in data.data_points} == {WALL_NS}
                assert data.aggregation_temporality == data.aggregation_temporality.__class__(2)  # cumulative
    assert receiver.resource()["service.instance.id"] == "machine:node"
    lives[1].export.close()


def test_node_and_accountant_together_push_every_metric_once(tmp_path: Path, receiver: Receiver):
    life = Life(tmp_path)
    life.book(0)
    life.export.close()
    by_node = set(receiver.metrics())
    own = [metric for metric in METRICS if metric.pushed_by == "accountant"]
    snapshot = LedgerSnapshot(meters=(MeterHealth("node", True, 0.1, 1, 0),), warnings=0)
    accountant = MetricsExporter(lambda: snapshot, pushed=own)
    receiver.resource_metrics.clear()
    accountant.close()
    by_accountant = set(receiver.metrics())
    assert not by_node & by_accountant
    assert by_accountant == {metric.name for metric in own}
    assert {"joulekeeper.energy", "joulekeeper.carbon", "joulekeeper.meter.waiting", "hw.energy", "hw.power"} <= by_node


def test_without_the_variables_no_totals_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    life = Life(tmp_path)
    life.book(0)
    life.export.close()
    assert not (tmp_path / "node.totals").exists()
    assert life.export.snapshot() == LedgerSnapshot()
