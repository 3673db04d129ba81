"""What is on disk of files and batches: whole after a restart, one tenant's apart from another's, each answer once."""

import pytest

from app.console.batches import store as store_module
from app.console.batches.records import Answered, BatchRecord, Counts, FileRecord, Pace
from app.console.batches.store import BatchStore
from app.errors import NotFound, TooLarge
from app.protocol.openai_batches import Line

BATCH = BatchRecord("batch_1", "acme", "key1", "/v1/embeddings", "file-1", "24h", 1000.0, 87_400.0, metadata={"a": "b"})
LINES = [Line(number, f"c{number}", "/v1/embeddings", "minilm", b"{}") for number in (1, 2, 4)]


def answer(number, status=200, energy_uj=5, ended_s=1010.0, receipt="r"):
    return Answered("batch_1", number, status, b"{}", f"{receipt}{number}", energy_uj, 1, "counter", True, ended_s, 0.5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "batches.sqlite"


@pytest.fixture
def store(path):
    store = BatchStore(path)
    store.add_batch(BATCH, LINES)
    yield store
    store.close()


def test_what_was_acknowledged_is_there_in_another_process(store, path):
    store.add_file(FileRecord("file-1", "acme", "x.jsonl", "batch", 3, 1.0), b"abc")
    store.keep_answers([answer(2)])
    again = BatchStore(path)
    assert again.batch("batch_1") == BATCH
    assert again.content("file-1", "acme") == b"abc"
    assert [each.number for each in again.pending("batch_1", 10)] == [1, 4]
    assert again.counts("batch_1") == Counts(3, 1, 0)
    again.close()


def test_what_clients_sent_is_the_owners_alone(store, path):
    assert [each.name for each in path.parent.iterdir() if each.stat().st_mode & 0o077] == []


def test_requests_that_are_being_asked_are_passed_over(store):
    assert [each.number for each in store.pending("batch_1", 1, [1])] == [2]
    assert store.left_by_kind("batch_1") == {("minilm", "/v1/embeddings"): 3}


def test_the_first_answer_stays(store):
    store.keep_answers([answer(1, energy_uj=5)])
    store.keep_answers([answer(1, status=500, energy_uj=9)])
    ((custom_id, kept),) = store.answers("batch_1", good=True)
    assert (custom_id, kept.energy_uj, kept.status) == ("c1", 5, 200)


def test_other_tenants_see_nothing(store):
    store.add_file(FileRecord("file-1", "acme", "x", "batch", 1, 1.0), b"a")
    assert store.batches("rival") == store.files("rival") == []
    for ask in (lambda: store.batch("batch_1", "rival"), lambda: store.content("file-1", "rival")):
        with pytest.raises(NotFound):
            ask()
    with pytest.raises(NotFound):
        store.delete_file("file-1", "rival")
    assert store.batch("batch_1", None) == BATCH


def test_a_tenant_keeps_so_much_and_no_more(store, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_BYTES_OF_TENANT", 4)
    monkeypatch.setattr(store_module, "MAX_OPEN_OF_TENANT", 1)
    store.add_file(FileRecord("file-1", "acme", "x", "batch", 3, 1.0), b"abc")
    with pytest.raises(TooLarge, match="keeps 3 bytes of files, 2 more"):
        store.add_file(FileRecord("file-2", "acme", "x", "batch", 2, 1.0), b"ab")
    with pytest.raises(TooLarge, match="has 1 batches"):
        store.add_batch(BatchRecord("batch_2", "acme", "", "/v1/embeddings", "file-1", "24h", 1.0, 2.0), LINES)
    store.add_file(FileRecord("file-3", "rival", "x", "batch", 2, 1.0), b"ab")


def test_a_batch_that_is_over_stays_as_it_is(store):
    store.change("batch_1", state="completed", ended_s=2000.0)
    assert store.change("batch_1", cancelled_s=3000.0).cancelled_s is None
    assert store.open_batches() == []


def test_what_nobody_will_answer_is_an_error(store):
    store.keep_answers([answer(2, status=404)])
    assert store.give_up("batch_1", "batch_expired", 3000.0) == 2
    assert [(each.number, each.status, each.code) for _, each in store.answers("batch_1", good=False, page=2)] == [
        (1, 0, "batch_expired"), (2, 404, ""), (4, 0, "batch_expired"),
    ]  # fmt: skip
    assert store.counts("batch_1") == Counts(3, 0, 3)


def test_energy_adds_up_by_minutes_and_settles(store):
    store.keep_answers([answer(1, energy_uj=5, ended_s=119.0), answer(2, energy_uj=7, ended_s=121.0)])
    assert [(each.start_s, each.energy_uj, each.provisional) for each in store.used("batch_1", 60)] == [
        (60.0, 5, 1), (120.0, 7, 1),
    ]  # fmt: skip
    assert store.unsettled("batch_1", 10) == ["r1", "r2"]
    store.settle("batch_1", [("r1", 6, 2, "integrated")])
    assert store.unsettled("batch_1", 10) == ["r2"]
    assert store.used("batch_1", 60)[0].energy_uj == 6
    assert store.grades("batch_1") == ["counter", "integrated"]


def test_paces_are_learnt_and_the_old_ones_weigh_less(store):
    assert store.pace("minilm", "/v1/embeddings") is None
    store.keep_answers([], [("minilm", "/v1/embeddings", Pace(1, 2.0, 0.0, 0))])
    assert store.pace("minilm", "/v1/embeddings").each_j is None
    store.keep_answers([], [("minilm", "/v1/embeddings", Pace(1, 1.0, 3.0, 1))])
    found = store.pace("minilm", "/v1/embeddings")
    # (2 x 0.98 + 1) / (1 x 0.98 + 1)
    assert found.each_s == pytest.approx(2.96 / 1.98)
    assert found.each_j == 3.0


def test_what_is_old_and_over_is_forgotten(store):
    store.add_file(FileRecord("file-1", "acme", "x", "batch", 1, 10.0), b"a")
    store.add_file(FileRecord("file-9", "acme", "x", "batch", 1, 10.0), b"a")
    assert store.forget_before(5000.0) == 0
    assert [each.id for each in store.files(None)] == ["file-1"]  # a batch that is open was made of it
    store.change("batch_1", state="completed", ended_s=4000.0)
    assert store.forget_before(5000.0) == 1
    assert store.files(None) == store.batches() == []
