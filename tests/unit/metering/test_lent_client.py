"""Who lends what: the process's own client, else one that goes when nobody has needed it for a while."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.clock import ManualClock
from app.config import settings
from app.domain.account import FOREIGN, job_account, warm_account
from app.ledger.board import BoardWriter
from app.ledger.ring import RingReader, ring_paths
from app.metering.client import WorkClient
from app.metering.lent_client import Lender
from app.metering.place import board_path, rings_directory
from app.units import NS_PER_S

JOB = job_account("default", "prepare", 1, "measure")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


class Opened:
    """Opens real clients without their threads' patience: `unused` is asked by the test."""

    def __init__(self) -> None:
        self.clients: list[WorkClient] = []
        self.unused: Callable[[], bool] = lambda: False

    def __call__(self, unused: Callable[[], bool]) -> WorkClient:
        self.unused = unused
        self.clients.append(WorkClient.open(FOREIGN, unused=lambda: False))
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture
def opened() -> Iterator[Opened]:
    opened = Opened()
    yield opened
    opened.close()


def test_all_who_ask_at_once_get_the_same_client(opened: Opened) -> None:
    lender = Lender(ManualClock(), opened)
    assert lender.borrow() is lender.borrow()
    assert len(opened.clients) == 1


def test_the_clients_process_comes_first(opened: Opened) -> None:
    own = WorkClient.open(warm_account("minilm", "1"))
    lender = Lender(ManualClock(), opened)
    client = lender.borrow()
    lender.give_back(client)
    own.close()
    assert client is own
    assert lender.borrow() is not own


def test_a_client_that_nobody_has_is_let_go_after_a_while_and_never_before(opened: Opened) -> None:
    clock = ManualClock()
    lender = Lender(clock, opened)
    client = lender.borrow()
    clock.advance(100 * NS_PER_S)
    assert not opened.unused()
    lender.give_back(client)
    assert not opened.unused()
    clock.advance(4 * NS_PER_S)
    lender.give_back(lender.borrow())
    clock.advance(4 * NS_PER_S)
    assert not opened.unused()
    clock.advance(NS_PER_S)
    assert opened.unused()
    assert lender.borrow() is not client


def test_a_lent_client_reserves_nothing_and_keeps_few_records(state: Path) -> None:
    client = WorkClient.open(FOREIGN, unused=lambda: False)
    (path,) = ring_paths(rings_directory(settings()))
    reader = RingReader(path)
    assert (reader.header.gpu_share, reader.header.host_share) == (0.0, 0.0)
    assert reader.capacity == 4096 < settings().ring_records
    client.close()


@pytest.mark.parametrize("metered", [False, True])
def test_its_ring_stays_only_where_a_meter_ever_was(state: Path, metered: bool) -> None:
    if metered:
        BoardWriter(board_path(settings())).close()
    client = WorkClient.open(FOREIGN, unused=lambda: False)
    client.begin(JOB).end()
    client.close()
    assert len(list(ring_paths(rings_directory(settings())))) == metered
