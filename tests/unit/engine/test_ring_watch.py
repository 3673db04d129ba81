"""All rings of a node: found, followed, ended with their processes, and let go."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.domain.account import load_account, request_account, warm_account
from app.domain.reading import Delta, Device, DeviceKind, Grade
from app.domain.slice import ProcessKey, Resident
from app.engine.ring_watch import RingWatch
from app.ledger.ring import Charged, RingHeader, RingWriter
from app.units import NS_PER_MS, NS_PER_S

WARM, REQUEST = warm_account("a", "1"), request_account("default", "a", "1")


class Node:
    """A directory of rings and who is alive."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.dead: set[int] = set()
        self.watch = self.watched()

    def watched(self) -> RingWatch:
        return RingWatch(self.directory, "boot", lambda process: process.pid not in self.dead, 3600.0)

    def settle(self, through_ns: int) -> None:
        self.watch.prepare(through_ns, "")
        self.watch.commit(through_ns)

    def process(self, pid: int, boot: str = "boot", born_ns: int = 0, devices: Sequence[str] = ()) -> RingWriter:
        resident = Resident(ProcessKey(pid, pid), WARM, frozenset(devices))
        return RingWriter.create(self.directory, RingHeader("m", boot, "n", resident, 1.0, 1.0, born_ns), 64)


def look(watch: RingWatch, now_ns: int) -> None:
    watch.find_new(now_ns)
    watch.poll(now_ns)


def test_a_ring_is_found_when_it_appears(tmp_path: Path):
    node = Node(tmp_path / "rings")
    look(node.watch, 0)
    assert node.watch.living == []
    ring = node.process(7)
    look(node.watch, 1)
    assert [found.header for found in node.watch.living] == [ring.header]


def test_a_ring_is_found_even_if_the_directorys_time_stamp_did_not_change(tmp_path: Path):
    """Two changes within one tick of the file system's clock have one time stamp."""
    node = Node(tmp_path)
    look(node.watch, 0)
    stamp = tmp_path.stat()
    node.process(7)
    os.utime(tmp_path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    look(node.watch, NS_PER_S)
    assert len(node.watch.living) == 1


def test_rings_of_another_boot_are_left_alone(tmp_path: Path):
    node = Node(tmp_path)
    node.process(7, boot="the last one")
    look(node.watch, 0)
    assert node.watch.rings == {}


def test_a_process_that_closes_is_let_go_when_its_slices_are_settled(tmp_path: Path):
    node = Node(tmp_path)
    ring = node.process(7)
    ring.begin(REQUEST, 1.0, 5)
    look(node.watch, 10)
    ring.close(20)
    look(node.watch, 30)
    assert node.watch.living == []
    (found,) = node.watch.rings.values()
    assert found.ended_ns == 20
    assert found.reader.record(0)["end_ns"] == 20
    node.settle(15)
    assert len(node.watch.rings) == 1
    node.settle(20)
    assert node.watch.rings == {}
    look(node.watch, 40)
    assert node.watch.rings == {}


def test_a_process_that_dies_ends_when_it_is_found_dead(tmp_path: Path):
    node = Node(tmp_path)
    ring = node.process(7)
    ring.begin(REQUEST, 1.0, 5)
    look(node.watch, 10)
    node.dead.add(7)
    look(node.watch, 30)
    (found,) = node.watch.rings.values()
    assert found.ended_ns == found.reader.record(0)["end_ns"] == 30


def test_a_process_that_died_while_nobody_looked_ends_with_its_last_sign_of_life(tmp_path: Path):
    node = Node(tmp_path)
    ring = node.process(7, born_ns=3)
    ring.begin(REQUEST, 1.0, 5)
    ring.touch(12)
    node.dead.add(7)
    later = node.watched()
    look(later, 10**15)
    (found,) = later.rings.values()
    assert found.ended_ns == found.reader.record(0)["end_ns"] == 12


def test_a_restarted_watch_follows_only_what_is_not_settled(tmp_path: Path):
    node = Node(tmp_path)
    ring = node.process(7)
    ring.end(ring.begin(REQUEST, 1.0, 5), 8)
    ring.begin(REQUEST, 1.0, 6)
    look(node.watch, 10)
    node.settle(9)
    again = node.watched()
    look(again, 20)
    (found,) = again.rings.values()
    assert found.open_count == 1


def test_old_rings_go_by_age(tmp_path: Path):
    node = Node(tmp_path)
    old, young, living = (node.process(pid) for pid in (7, 8, 9))
    for ring, age_s in ((old, 4000), (young, 3000), (living, 9999)):
        os.utime(ring.path, (10**9 - age_s, 10**9 - age_s))
    node.dead |= {7, 8}
    look(node.watch, 0)
    node.settle(1)
    node.watch.drop_old(10**9 * NS_PER_S)
    assert {path.stem for path in tmp_path.iterdir()} == {young.header.ring_id, living.header.ring_id}


def test_receipts_are_read_from_rings_that_nobody_watches_any_more(tmp_path: Path):
    node = Node(tmp_path)
    ring = node.process(7)
    ring.end(ring.begin(REQUEST, 1.0, 5), 8)
    node.dead.add(7)
    look(node.watch, 10)
    node.settle(10)
    assert node.watch.rings == {}
    reader = node.watch.open_for_receipt(ring.header.ring_id)
    assert reader.record(0)["start_ns"] == 5


def test_a_process_learns_what_a_slice_of_it_draws_of_its_accelerators(tmp_path: Path):
    """Two slices of 1 ms with 2 mJ and 4 mJ of one of two GPUs: 6 mJ over 2 ms of slice time are 3 W, twice that for
    both. A load teaches nothing, and a commit without news changes nothing."""
    node = Node(tmp_path)
    ring = node.process(7, devices=("GPU-1", "GPU-2"))
    pieces = [ring.begin(account, 1.0, 0) for account in (REQUEST, REQUEST, load_account("a", "1"))]
    for sequence in pieces:
        ring.end(sequence, NS_PER_MS)
    look(node.watch, 2 * NS_PER_MS)
    gpu = Device("m", "boot", "GPU-1", DeviceKind.GPU, "GPU", Grade.COUNTER)
    (watched,) = node.watch.rings.values()
    delta = Delta(gpu, 0, NS_PER_MS, 906_000)
    watched.learn_power(np.array([0, 1, 2]), np.array([2_000, 4_000, 900_000]), delta, NS_PER_MS)
    assert ring.slice_power_mw == 0.0
    for _ in range(100):
        node.settle(2 * NS_PER_MS)
        assert ring.slice_power_mw == pytest.approx(6_000.0)


def test_the_ring_says_what_its_process_was_charged_once_that_is_committed(tmp_path: Path):
    node = Node(tmp_path)
    ring = node.process(7)
    for account in (load_account("a", "1"), REQUEST):
        ring.begin(account, 1.0, 0)
    look(node.watch, 1)
    (watched,) = node.watch.rings.values()
    watched.charge({0: 5, 1: 7}, 3)
    watched.charge({1: 10}, 1)
    assert ring.charged == (0, 0, 0)
    node.settle(1)
    node.settle(2)
    assert ring.charged == Charged(load_uj=5, warm_uj=4, request_uj=17)


def test_overlapping_slices_cover_their_time_once(tmp_path: Path):
    """[10, 30) and [20, 40) in one process, [35, open) in another: of [0, 50) 40 are covered."""
    node = Node(tmp_path)
    first, second = node.process(7), node.process(8)
    for ring, start_ns, end_ns in ((first, 10, 30), (first, 20, 40), (second, 35, 0)):
        sequence = ring.begin(REQUEST, 1.0, start_ns)
        if end_ns:
            ring.end(sequence, end_ns)
    look(node.watch, 50)
    cpu = Device("m", "boot", "cpu-1", DeviceKind.CPU, "CPU", Grade.MODELLED)
    covered = {end_ns: node.watch.covered_ns(Delta(cpu, 0, end_ns, 0)) for end_ns in (50, 20, 5)}
    assert covered == {50: 40, 20: 10, 5: 0}
    gpu = Device("m", "boot", "GPU-1", DeviceKind.GPU, "GPU", Grade.COUNTER)
    assert node.watch.covered_ns(Delta(gpu, 0, 50, 0)) == 0  # which neither of them holds
