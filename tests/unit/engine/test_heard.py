"""What the accountant heard of its meters, and what it warns of."""

from pathlib import Path

from app.domain.account import SYSTEM
from app.engine.delivery import MeterCondition
from app.engine.heard import Heard
from app.engine.troubles import Troubles
from app.ledger.journal import Batch, Journal
from tests.fixtures.batches import body


def batch(path: Path, **more: object) -> Batch:
    return Journal(path, "m").append(body([(0, 0), (1, 5)], {SYSTEM: 5}) | more)


def test_a_meter_is_shown_once_a_batch_of_it_is_booked(tmp_path: Path):
    heard = Heard()
    heard.condition(MeterCondition("m", "node", "ray"), 10.0)
    assert heard.shown() == []
    heard.booked([batch(tmp_path)], 11.0)
    [meter] = heard.shown()
    status = meter.status(12.5)
    assert (status.node, status.metered, status.last_heard_s) == ("node", True, 1.5)
    assert meter.status(30.0).metered is False


def test_a_store_that_takes_nothing_is_warned_of_with_what_waits_until_it_takes_something(tmp_path: Path):
    heard = Heard()
    heard.refused("the disk is full", 100.0)
    heard.refused("the disk is still full", 101.0)
    heard.condition(MeterCondition("m1", "one", "ray", waiting=5), 101.0)
    heard.condition(MeterCondition("m2", "two", "ray", waiting=7), 101.0)
    assert list(heard.warnings(130.0)) == [
        "the store has taken nothing for 30 s: the disk is still full; 12 batches of 2 meters wait in node journals"
    ]
    assert heard.waiting() == {"one": 5, "two": 7}
    heard.booked([batch(tmp_path)], 140.0)
    assert list(heard.warnings(141.0)) == []


def test_what_a_meter_complains_of_is_passed_on_with_its_node():
    heard, troubles = Heard(), Troubles()
    assert troubles.begin("journal", "the node journal cannot be written", 5.0)
    assert not troubles.begin("journal", "the node journal cannot be written: disk full", 9.0)
    heard.condition(MeterCondition("m", "one", "ray", 300, troubles.sentences(12.4)), 12.4)
    assert list(heard.warnings(13.0)) == [
        "one: the node journal cannot be written: disk full (for 7 s)",
        "one: 300 batches wait in the node's journal",
    ]
    assert troubles.end("journal")
    assert not troubles.end("journal")
    heard.condition(MeterCondition("m", "one", "ray", 0, troubles.sentences(20.0)), 20.0)
    assert list(heard.warnings(21.0)) == []


def test_devices_that_fail_and_slices_that_were_lost_are_warned_of(tmp_path: Path):
    heard = Heard()
    heard.booked([batch(tmp_path, failures={"GPU-1": "it is lost"}, lost_slices=3)], 1.0)
    assert list(heard.warnings(1.0)) == [
        "node: GPU-1 cannot be read: it is lost",
        "node: 3 slices were overwritten before the meter read them",
    ]
