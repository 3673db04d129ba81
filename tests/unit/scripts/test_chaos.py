"""The chaos run's own parts: its plan, its scripted power, and that its checks find what they are there to find."""

from collections import Counter

import pytest

from app.domain.account import Account, AccountName
from app.ledger.batch import GENESIS, Batch
from app.ledger.store import Store
from app.units import NS_PER_S
from scripts.chaos.books_check import check_books, counter_difference_uj
from scripts.chaos.kills import WEIGHTS, Kill, plan
from scripts.chaos.power import BUSY_MW, QUIET_MW, ScriptedGpu
from scripts.chaos.schedule import Schedule
from tests.fixtures.batches import body
from tests.stubs.nvml.stub import NvmlStub

IDLE = Account(AccountName.IDLE)
GAP = Account(AccountName.GAP)


def batch(sequence, *args, epoch=1, meter="meter", **kwargs):
    return Batch.sealed(meter, epoch, sequence, GENESIS, body(*args, **kwargs))


def checked(tmp_path, batches, kills=()):
    url = f"sqlite:///{tmp_path}/books.sqlite"
    store = Store(url)
    store.book(batches)
    store.close()
    return check_books(url, [], kills)


def seconds(*pairs):
    """Readings at whole seconds: (s, uJ)."""
    return [(at_s * NS_PER_S, value) for at_s, value in pairs]


def test_a_plan_holds_every_kind_in_proportion_and_the_seed_decides_its_order():
    orders = plan(100, 7, 5.0, WEIGHTS)
    assert Counter(order.kind for order in orders) == WEIGHTS
    assert orders == plan(100, 7, 5.0, WEIGHTS)
    assert orders != plan(100, 8, 5.0, WEIGHTS)
    assert len(plan(3, 1, 5.0, WEIGHTS)) == 3
    assert sum(order.pause_s for order in orders) == pytest.approx(500, rel=0.2)


def test_clients_ask_in_the_busy_part_of_each_period():
    schedule = Schedule(10 * NS_PER_S, busy_s=3, quiet_s=2)
    assert [schedule.is_busy(at_s * NS_PER_S) for at_s in (9, 10, 12, 13, 14, 15)] == [0, 1, 1, 0, 0, 1]


def test_a_scripted_gpu_changes_only_its_future(tmp_path):
    gpu = ScriptedGpu("GPU-1", NvmlStub(tmp_path / "none", tmp_path / "script"))
    before = gpu.script
    gpu.draw(BUSY_MW, 100 * NS_PER_S)
    gpu.draw(BUSY_MW, 101 * NS_PER_S)  # no change
    for at_s in (50, 100):
        assert gpu.script.counter_mj(0, at_s * NS_PER_S) == before.counter_mj(0, at_s * NS_PER_S)
    gained_mj = gpu.script.counter_mj(0, 102 * NS_PER_S) - gpu.script.counter_mj(0, 101 * NS_PER_S)
    assert gained_mj == BUSY_MW
    assert len(gpu.phases) == 2
    assert gpu.phases[0] == (0, QUIET_MW)


def test_ranges_that_join_are_clean_and_postings_are_the_movement(tmp_path):
    found = checked(
        tmp_path,
        [batch(0, seconds((1, 0), (2, 10)), {IDLE: 10}), batch(1, seconds((2, 10), (3, 30)), {IDLE: 20})],
    )
    (device,) = found.devices.values()
    assert (found.posted_twice, found.holes, found.batches, found.meters) == (0, 0, 2, 1)
    gpu = ScriptedGpu("GPU-1", NvmlStub(tmp_path / "none", tmp_path / "script"), [(0, 0)])
    assert counter_difference_uj(device, gpu)[0] == 0


def test_a_range_that_two_meters_book_is_found(tmp_path):
    twice = [
        batch(0, seconds((1, 0), (3, 30)), {IDLE: 30}),
        batch(0, seconds((2, 10), (3, 30)), {IDLE: 20}, meter="another"),
    ]
    assert checked(tmp_path, twice).posted_twice == 1


def test_a_range_that_nobody_books_is_found(tmp_path):
    apart = [batch(0, seconds((1, 0), (2, 10)), {IDLE: 10}), batch(1, seconds((3, 30), (4, 40)), {IDLE: 10})]
    assert checked(tmp_path, apart).holes == 1


def test_gap_is_explained_by_the_kill_of_its_nodes_meter_and_by_nothing_else(tmp_path):
    dead = [
        batch(0, seconds((1, 0), (2, 10)), {IDLE: 10}),
        batch(0, seconds((2, 10), (9, 80)), {IDLE: 50, GAP: 20}, epoch=2, absence="dead"),
    ]

    def why(*kills):
        return [gap.why for gap in checked(tmp_path, dead, kills).gaps]

    killed = Kill("meter", "node", "ray::Meter", 3 * NS_PER_S)
    assert why(killed, Kill("replica", "node", "", 4 * NS_PER_S)) == [
        "meter killed, no meter for 6.0 s; replica killed in the same time"
    ]
    assert why() == [""]
    assert why(Kill("meter", "elsewhere", "", 3 * NS_PER_S)) == [""]
    assert why(Kill("replica", "node", "", 3 * NS_PER_S)) == [""]
    assert why(Kill("meter", "node", "", 10 * NS_PER_S)) == [""]
