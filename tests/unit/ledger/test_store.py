"""The store: each batch exactly once, balances that are the sum of its postings, on a real SQLite file."""

import threading
from pathlib import Path

import pytest

from app.domain.account import GAP, IDLE_WATCHED, Account, job_account, request_account, warm_account
from app.errors import BooksDamaged, InvalidInput, Unavailable
from app.ledger.journal import Batch, Journal
from app.ledger.store import BUCKET_S, Store
from tests.fixtures.batches import WALL_NS, body

REQUEST, WARM = request_account("default", "minilm", "1"), warm_account("minilm", "1")
MINUTE_S = WALL_NS // 1_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'books' / 'books.sqlite'}")


@pytest.fixture
def batches(tmp_path: Path) -> list[Batch]:
    journal = Journal(tmp_path / "journal", "machine:node")
    return [
        journal.append(body([(0, 0), (1, 10)], {REQUEST: 7, WARM: 3})),
        journal.append(body([(1, 10), (2, 30)], {REQUEST: 20})),
        journal.append(body([(2, 30), (3, 35)], {WARM: 5}, minute=1)),
    ]


def totals(store: Store) -> dict[Account, int]:
    return {balance.account: balance.energy_uj for balance in store.totals()}


def test_balances_are_the_sum_of_the_postings(store: Store, batches: list[Batch]):
    assert store.book(batches) == 3
    assert totals(store) == {REQUEST: 27, WARM: 8}
    assert {(b.bucket_s, b.account.name.value, b.energy_uj) for b in store.balances()} == {
        (MINUTE_S, "request", 27),
        (MINUTE_S, "warm", 3),
        (MINUTE_S + 60, "warm", 5),
    }


def test_a_batch_delivered_again_changes_nothing(store: Store, batches: list[Batch]):
    assert store.book([*batches, batches[0]]) == 3
    assert store.book([*batches, batches[0]]) == 0
    assert totals(store) == {REQUEST: 27, WARM: 8}


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 1, 2, 0, 0, 2), (2, 1, 0)])
def test_order_and_repetition_do_not_matter(store: Store, batches: list[Batch], order: tuple[int, ...]):
    for index in order:
        store.book([batches[index]])
    assert totals(store) == {REQUEST: 27, WARM: 8}
    assert list(store.batches("machine:node")) == batches


def test_the_file_survives_its_process(tmp_path: Path, batches: list[Batch]):
    url = f"sqlite:///{tmp_path / 'books.sqlite'}"
    first = Store(url)
    first.book(batches[:2])
    first.close()
    again = Store(url)
    assert [again.book([batch]) for batch in batches] == [0, 0, 1]
    assert totals(again) == {REQUEST: 27, WARM: 8}
    assert list(again.ends()) == ["machine:node"]


def test_another_batch_in_the_place_of_one_is_refused(store: Store, tmp_path: Path, batches: list[Batch]):
    store.book([batches[0]])
    other = Journal(tmp_path / "lost and begun anew", "machine:node").append(body([(0, 0), (1, 99)], {WARM: 99}))
    assert other.position == batches[0].position
    with pytest.raises(BooksDamaged, match=r"machine:node, batch 1\.0: the store holds another one"):
        store.book([other])
    assert totals(store) == {REQUEST: 7, WARM: 3}


def test_a_batch_that_fails_midway_leaves_nothing(store: Store, tmp_path: Path, batches: list[Batch]):
    journal = Journal(tmp_path / "other", "machine:other")
    job = job_account("default", "j", 1)
    broken = body([(0, 0), (1, 10)], {job: 10}, uuid="GPU-2")
    broken["postings"].append({"device": "x", "account": {"name": "no such account"}, "energy_uj": 1})
    with pytest.raises(BooksDamaged, match=r"machine:other, batch 1\.0: cannot be booked"):
        store.book([batches[0], journal.append(broken)])
    assert (totals(store), store.ends(), store.devices()) == ({}, {}, [])
    store.book([journal.append(body([(0, 0), (1, 10)], {job: 10}, uuid="GPU-2"))])
    assert totals(store) == {job: 10}
    assert [device.key for device in store.devices()] == ["machine/boot/GPU-2"]


def test_a_period_takes_the_minutes_it_touches(store: Store, batches: list[Batch]):
    store.book(batches)

    def energy(since_s: float | None, until_s: float | None) -> int:
        return sum(balance.energy_uj for balance in store.balances(since_s, until_s))

    assert energy(None, None) == 35
    assert energy(MINUTE_S + 59, None) == 35
    assert energy(MINUTE_S + BUCKET_S, None) == 5
    assert energy(None, MINUTE_S + BUCKET_S) == 30
    assert energy(None, MINUTE_S) == 0
    assert energy(MINUTE_S + 120, None) == 0


def test_a_store_can_be_told_a_finer_width_and_joins_all_of_them_into_hours(tmp_path: Path):
    url, journal = f"sqlite:///{tmp_path / 'books.sqlite'}", Journal(tmp_path / "journal", "m")
    second = 1_000_000_000
    coarse = Store(url)
    coarse.book([journal.append(body([(0, 0), (second, 10)], {REQUEST: 10}))])
    fine = Store(url, bucket_s=5)
    fine.book([journal.append(body([(12 * second, 10), (14 * second, 30)], {REQUEST: 20}))])
    found = {(balance.bucket_s - MINUTE_S, balance.width_s, balance.energy_uj) for balance in fine.balances()}
    assert found == {(0, 60, 10), (10, 5, 20)}
    fine.compact(MINUTE_S + 8 * 86_400)
    assert [(balance.width_s, balance.energy_uj) for balance in fine.balances()] == [(3_600, 30)]


def test_energy_counts_when_it_was_used_not_when_it_was_booked(store: Store, tmp_path: Path):
    journal, second = Journal(tmp_path / "journal", "m"), 1_000_000_000
    late = body([(58 * second, 0), (59 * second, 10)], {REQUEST: 10}) | {"wall_ns": WALL_NS + 61 * second}
    # The first reading is from before a meter came, an hour ago: what it found counts towards now.
    back = body([(-3_600 * second, 10), (70 * second, 30)], {IDLE_WATCHED: 20})
    store.book([journal.append(late), journal.append(back)])
    assert {(balance.bucket_s - MINUTE_S, balance.energy_uj) for balance in store.balances()} == {(0, 10), (0, 20)}


def test_a_job_is_told_by_the_time_it_was_charged(store: Store, tmp_path: Path):
    journal = Journal(tmp_path / "journal", "m")
    run, retry, other = (
        job_account("acme", "run-1", 1),
        job_account("acme", "run-1", 2),
        job_account("acme", "run-2", 1),
    )
    store.book(
        [
            journal.append(body([(0, 0), (1, 10)], {run: 6, other: 4})),
            journal.append(body([(1, 10), (2, 30)], {retry: 20}, minute=2)),
        ]
    )
    with store.moment() as books:
        assert list(books.by_job("run-1")) == [(MINUTE_S, 60, 6), (MINUTE_S + 120, 60, 20)]


def test_accounts_come_back_with_all_their_labels(store: Store, tmp_path: Path):
    accounts = [job_account("acme", "run-1", 2, "compress"), REQUEST, IDLE_WATCHED, GAP]
    journal = Journal(tmp_path / "journal", "m")
    store.book([journal.append(body([(0, 0), (1, 4)], dict.fromkeys(accounts, 1)))])
    assert totals(store) == dict.fromkeys(accounts, 1)


def test_devices_are_told_apart_by_boot_and_keep_their_node(store: Store, tmp_path: Path):
    journal = Journal(tmp_path / "journal", "m")
    store.book([journal.append(body([(0, 0), (1, 4)], {WARM: 4}))])
    store.book([journal.append(body([(0, 0), (1, 6)], {WARM: 6}, boot="next"))])
    assert [(device.key, device.node) for device in store.devices()] == [
        ("machine/boot/GPU-1", "node"),
        ("machine/next/GPU-1", "node"),
    ]
    assert sorted((balance.device, balance.energy_uj) for balance in store.totals()) == [
        ("machine/boot/GPU-1", 4),
        ("machine/next/GPU-1", 6),
    ]


def test_a_batch_without_movement_is_kept(store: Store, tmp_path: Path):
    batch = Journal(tmp_path / "journal", "m").append(body(clean=True))
    assert store.book([batch]) == 1
    assert (list(store.batches("m")), store.totals()) == ([batch], [])


def test_readers_do_not_wait_for_the_writer(store: Store, batches: list[Batch]):
    done: list[int] = []

    def read() -> None:
        done.extend(len(store.totals()) for _ in range(5))

    reader = threading.Thread(target=read)
    reader.start()
    store.book(batches)
    reader.join()
    assert len(done) == 5


def test_a_store_that_is_no_database_is_unavailable(tmp_path: Path):
    (tmp_path / "books.sqlite").write_bytes(b"this is no database at all, and long enough to be one" * 40)
    with pytest.raises(Unavailable, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path / 'books.sqlite'}")


def test_a_url_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="must be an SQLAlchemy URL such as sqlite:///"):
        Store("books.sqlite")
