"""The accountant's door as a meter finds it: deliveries by TCP, booked in groups, answered when they are committed."""

import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.engine.delivery import Delivery, MeterCondition
from app.errors import BooksDamaged, JoulekeeperError, Unavailable
from app.ledger.batch import GENESIS, Batch
from app.metering.door import Caller, Door

HERE = "127.0.0.1"


class Books:
    """Remembers what came, in which groups, and how it is to be answered."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.faults: dict[str, JoulekeeperError] = {}
        self.gate = threading.Event()
        self.gate.set()

    def book(self, deliveries: Sequence[Delivery]) -> list[JoulekeeperError | None]:
        self.gate.wait(10)
        self.groups.append([delivery.condition.meter for delivery in deliveries])
        return [self.faults.get(delivery.condition.meter) for delivery in deliveries]

    @property
    def count(self) -> int:
        return sum(map(len, self.groups))


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def door(books: Books) -> Door:
    return Door(books.book, HERE)


def delivery(meter: str = "m") -> Delivery:
    batches = tuple(Batch.sealed(meter, 1, n, GENESIS, {"n": n, "pad": "x" * 50_000}) for n in range(3))
    return Delivery(MeterCondition(meter, "node", "ray"), batches)


def test_deliveries_on_one_connection_are_answered_one_by_one(door: Door, books: Books):
    caller = Caller(door.plate, 10)
    for _ in range(3):
        caller.deliver(delivery())
    assert books.count == 3
    caller.close()


def test_what_comes_while_a_group_is_booked_makes_the_next_group(door: Door, books: Books):
    books.gate.clear()
    callers = [threading.Thread(target=Caller(door.plate, 10).deliver, args=(delivery(f"m{n}"),)) for n in range(20)]
    callers[0].start()
    for caller in callers[1:]:
        caller.start()
    inside = threading.Thread(target=door.deliver, args=(delivery("by-ray"),))
    inside.start()
    books.gate.set()
    for thread in (*callers, inside):
        thread.join(10)
    assert books.count == 21
    assert len(books.groups) < 21


def test_each_meter_learns_what_became_of_its_own_delivery(door: Door, books: Books):
    books.faults = {"bad": BooksDamaged("the store holds another one"), "unlucky": Unavailable("the disk is full")}
    with pytest.raises(BooksDamaged, match="another one"):
        Caller(door.plate, 10).deliver(delivery("bad"))
    with pytest.raises(Unavailable, match="the disk is full"):
        Caller(door.plate, 10).deliver(delivery("unlucky"))
    with pytest.raises(BooksDamaged):
        door.deliver(delivery("bad"))
    Caller(door.plate, 10).deliver(delivery("good"))


def test_a_fault_nobody_foresaw_is_unavailable_and_the_door_stays_open(door: Door, books: Books):
    books.faults = {"m": RuntimeError("boom")}  # type: ignore[dict-item]
    with pytest.raises(Unavailable, match="boom"):
        Caller(door.plate, 10).deliver(delivery())
    Caller(door.plate, 10).deliver(delivery("good"))


def is_hung_up(guest: socket.socket) -> bool:
    try:
        return guest.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("first", [b"x" * 32, b"", b"x" * 40])
def test_who_does_not_have_the_key_is_shown_out(door: Door, books: Books, first: bytes):
    with socket.create_connection((HERE, door.plate.port), 10) as guest:
        guest.sendall(struct.pack("!I", len(first)) + first)
        guest.sendall(delivery().to_bytes())
        assert is_hung_up(guest)
    with pytest.raises(Unavailable):
        Caller(replace(door.plate, key=b"y" * 32), 10).deliver(delivery())
    assert books.count == 0


@pytest.mark.parametrize("nonsense", [b"no delivery", b""])
def test_nonsense_ends_the_connection_and_nothing_else(door: Door, books: Books, nonsense: bytes):
    with socket.create_connection((HERE, door.plate.port), 10) as guest:
        for message in (door.plate.key, nonsense):
            guest.sendall(struct.pack("!I", len(message)) + message)
        assert is_hung_up(guest)
    Caller(door.plate, 10).deliver(delivery())
    assert books.count == 1


def test_a_door_that_is_not_there_is_unavailable(door: Door):
    with socket.create_server((HERE, 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match="cannot be reached"):
        Caller(replace(door.plate, port=port), 1)


def test_the_key_is_in_no_text(door: Door):
    assert repr(door.plate) == str(door.plate) == f"{HERE}:{door.plate.port}"


def test_an_address_that_is_not_ours_leaves_a_door_for_this_machine_only(books: Books):
    door = Door(books.book, "192.0.2.77")
    assert door.plate.host == "127.0.0.1"
    Caller(door.plate, 10).deliver(delivery())
    assert books.count == 1
