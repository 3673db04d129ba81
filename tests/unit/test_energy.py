"""measure: blocks of user code become slices of jobs, whatever their shape, and never get in the way."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.account import Account, job_account
from app.energy import Block, SliceEnergy, measure
from app.errors import InvalidInput
from app.metering import blocks as energy
from app.metering import lent_client


class Slice:
    """A slice that is charged 10 uJ a tick of the test's clock and settled when told."""

    def __init__(self, client: "Client", account: Account, weight: float) -> None:
        self.client, self.account, self.weight = client, account, weight
        self.started, self.ended = client.now, -1
        self.settled, self.known = False, True
        self.receipt_id = f"r{len(client.slices)}"

    def end(self) -> None:
        if self.ended < 0:
            self.ended = self.client.now

    def energy(self) -> SliceEnergy | None:
        ticks = (self.ended if self.ended >= 0 else self.client.now) - self.started
        return SliceEnergy(10 * ticks, 0.5 * ticks, "counter", not self.settled) if self.known else None


class Client:
    """What lent_client lends, with a clock of ticks."""

    def __init__(self) -> None:
        self.now = self.borrowed = 0
        self.slices: list[Slice] = []

    def begin(self, account: Account, weight: float = 1.0, part: int = 0) -> Slice:
        self.slices.append(Slice(self, account, weight))
        return self.slices[-1]

    def borrow(self) -> "Client":
        self.borrowed += 1
        return self

    def give_back(self, client: "Client") -> None:
        self.borrowed -= 1

    def spans(self) -> list[tuple[str, int, int]]:
        return [(piece.account.job, piece.started, piece.ended) for piece in self.slices]

    def settle(self) -> None:
        for piece in self.slices:
            piece.settled = True


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    client = Client()
    monkeypatch.setattr(lent_client, "borrow", client.borrow)
    monkeypatch.setattr(lent_client, "give_back", client.give_back)
    yield client
    assert client.borrowed == 0


def test_a_block_is_a_slice_of_its_own_job(client: Client) -> None:
    with measure("prepare", tenant="acme", weight=3) as block:
        client.now += 4
    (piece,) = client.slices
    assert (piece.account, piece.weight) == (job_account("acme", "prepare", 1, "measure"), 3)
    assert (piece.started, piece.ended) == (0, 4)
    assert (block.name, block.receipt_id, block.receipt_ids) == ("prepare", "r0", ("r0",))


def test_its_energy_is_provisional_until_the_meter_has_booked_it(client: Client) -> None:
    with measure("prepare") as block:
        client.now += 4
        assert block.energy() == SliceEnergy(40, 2.0, "counter", True)
    assert block.settle(timeout_s=0) == SliceEnergy(40, 2.0, "counter", True)
    client.settle()
    assert block.settle() == SliceEnergy(40, 2.0, "counter", False)


def test_an_inner_block_pauses_the_outer_one_so_that_nothing_is_charged_twice(client: Client) -> None:
    with measure("outer") as outer:
        client.now += 1
        with measure("inner") as inner:
            client.now += 2
        client.now += 3
    assert client.spans() == [("outer", 0, 1), ("inner", 1, 3), ("outer", 3, 6)]
    assert (outer.energy(), inner.energy()) == (
        SliceEnergy(40, 2.0, "counter", True),
        SliceEnergy(20, 1.0, "counter", True),
    )
    assert outer.receipt_ids == ("r0", "r2")


def test_blocks_of_two_threads_run_side_by_side(client: Client) -> None:
    def other() -> None:
        with measure("other"):
            client.now += 1

    with measure("outer"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert client.spans() == [("outer", 0, 1), ("other", 0, 1)]


def test_tasks_measured_inside_a_block_run_side_by_side_and_the_block_waits_for_the_last(client: Client) -> None:
    async def piece(name: str, turns: int) -> None:
        with measure(name):
            for _ in range(turns):
                await asyncio.sleep(0)
            client.now += 1

    async def main() -> None:
        with measure("outer"):
            client.now += 1
            await asyncio.gather(piece("short", 1), piece("long", 3))
            client.now += 1

    asyncio.run(main())
    assert client.spans() == [("outer", 0, 1), ("short", 1, 2), ("long", 1, 3), ("outer", 3, 4)]


def test_a_task_that_outlives_the_block_it_began_in_does_not_wake_it(client: Client) -> None:
    async def late() -> None:
        with measure("late"):
            await asyncio.sleep(0)

    async def main() -> None:
        with measure("outer"):
            task = asyncio.ensure_future(late())
            await asyncio.sleep(0)
        await task

    asyncio.run(main())
    assert [name for name, *_ in client.spans()] == ["outer", "late"]


def test_a_decorated_function_is_measured_at_every_call_under_its_own_or_a_given_name(client: Client) -> None:
    @measure("clean")
    def given(x: int, y: int = 0) -> int:
        """Adds."""
        return x + y

    @measure
    def own(x: int) -> int:
        return given(x)

    assert (given(1, y=2), own(5), given.__doc__) == (3, 5, "Adds.")
    names = [name for name, *_ in client.spans()]
    own_name = "test_a_decorated_function_is_measured_at_every_call_under_its_own_or_a_given_name.own"
    assert names == ["clean", own_name, "clean", own_name]


def test_an_async_function_is_measured_until_it_returns(client: Client) -> None:
    @measure("fetch")
    async def fetch(x: int) -> int:
        client.now += 1
        await asyncio.sleep(0)
        client.now += 1
        return x

    assert asyncio.run(fetch(7)) == 7
    assert client.spans() == [("fetch", 0, 2)]


def test_an_error_inside_ends_the_block_and_passes_through(client: Client) -> None:
    @measure("fails")
    def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError), measure("outer"):
        fails()
    assert all(piece.ended >= 0 for piece in client.slices)
    assert energy._innermost.get() is None


def test_a_block_with_many_inner_ones_keeps_few_slices_and_loses_no_energy(client: Client) -> None:
    with measure("outer") as outer:
        for _ in range(500):
            client.now += 1
            client.settle()
            with measure("inner"):
                pass
    client.settle()
    assert outer.energy() == SliceEnergy(5000, 250.0, "counter", False)
    assert len(outer.receipt_ids) <= 66


def test_what_is_known_of_a_block_in_part_is_provisional(client: Client) -> None:
    with measure("outer") as outer:
        client.now += 1
        with measure("inner"):
            pass
        client.now += 1
    client.settle()
    client.slices[-1].known = False
    assert outer.energy() == SliceEnergy(10, 0.5, "counter", True)


def test_a_generator_cannot_be_decorated() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="a generator"):
        measure("numbers")(numbers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "n" * 201}, "name must be text of 0 to 200"),
        ({"name": "n", "tenant": ""}, "tenant must be text of 1 to 64"),
        ({"name": "n", "weight": 0}, "weight must be > 0"),
        ({"name": "n", "weight": float("inf")}, "weight must be > 0"),
        ({"name": 3}, "name must be text"),
    ],
)
def test_what_the_books_cannot_hold_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        measure(**arguments)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/home/a/clean rows.py", "clean rows"),
        ("", "python"),
        ("-c", "python"),
        ("/x/ipykernel_launcher.py", "notebook"),
    ],
)
def test_without_a_name_it_is_the_programs(monkeypatch: pytest.MonkeyPatch, program: str, name: str) -> None:
    monkeypatch.setattr("sys.argv", [program])
    with measure() as block:
        pass
    assert block.name == name


def test_with_metering_off_the_code_runs_and_there_are_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.config import settings
    from app.metering.client import WorkClient

    monkeypatch.setenv("JOULEKEEPER_METERING", "off")
    settings.cache_clear()
    monkeypatch.setattr(lent_client, "borrow", lambda: WorkClient.open(job_account("default", "x", 1)))
    monkeypatch.setattr(lent_client, "give_back", lambda client: None)
    with measure("prepare") as block:
        pass
    settings.cache_clear()
    assert isinstance(block, Block)
    assert (block.receipt_id, block.receipt_ids, block.energy(), block.settle()) == ("", ("",), None, None)
