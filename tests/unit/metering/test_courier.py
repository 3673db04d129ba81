"""The courier: oldest first, acknowledged only when taken, and what is never taken is set aside in sight of all."""

import threading
from pathlib import Path

import pytest

from app.engine.delivery import Delivery, MeterCondition
from app.engine.troubles import Troubles
from app.errors import BooksDamaged, Unavailable
from app.ledger.journal import Journal, read_epoch
from app.metering.courier import Courier, warn_of_refused


class Accountant:
    """Takes deliveries, unless it is away or dislikes a batch."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.told: list[MeterCondition] = []
        self.away = False
        self.dislikes: set[tuple[str, int]] = set()
        self.connections = 0

    def connect(self) -> "Accountant":
        self.connections += 1
        if self.away:
            raise Unavailable("nobody is there")
        return self

    def deliver(self, delivery: Delivery) -> None:
        if self.away:
            raise Unavailable("nobody is there")
        if any((batch.meter, batch.body["n"]) in self.dislikes for batch in delivery.batches):
            raise BooksDamaged("the store holds another one")
        self.told.append(delivery.condition)
        self.taken += [batch.body["n"] for batch in delivery.batches]

    def close(self) -> None:
        self.connections -= 1


class Node:
    """A journal and its courier."""

    def __init__(self, directory: Path) -> None:
        self.accountant, self.troubles = Accountant(), Troubles()
        self.journal = Journal(directory, "m")
        names = iter(["anew", "anew again"])
        self.now_s = 0.0
        self.courier = Courier(
            self.journal,
            threading.Lock(),
            self.accountant.connect,
            lambda waiting: MeterCondition(
                self.journal.meter, "node", "ray", waiting, self.troubles.sentences(self.now_s)
            ),
            self.troubles,
            lambda: next(names),
        )

    def write(self, *numbers: int) -> None:
        for n in numbers:
            self.journal.append({"n": n})

    def deliver(self, after_s: float = 1.0) -> None:
        self.now_s += after_s
        self.courier.deliver(self.now_s)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_all_that_waits_is_brought_in_order_over_one_connection(node: Node):
    node.write(*range(150))
    node.deliver()
    node.write(150)
    node.deliver()
    assert node.accountant.taken == list(range(151))
    assert (node.journal.waiting, node.accountant.connections) == (0, 1)
    assert [told.waiting for told in node.accountant.told] == [150, 86, 22, 1]


def test_an_accountant_that_is_away_is_tried_again_and_nothing_is_lost(node: Node):
    node.write(1, 2)
    node.accountant.away = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            node.deliver()
    assert node.journal.waiting == 2
    node.accountant.away = False
    node.deliver()
    assert node.accountant.taken == [1, 2]


def test_a_connection_that_failed_is_made_anew(node: Node):
    node.write(1)
    node.deliver()
    node.accountant.away = True
    node.write(2)
    with pytest.raises(Unavailable):
        node.deliver()
    assert node.accountant.connections == 0


def test_a_refused_batch_is_set_aside_with_what_follows_and_the_node_goes_on(node: Node, tmp_path: Path):
    node.write(1, 2, 3, 4)
    node.accountant.dislikes = {("m", 3)}
    node.deliver()
    assert (node.accountant.taken, node.journal.waiting, node.journal.meter) == ([1, 2], 0, "anew")
    [refused] = node.journal.refused()
    assert [batch.body["n"] for batch in read_epoch(refused)] == [1, 2, 3, 4]
    node.write(5)
    node.deliver(5)
    assert node.accountant.taken == [1, 2, 5]
    [sentence] = node.accountant.told[-1].warnings
    assert "the store refused batches of this node: the store holds another one" in sentence
    assert str(tmp_path) in sentence
    refused.rename(tmp_path / "looked-into")
    warn_of_refused(node.journal, node.troubles, node.now_s)
    assert node.troubles.sentences(node.now_s) == ()


def test_trouble_is_told_though_there_is_nothing_to_deliver_and_once_more_when_it_ends(node: Node):
    node.deliver()
    assert node.accountant.told == []  # nothing to say
    node.troubles.begin("journal", "disk full", 0.0)
    for _ in range(10):
        node.deliver(1)
    assert [told.warnings for told in node.accountant.told] == [("disk full (for 2 s)",), ("disk full (for 7 s)",)]
    node.troubles.end("journal")
    for _ in range(10):
        node.deliver(1)
    assert [told.warnings for told in node.accountant.told[2:]] == [()]
