"""A node's running totals: those of its whole journal, whoever died in between, and what is exported of them."""

import shutil
from pathlib import Path

import pytest

from app.domain.account import IDLE_WATCHED, request_account
from app.engine.node_snapshot import node_snapshot
from app.engine.node_totals import NodeTotals
from app.ledger.journal import Journal
from tests.fixtures.batches import WALL_NS, body

REQUEST = request_account("acme", "a", "1")


class Node:
    """A journal that books 3 uJ to a request and 1 uJ to idle in every batch."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.count = directory, 0
        self.g_per_kwh = 3_600_000.0  # a microgram for each microjoule
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.directory / "journal", "m")
        self.totals = NodeTotals(self.directory / "totals", self.journal, lambda: self.g_per_kwh)

    def write(self, count: int = 1, boot: str = "boot", tell: bool = True) -> None:
        for n in range(self.count, self.count + count):
            raw = [(n, 4 * n), (n + 1, 4 * n + 4)]
            batch = self.journal.append(body(raw, {REQUEST: 3, IDLE_WATCHED: 1}, minute=n, boot=boot))
            if tell:
                self.totals.add(batch)
        self.count += count

    def energy_uj(self) -> int:
        return sum(total.energy_uj for total in self.totals.lines.values())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("batches", [0, 1, 59, 60, 61, 150])
def test_totals_go_on_where_they_were_after_a_kill_at_any_moment(node: Node, batches: int):
    node.write(batches)
    node.write(tell=False)  # killed between journal and totals
    node.open()
    assert node.energy_uj() == 4 * (batches + 1)
    node.write()
    assert node.energy_uj() == 4 * (batches + 2)
    assert node.totals.since_ns == WALL_NS


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b'{"meter":')])
def test_a_checkpoint_that_was_lost_is_made_from_the_journal_again(node: Node, damage):
    node.write(70)
    damage(node.directory / "totals")
    node.open()
    assert (node.energy_uj(), node.totals.since_ns) == (280, WALL_NS)


def test_totals_whose_beginning_is_gone_begin_anew_and_say_since_when(node: Node):
    node.write(3)
    node.open()
    node.write(2)
    (node.directory / "journal" / "00000001.journal").unlink()
    (node.directory / "totals").unlink(missing_ok=True)
    node.open()
    assert (node.energy_uj(), node.totals.since_ns) == (8, WALL_NS + 3 * 60_000_000_000)


def test_a_journal_that_was_lost_begins_new_counters(node: Node):
    node.write(70)
    shutil.rmtree(node.directory / "journal")
    node.open()
    node.write(1)
    assert (node.energy_uj(), node.totals.since_ns) == (4, WALL_NS + 70 * 60_000_000_000)


def test_batches_that_the_store_refused_are_not_counted(node: Node):
    node.write(5)
    node.journal.begin_anew("anew")
    node.write(1)
    assert node.energy_uj() == 4
    node.open()
    assert node.energy_uj() == 4


def test_a_node_exports_its_totals_and_its_devices_over_all_boots(node: Node):
    node.write(2)
    node.write(3, boot="next")
    last = node.journal.last
    assert last is not None
    vitals = {"power_mw": 5, "utilization": 0.5, "memory_used_bytes": 1, "memory_total_bytes": 2, "temperature_c": 40.0}
    shown = last.body | {"vitals": {"GPU-1": vitals}}
    snapshot = node_snapshot(node.totals, shown, 7)
    by_account: dict[str, int] = {}
    for balance in snapshot.balances:
        assert (balance.labels["node"], balance.grade) == ("node", "counter")
        by_account[balance.labels["account"]] = by_account.get(balance.labels["account"], 0) + balance.energy_uj
    assert by_account == {"request": 15, "idle": 5}
    [device] = snapshot.devices
    assert (device.uuid, device.energy_uj, device.power_mw) == ("GPU-1", 20, 5)
    assert [(meter.node, meter.waiting) for meter in snapshot.meters] == [("node", 7)]


def test_carbon_is_of_the_hour_in_which_a_batch_was_booked_and_outlives_the_meter(node: Node):
    node.write(60)  # 4 uJ each at 1 ug/uJ, kept by the checkpoint
    node.g_per_kwh *= 3
    node.open()
    node.write(2)
    assert sum(total.carbon_ugco2e for total in node.totals.lines.values()) == pytest.approx(60 * 4 + 2 * 4 * 3)
