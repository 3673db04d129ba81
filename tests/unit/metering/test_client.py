"""The client of a replica or worker: it works, or does nothing, and never raises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.clock import SystemClock
from app.config import settings
from app.domain.account import load_account, request_account, warm_account
from app.ledger.board import BoardWriter, Present, uuid_hash
from app.ledger.ring import RingReader, parse_receipt_id, ring_paths
from app.metering.client import WorkClient
from app.metering.place import board_path, place, rings_directory

WARM, REQUEST = warm_account("minilm", "1"), request_account("default", "minilm", "1")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The process's settings, with a state directory of this test's own."""
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("JOULEKEEPER_MACHINE", "machine")
    monkeypatch.setenv("JOULEKEEPER_NODE", "node-1")
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def client() -> Iterator[WorkClient]:
    opened = WorkClient.open(WARM, devices=["GPU-1"])
    yield opened
    opened.close()


def only_ring() -> RingReader:
    (path,) = ring_paths(rings_directory(settings()))
    return RingReader(path)


def test_work_is_on_the_ring_before_the_response_leaves(client: WorkClient):
    piece = client.begin(REQUEST, weight=12.0)
    piece.end()
    ring = only_ring()
    row = ring.record(parse_receipt_id(piece.receipt_id)[2])
    assert (ring.account(row["owner"]), row["weight"]) == (REQUEST, 12.0)
    assert 0 < row["start_ns"] <= row["end_ns"] <= SystemClock().monotonic_ns()


def test_the_ring_says_who_works_and_where(client: WorkClient):
    header = only_ring().header
    assert (header.machine, header.boot, header.node) == ("machine", place(settings()).boot, "node-1")
    assert (header.resident.account, header.resident.device_uuids) == (WARM, frozenset({"GPU-1"}))


def test_a_load_begins_with_the_birth_of_the_process(client: WorkClient):
    client.begin_load("minilm", "1").end()
    ring = only_ring()
    row = ring.record(0)
    assert ring.account(row["owner"]) == load_account("minilm", "1")
    assert row["start_ns"] == ring.header.born_ns < row["end_ns"]


def test_the_load_of_a_process_that_waited_prepared_begins_when_it_was_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(WorkClient, "waited", True)
    before_ns = SystemClock().monotonic_ns()
    client = WorkClient.open(WARM)
    client.begin_load("minilm", "1").end()
    ring = only_ring()
    assert ring.header.born_ns >= before_ns
    assert ring.record(0)["start_ns"] == ring.header.born_ns
    client.close()


def test_without_a_meter_there_is_no_energy_and_no_error(client: WorkClient):
    piece = client.begin(REQUEST)
    piece.end()
    assert piece.energy() is None


def test_the_board_gives_a_provisional_figure(client: WorkClient):
    BoardWriter(board_path(settings())).write(
        SystemClock().monotonic_ns(), 500.0, [Present(uuid_hash("GPU-1"), False, 1, 300_000.0, 80_000.0)]
    )
    piece = client.begin(REQUEST)
    piece.end()
    energy = piece.energy()
    assert energy is not None
    assert (energy.grade, energy.provisional) == ("counter", True)


def test_a_closed_client_has_closed_its_ring_and_may_be_closed_again(client: WorkClient):
    client.close()
    client.close()
    assert only_ring().closed_ns is not None


def test_with_metering_off_nothing_is_written(state: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOULEKEEPER_METERING", "off")
    settings.cache_clear()
    client = WorkClient.open(WARM)
    piece = client.begin(REQUEST)
    piece.end()
    client.begin_load("minilm", "1").end()
    client.close()
    assert (piece.receipt_id, piece.energy(), list(state.iterdir())) == ("", None, [])


@pytest.mark.parametrize("trouble", ["no directory", "no room for the header"])
def test_a_ring_that_cannot_be_written_switches_metering_off(
    state: Path, caplog: pytest.LogCaptureFixture, trouble: str
):
    resident = WARM
    if trouble == "no directory":
        (state / "rings").write_bytes(b"a file")
    else:
        resident = warm_account("m" * 10_000, "1")
    client = WorkClient.open(resident)
    assert client.begin(REQUEST).receipt_id == ""
    client.close()
    assert "metering is off for this process" in caplog.text
