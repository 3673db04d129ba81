"""The books of the cluster: reports by every key, carbon, status, and an audit that finds what was done to them."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from app.carbon.footprint import CarbonSettings
from app.carbon.intensity import IntensityGrade, LocationAverage, Slot
from app.carbon.pricing import Terms, constant_terms
from app.carbon.series import GridSeries
from app.clock import ManualClock
from app.domain.account import (
    GAP,
    IDLE_WATCHED,
    SYSTEM,
    job_account,
    load_account,
    request_account,
    warm_account,
)
from app.engine.cluster_books import ClusterBooks
from app.engine.delivery import Delivery, MeterCondition
from app.engine.evidence import Evidence, gather
from app.engine.views import MeasuredReceipt, Report, ReportKey
from app.errors import BooksDamaged, Unavailable
from app.ledger.journal import Batch, Journal
from app.ledger.ring import node_tag
from app.ledger.store import Store
from app.units import NS_PER_S, UJ_PER_KWH
from tests.fixtures.batches import WALL_NS, body
from tests.fixtures.books import Bench, counter, cpu, gpu

KWH = UJ_PER_KWH
REQUEST, ACME = request_account("default", "a", "1"), request_account("acme", "a", "2")
JOB, LOAD, WARM = job_account("acme", "digits", 2), load_account("a", "1"), warm_account("a", "1")
GRAM = 1_000_000  # micrograms


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_ns=WALL_NS + 120 * NS_PER_S)


@pytest.fixture
def books(tmp_path: Path, clock: ManualClock) -> ClusterBooks:
    terms = constant_terms(CarbonSettings(intensity_g_per_kwh=400.0, pue=1.25))
    return ClusterBooks(Store(f"sqlite:///{tmp_path / 'books.sqlite'}"), lambda: terms, clock)


@pytest.fixture
def filled(books: ClusterBooks, tmp_path: Path) -> ClusterBooks:
    """Ten kWh on two nodes in two minutes: 3 + 1 + 2 + 1 of work, 3 of the rest."""
    one = Journal(tmp_path / "one", "machine:one")
    books.deliver(
        [
            one.append(body([(0, 0), (1, 7 * KWH)], {REQUEST: 3 * KWH, ACME: KWH, LOAD: KWH, WARM: 2 * KWH})),
            one.append(body([(1, 7 * KWH), (2, 8 * KWH)], {IDLE_WATCHED: KWH}, minute=1)),
        ]
    )
    two = Journal(tmp_path / "two", "machine:two")
    books.deliver([two.append(body([(0, 0), (1, 2 * KWH)], {JOB: 2 * KWH}, uuid="GPU-2", node="two"))])
    return books


def groups(report: Report) -> dict[tuple[str, ...], int]:
    return {tuple(row.group.values()): row.energy_uj // KWH for row in report.rows}


# Reports


@pytest.mark.parametrize("by", get_args(ReportKey))
def test_rows_add_up_to_the_total_whatever_the_key(filled: ClusterBooks, by: ReportKey):
    report = filled.report(by)
    assert report.energy_uj == 10 * KWH == sum(row.energy_uj for row in report.rows)
    assert report.carbon_ugco2e == 10 * 500 * GRAM == sum(row.carbon_ugco2e for row in report.rows)
    assert sum(row.share for row in report.rows) == pytest.approx(1.0)
    assert all(row.by_grade_uj == {"counter": row.energy_uj} for row in report.rows)
    assert [row.energy_uj for row in report.rows] == sorted((row.energy_uj for row in report.rows), reverse=True)
    assert report.energy_utilisation == pytest.approx(0.7)


def test_by_account(filled: ClusterBooks):
    assert groups(filled.report("account")) == {
        ("request",): 4,
        ("job", "train"): 2,
        ("warm",): 2,
        ("load",): 1,
        ("idle", "watched"): 1,
    }


def test_by_model(filled: ClusterBooks):
    assert groups(filled.report("model")) == {
        ("a", "1", "request"): 3,
        ("", "", "job"): 2,
        ("a", "1", "warm"): 2,
        ("a", "2", "request"): 1,
        ("a", "1", "load"): 1,
        ("", "", "idle"): 1,
    }


def test_by_tenant(filled: ClusterBooks):
    assert groups(filled.report("tenant")) == {("",): 4, ("default",): 3, ("acme",): 3}


def test_by_job(filled: ClusterBooks):
    assert groups(filled.report("job")) == {("", "", "node"): 8, ("digits", "2", "two"): 2}


def test_by_node(filled: ClusterBooks):
    assert groups(filled.report("node")) == {("node", "GPU-1"): 8, ("two", "GPU-2"): 2}


def test_a_report_says_how_it_was_priced(filled: ClusterBooks):
    report = filled.report("account")
    assert (report.intensity_g_per_kwh, report.pue, report.zone) == (400.0, 1.25, "world")


def test_a_period_takes_its_minutes_only(filled: ClusterBooks):
    second_minute_s = WALL_NS / NS_PER_S + 60
    assert filled.report("account", since_s=second_minute_s).energy_uj == KWH
    assert filled.report("account", until_s=second_minute_s).energy_uj == 9 * KWH
    assert filled.report("account", since_s=second_minute_s + 60).energy_uj == 0


def test_empty_books_make_an_empty_report(books: ClusterBooks):
    report = books.report("account")
    assert (report.rows, report.energy_uj, report.carbon_ugco2e, report.energy_utilisation) == ((), 0, 0, 0.0)


def test_delivering_again_changes_nothing(filled: ClusterBooks, tmp_path: Path):
    before = filled.report("model")
    again = list(Journal(tmp_path / "one", "machine:one").batches())
    assert filled.deliver(again) == (1, 1)
    assert filled.report("model") == before


# What is going on


def test_status_shows_nodes_devices_and_accounts(books: ClusterBooks, tmp_path: Path, clock: ManualClock):
    contents = body([(0, 0), (1, 5)], {SYSTEM: 5})
    vitals = {"utilization": 0.5, "memory_used_bytes": 1, "memory_total_bytes": 2, "temperature_c": 40.0}
    contents |= {"residents": ["a@1"], "vitals": {"GPU-1": vitals | {"power_mw": 100}, "unknown": vitals}}
    contents |= {"failures": {"GPU-9": "it is lost"}, "lost_slices": 3}
    books.deliver([Journal(tmp_path / "j", "m").append(contents)])
    clock.advance(10 * NS_PER_S)
    status = books.status()
    (node,) = status.nodes
    assert (node.node, node.metered, node.last_heard_s, node.residents) == ("node", True, pytest.approx(10), ("a@1",))
    (device,) = status.devices
    assert (device.device_key, device.energy_uj, device.power_mw) == ("machine/boot/GPU-1", 5, 100)
    assert status.by_account_uj["system"] == 5
    assert set(status.by_account_uj) == {"request", "job", "load", "warm", "idle", "system", "foreign", "gap"}
    assert status.warnings == (
        "node: GPU-9 cannot be read: it is lost",
        "node: 3 slices were overwritten before the meter read them",
    )


def test_a_silent_meter_and_one_that_left_are_not_metering(books: ClusterBooks, tmp_path: Path, clock: ManualClock):
    books.deliver([Journal(tmp_path / "1", "silent").append(body([(0, 0), (1, 5)], {SYSTEM: 5}))])
    clock.advance(20 * NS_PER_S)
    books.deliver([Journal(tmp_path / "2", "left").append(body(clean=True, node="two"))])
    assert {node.node: node.metered for node in books.status().nodes} == {"node": False, "two": False}


def test_the_snapshot_for_telemetry_adds_up(filled: ClusterBooks):
    snapshot = filled.snapshot()
    assert sum(balance.energy_uj for balance in snapshot.balances) == 10 * KWH
    assert sum(balance.carbon_ugco2e for balance in snapshot.balances) == 5_000 * GRAM
    request = next(balance for balance in snapshot.balances if balance.labels.get("tenant") == "default")
    assert request.labels["account"] == "request"
    assert request.labels["node"] == "node"
    assert {meter.node for meter in snapshot.meters} == {"node", "two"}


def test_receipts_lead_to_the_ray_node_of_their_meter(books: ClusterBooks, tmp_path: Path):
    batch = Journal(tmp_path / "j", "m").append(body([(0, 0), (1, 5)], {SYSTEM: 5}))
    assert books.book([Delivery(MeterCondition("m", "node", "ray-node-7"), (batch,))]) == [None]
    assert books.ray_node_of_tag(node_tag("machine", "boot")) == "ray-node-7"
    assert books.ray_node_of_tag("00000000") is None


# Groups of deliveries


def delivered(directory: Path, meter: str, *contents: dict[str, object], waiting: int = 0) -> Delivery:
    journal = Journal(directory / meter, meter)
    batches = tuple(journal.append(content) for content in contents)
    return Delivery(MeterCondition(meter, meter, "ray", waiting), batches)


def test_one_meters_damage_costs_the_others_nothing(books: ClusterBooks, tmp_path: Path):
    def named(name: str) -> dict[str, object]:
        return body([(0, 0), (1, 5)], {SYSTEM: 5}, uuid=name, node=name)

    first = [delivered(tmp_path, name, named(name), waiting=1) for name in ("a", "b", "c")]
    assert books.book(first) == [None, None, None]
    cloned = Journal(tmp_path / "clone of b", "b").append(named("other"))
    errors = books.book([*first[:1], Delivery(MeterCondition("b", "b", "ray", 1), (cloned,)), *first[2:]])
    assert [type(error) for error in errors] == [type(None), BooksDamaged, type(None)]
    assert sum(books.status().by_account_uj.values()) == 15


def test_a_store_that_fails_is_said_with_what_waits_and_shows_what_it_last_held(
    books: ClusterBooks, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    one, two = (delivered(tmp_path, name, body([(0, 0), (1, 5)], {SYSTEM: 5}, uuid=name), waiting=3) for name in "ab")
    books.book([one])
    assert books.status().by_account_uj["system"] == 5

    def fail(*_: object) -> None:
        raise Unavailable("the ledger's store cannot take a batch: disk full")

    with monkeypatch.context() as broken:
        for question in ("book", "totals", "devices"):
            broken.setattr(Store, question, fail)
        assert [type(error) for error in books.book([two])] == [Unavailable]
        clock.advance(20 * NS_PER_S)
        status = books.status()
        assert status.by_account_uj["system"] == 5
        assert status.warnings[0].startswith("the store has taken nothing for 20 s: the ledger's store cannot take")
        assert status.warnings[0].endswith("5 batches of 2 meters wait in node journals")
    assert books.book([two]) == [None]
    assert (books.status().warnings, books.status().by_account_uj["system"]) == ((), 10)


# The audit, on books that a real node kept


class Kept:
    """A node that served requests, its journal delivered to a store."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "books.sqlite"
        bench = Bench(directory, [gpu(counter((0, 100_000))), cpu(counter((0, 50_000)))])
        ring = bench.worker(7, WARM)
        self.node = bench.open()
        self.node.tick()
        self.cluster = ClusterBooks(
            Store(f"sqlite:///{self.path}"), lambda: constant_terms(CarbonSettings()), bench.clock
        )
        for _ in range(4):
            sequence = ring.begin(REQUEST, 1.0, bench.now_ns)
            bench.run(self.node, 200)
            ring.end(sequence, bench.now_ns)
            bench.run(self.node, 100)
            batch = self.node.commit()
            assert batch is not None
            self.cluster.deliver([batch])
            self.node.journal.acknowledge(batch)
        bench.run(self.node, 100)  # on its way

    def testimony(self) -> list[Evidence]:
        return [gather("machine:node", self.node, threading.Lock())]

    def sql(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self.path) as connection:
            assert connection.execute(statement, values).rowcount > 0
        connection.close()

    def forge(self, sequence: int, change: Callable[[Batch], None], redigest: bool = False) -> None:
        """Alter a stored batch, with a new digest if asked."""
        stored = next(b for b in Store(f"sqlite:///{self.path}").batches("machine:node") if b.sequence == sequence)
        change(stored)
        forged = stored.altered(stored.body, redigest)
        self.sql("UPDATE batches SET body = ?, digest = ? WHERE sequence = ?", forged.packed, forged.digest, sequence)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def faults(kept: Kept) -> str:
    audit = kept.cluster.audit(kept.testimony())
    assert not audit.ok
    return "\n".join(audit.faults)


def move_a_microjoule(batch: Batch) -> None:
    first, second = batch.body["postings"][:2]
    first["energy_uj"] += 1
    second["energy_uj"] -= 1


def add_a_microjoule(batch: Batch) -> None:
    batch.body["postings"][0]["energy_uj"] += 1


def change_a_reading(batch: Batch) -> None:
    batch.body["devices"][0]["raw"][-1][1] += 1


def test_clean_books_pass_with_and_without_testimony(kept: Kept):
    for testimonies in ([], kept.testimony()):
        audit = kept.cluster.audit(testimonies)
        assert (audit.ok, audit.faults) == (True, ())
        assert audit.energy_uj == 1_200 * 150_000
        assert {(d.name, d.movement_uj, d.posted_uj, d.difference_uj, d.batches) for d in audit.devices} == {
            ("H100", 120_000_000, 120_000_000, 0, 4),
            ("Xeon", 60_000_000, 60_000_000, 0, 4),
        }


def test_what_is_on_its_way_is_pending(kept: Kept):
    audit = kept.cluster.audit(kept.testimony())
    assert {device.name: device.pending_uj for device in audit.devices} == {"H100": 10_000_000, "Xeon": 5_000_000}


def test_a_batch_that_arrives_while_the_audit_reads_is_no_fault(kept: Kept, monkeypatch: pytest.MonkeyPatch):
    testimony, late, read = kept.testimony(), kept.node.commit(), Store.batches
    assert late is not None

    def batches(store: Store, meter: str, through: tuple[int, int] | None = None) -> Iterator[Batch]:
        yield from read(store, meter, through)
        kept.cluster.deliver([late])

    monkeypatch.setattr(Store, "batches", batches)
    assert kept.cluster.audit(testimony).faults == ()


def test_the_share_of_gaps_is_told(books: ClusterBooks, tmp_path: Path):
    books.deliver([Journal(tmp_path / "j", "m").append(body([(0, 0), (1, 8)], {GAP: 2, WARM: 6}))])
    audit = books.audit()
    assert (audit.ok, audit.gap_share, audit.devices[0].gap_uj) == (True, 0.25, 2)


@pytest.mark.parametrize("change", [add_a_microjoule, move_a_microjoule, change_a_reading])
def test_an_altered_batch_is_found_by_its_digest(kept: Kept, change: Callable[[Batch], None]):
    kept.forge(1, change)
    assert "meter machine:node, batch 1.1: its digest does not match its contents" in faults(kept)


@pytest.mark.parametrize("change", [add_a_microjoule, move_a_microjoule, change_a_reading])
@pytest.mark.parametrize("sequence", [1, 3])
def test_an_altered_batch_with_a_new_digest_is_found_by_the_journal(
    kept: Kept, change: Callable[[Batch], None], sequence: int
):
    kept.forge(sequence, change, redigest=True)
    assert f"meter machine:node, batch 1.{sequence}: the store's digest differs from the node's journal" in faults(kept)


@pytest.mark.parametrize("sequence", [0, 1, 3])
def test_a_removed_batch_is_found(kept: Kept, sequence: int):
    kept.sql("DELETE FROM batches WHERE sequence = ?", sequence)
    assert f"batch 1.{sequence}: in the node's journal and acknowledged, but not in the store" in faults(kept)


@pytest.mark.parametrize("sequence", [0, 1])
def test_a_removed_batch_breaks_the_chain_even_without_the_journal(kept: Kept, sequence: int):
    kept.sql("DELETE FROM batches WHERE sequence = ?", sequence)
    audit = kept.cluster.audit()
    assert not audit.ok
    assert any(f"batch 1.{sequence + 1}: the chain is broken" in fault for fault in audit.faults)


def test_a_removed_last_batch_is_found_by_the_balances_even_without_the_journal(kept: Kept):
    kept.sql("DELETE FROM batches WHERE sequence = 3")
    audit = kept.cluster.audit()
    assert not audit.ok
    assert any("the balances were altered" in fault for fault in audit.faults)


def test_a_store_that_was_emptied_is_found_by_the_journal(kept: Kept):
    kept.sql("DELETE FROM batches")
    kept.sql("DELETE FROM balances")
    found = kept.cluster.audit(kept.testimony())
    assert not found.ok
    assert len([fault for fault in found.faults if "acknowledged, but not in the store" in fault]) == 4


def test_an_altered_balance_is_found(kept: Kept):
    kept.sql("UPDATE balances SET energy_uj = energy_uj + 1 WHERE line = 1")
    assert "the balances were altered" in faults(kept)


def test_a_removed_balance_is_found(kept: Kept):
    kept.sql("DELETE FROM balances WHERE line = 1")
    assert "has a balance of 0 uJ, its postings add up to" in faults(kept)


def test_a_batch_that_cannot_be_unpacked_is_found(kept: Kept):
    kept.sql("UPDATE batches SET body = x'00' WHERE sequence = 2")
    assert "meter machine:node, batch 1.2: unreadable" in faults(kept)


def test_an_invented_batch_is_found_by_the_journal(kept: Kept):
    kept.sql("UPDATE batches SET epoch = 0 WHERE sequence = 2")
    assert "meter machine:node, batch 1.2: in the node's journal and acknowledged, but not in the store" in faults(kept)


def test_a_device_that_two_meters_kept_is_added_up(books: ClusterBooks, tmp_path: Path):
    books.deliver([Journal(tmp_path / "1", "m1").append(body([(0, 0), (1, 8)], {WARM: 8}))])
    books.deliver([Journal(tmp_path / "2", "m2").append(body([(1, 8), (2, 9)], {WARM: 1}))])
    audit = books.audit()
    assert (audit.ok, audit.energy_uj) == (True, 9)
    assert [(device.movement_uj, device.batches) for device in audit.devices] == [(9, 2)]


def test_two_histories_of_one_device_cannot_hide_a_difference(books: ClusterBooks, tmp_path: Path):
    books.deliver([Journal(tmp_path / "1", "m1").append(body([(0, 0), (1, 8)], {WARM: 9}))])
    books.deliver([Journal(tmp_path / "2", "m2").append(body([(1, 8), (2, 9)], {WARM: 0}))])
    audit = books.audit()
    assert not audit.ok
    assert len(audit.faults) == 2


# Late data


def grid_terms(*g_per_kwh: float, first: float | None = None, revision: int = 1) -> Terms:
    """Minutes from WALL_NS on, each at its intensity; `first`: what the second one was at first."""
    minute_ns = 60 * NS_PER_S
    slots = tuple(
        Slot(
            WALL_NS + i * minute_ns,
            WALL_NS + (i + 1) * minute_ns,
            g,
            IntensityGrade.ACTUAL,
            "grid",
            None if i != 1 else first,
        )
        for i, g in enumerate(g_per_kwh)
    )
    series = GridSeries("FRA", LocationAverage(56.0, "FRA", "a table", 2023), slots, revision=revision)
    return Terms("FRA", series, pue=1.25)


def test_a_revision_prices_past_reports_and_receipts_again_and_says_so(tmp_path: Path, clock: ManualClock):
    known = [grid_terms(100, 300)]
    books = ClusterBooks(Store(f"sqlite:///{tmp_path / 'books.sqlite'}"), lambda: known[-1], clock)
    journal = Journal(tmp_path / "one", "machine:one")
    books.deliver(
        [
            journal.append(body([(0, 0), (1, 8 * KWH)], {REQUEST: 6 * KWH, LOAD: 2 * KWH})),
            journal.append(body([(1, 8 * KWH), (2, 12 * KWH)], {REQUEST: 4 * KWH}, minute=1)),
        ]
    )
    measured = MeasuredReceipt(
        receipt_id="r",
        account="request",
        tenant="acme",
        model="a",
        version="1",
        job="",
        node="one",
        energy_uj=KWH,
        grade="counter",
        provisional=False,
        load_share_uj=0,
        warm_share_uj=0,
        shares_final=True,
        duration_ns=2 * NS_PER_S,
        wall_time_s=WALL_NS / NS_PER_S + 65,
    )
    before, receipt_before = books.report("account"), books.priced(measured)
    # (8 kWh x 100 + 4 kWh x 300) x 1.25 = 2500 g, the receipt's kWh x 300 x 1.25 = 375 g
    assert (before.carbon_ugco2e, receipt_before.carbon_ugco2e) == (2_500 * GRAM, 375 * GRAM)
    assert before.basis is not None
    assert before.basis.notes == ()

    known.append(grid_terms(100, 200, first=300.0, revision=2))
    after, receipt_after = books.report("account"), books.priced(measured)
    # (8 x 100 + 4 x 200) x 1.25 = 2000 g; 200 x 1.25 = 250 g
    assert (after.carbon_ugco2e, receipt_after.carbon_ugco2e) == (2_000 * GRAM, 250 * GRAM)
    assert sum(row.carbon_ugco2e for row in after.rows) == after.carbon_ugco2e
    assert (after.energy_uj, receipt_after.energy_uj) == (before.energy_uj, receipt_before.energy_uj) == (12 * KWH, KWH)
    assert [row.energy_uj for row in after.rows] == [row.energy_uj for row in before.rows]
    assert after.basis is not None
    assert receipt_after.basis is not None
    assert (after.basis.first_carbon_ugco2e, after.basis.revised_share) == (2_500 * GRAM, pytest.approx(1 / 3))
    assert after.basis.notes[0].startswith("re-priced: the grid data for 33.3% of this energy were revised")
    assert receipt_after.basis.first_carbon_ugco2e == 375 * GRAM
    assert "re-priced" in receipt_after.basis.notes[0]
    # The budgets of tenants follow, and so does what is exported.
    assert books.used_by_tenant(0) == {"default": (10 * KWH, round(1_750 * GRAM))}
    assert sum(balance.carbon_ugco2e for balance in books.snapshot().balances) == 2_000 * GRAM


def test_what_holds_now_is_told_with_the_building_and_until_when(tmp_path: Path, clock: ManualClock):
    clock.advance(30 * NS_PER_S)  # in the middle of the third minute
    books = ClusterBooks(Store(f"sqlite:///{tmp_path / 'books.sqlite'}"), lambda: grid_terms(100, 300, 80), clock)
    present = books.present_price()
    assert (present.g_per_kwh, present.until_ns) == (100.0, WALL_NS + 180 * NS_PER_S)


def test_exported_carbon_is_of_the_hours_and_goes_on_between_two_passes(tmp_path: Path, clock: ManualClock):
    books = ClusterBooks(Store(f"sqlite:///{tmp_path / 'books.sqlite'}"), lambda: grid_terms(100, 300, 80), clock)
    journal = Journal(tmp_path / "one", "machine:one")
    books.deliver([journal.append(body([(0, 0), (1, 2 * KWH)], {REQUEST: 2 * KWH}))])
    assert sum(balance.carbon_ugco2e for balance in books.snapshot().balances) == 2 * 125 * GRAM
    books.deliver([journal.append(body([(1, 2 * KWH), (2, 3 * KWH)], {REQUEST: KWH}, minute=2))])
    # What came since the pass is of now, the third minute: 80 x 1.25 = 100 g
    assert sum(balance.carbon_ugco2e for balance in books.snapshot().balances) == (2 * 125 + 100) * GRAM


def test_a_job_is_told_by_its_hours_so_that_it_can_be_priced_again(filled: ClusterBooks):
    (hour,) = filled.job_hours("digits")
    assert (hour.start_s, hour.width_s, hour.energy_uj) == (WALL_NS // NS_PER_S, 60, 2 * KWH)
