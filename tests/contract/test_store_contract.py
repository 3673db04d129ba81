"""What a store must do, on SQLite and on a real PostgreSQL alike. The latter is skipped where it is not installed."""

import contextlib
import random
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.domain.account import GAP, Account, AccountName, job_account, request_account, warm_account
from app.engine.proof import prove
from app.engine.views import Audit
from app.errors import BooksDamaged, InvalidInput, Unavailable
from app.ledger import compaction, migration
from app.ledger.batch import GENESIS, Batch
from app.ledger.compaction import DAY_S, HOUR_S, Retention
from app.ledger.database import Database
from app.ledger.reader import Balance
from app.ledger.schema import REVISION, metadata
from app.ledger.store import Store
from tests.fixtures.batches import WALL_NS, body
from tests.fixtures.postgres import PostgresServer

REQUEST, WARM = request_account("default", "minilm", "1"), warm_account("minilm", "1")
JOB = job_account("acme", "run", 2)
WALL_S = WALL_NS // 1_000_000_000
METER, KEY = "machine:node", "machine/boot/GPU-1"
NEVER = 10_000 * DAY_S
OLD_GAP = Account(AccountName.GAP)
OLD_STORE = Path(__file__).parents[1] / "fixtures" / "store_0001.sql"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'books.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., Store]]:
    """Opens stores on the database, as often as asked."""
    with contextlib.ExitStack() as stack:

        def open_store(retention: Retention | None = None) -> Store:
            store = Store(url, retention)
            stack.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(opened: Callable[..., Store]) -> Store:
    return opened()


class Chain:
    """A meter's batches: the counter of one device goes forward, and each step is charged."""

    def __init__(self, meter: str = METER, uuid: str = "GPU-1", from_ns: int = 0) -> None:
        self.meter, self.uuid = meter, uuid
        self.previous, self.sequence, self.at_ns, self.counter_uj = GENESIS, 0, from_ns, 0

    def batch(self, charged: dict[Account, int], minute: int = 0, lasts_ns: int = 1, **fields: object) -> Batch:
        moved_uj = sum(charged.values())
        raw = [(self.at_ns, self.counter_uj), (self.at_ns + lasts_ns, self.counter_uj + moved_uj)]
        contents = body(raw, charged, minute=minute, uuid=self.uuid) | fields
        batch = Batch.sealed(self.meter, 1, self.sequence, self.previous, contents)
        self.previous, self.sequence = batch.digest, self.sequence + 1
        self.at_ns, self.counter_uj = raw[1]
        return batch

    def minutes(self, minutes: Iterable[int], charged: dict[Account, int]) -> list[Batch]:
        return [self.batch(charged, minute) for minute in minutes]


def energies(balances: Iterable[Balance]) -> dict[str, int]:
    found: dict[str, int] = {}
    for balance in balances:
        name = balance.account.name.value
        found[name] = found.get(name, 0) + balance.energy_uj
    return found


def audit(store: Store) -> Audit:
    with store.moment() as books:
        return prove(books, [])


def execute(url: str, statement: str) -> int:
    """Do something to the database that the store would not do."""
    database = Database(url)
    with database.writing("be altered") as connection:
        count = connection.execute(sa.text(statement)).rowcount
    database.close()
    return count


def compact(store: Store, now_s: float, steps: int = 5) -> list[compaction.Compaction]:
    """Compact in calls of few steps each, until nothing is left to do."""
    done = []
    while not done or done[-1].more:
        done.append(store.compact(now_s, steps))
    return done


# Booking


def test_a_group_of_batches_is_summed_by_minute_account_and_grade(store: Store):
    one, two = Chain(), Chain("machine:other", "GPU-2")
    group = [one.batch({REQUEST: 7, WARM: 3}), two.batch({REQUEST: 5}), one.batch({REQUEST: 20}, minute=1)]
    assert store.book(group) == 3
    assert {(b.bucket_s, b.width_s, b.device, b.account, b.energy_uj) for b in store.balances()} == {
        (WALL_S, 60, KEY, REQUEST, 7),
        (WALL_S, 60, KEY, WARM, 3),
        (WALL_S, 60, "machine/boot/GPU-2", REQUEST, 5),
        (WALL_S + 60, 60, KEY, REQUEST, 20),
    }
    assert energies(store.totals()) == {"request": 32, "warm": 3}
    assert store.ends() == {METER: (1, 1), "machine:other": (1, 0)}
    assert audit(store).ok


def test_one_account_in_two_grades_is_two_balances(store: Store):
    batch = Chain().batch({REQUEST: 10})
    contents = batch.body | {
        "postings": [
            {"device": KEY, "account": REQUEST.labels(), "grade": grade, "energy_uj": 5, "uncertainty_uj": 1}
            for grade in ("counter", "disputed")
        ]
    }
    store.book([Batch.sealed(METER, 1, 0, GENESIS, contents)])
    assert {(b.grade.value, b.energy_uj, b.uncertainty_uj) for b in store.totals()} == {
        ("counter", 5, 1),
        ("disputed", 5, 1),
    }
    assert audit(store).ok


def test_parts_of_jobs_add_up_over_batches_and_workers(store: Store):
    chain = Chain()

    def parts(*rows: tuple[int, int, int, int]) -> list[dict[str, object]]:
        names = ("worker", "part", "energy_uj", "time_ns")
        return [{"account": JOB.labels()} | dict(zip(names, row, strict=True)) for row in rows]

    store.book([chain.batch({JOB: 8}, parts=parts((0, 1, 3, 30), (1, 1, 5, 31)))])
    store.book([chain.batch({JOB: 9}, parts=parts((0, 1, 1, 10), (0, 2, 8, 80)))])
    assert [(p.account, p.worker, p.part, p.energy_uj, p.time_ns) for p in store.job_parts("run")] == [
        (JOB, 0, 1, 4, 40),
        (JOB, 0, 2, 8, 80),
        (JOB, 1, 1, 5, 31),
    ]
    assert (store.job_parts("another"), len(store.job_parts())) == ([], 3)
    assert audit(store).ok


def test_an_altered_part_is_found(store: Store, url: str):
    part = {"account": JOB.labels(), "worker": 0, "part": 1, "energy_uj": 3, "time_ns": 30}
    store.book([Chain().batch({JOB: 8}, parts=[part])])
    execute(url, "UPDATE job_parts SET energy_uj = 4")
    assert "part 1 of worker 0" in audit(store).faults[0]


def test_a_batch_counts_once_however_often_it_comes(store: Store, opened: Callable[..., Store]):
    chain = Chain()
    first, second = chain.batch({REQUEST: 7}), chain.batch({REQUEST: 20})
    assert store.book([first, first]) == 1
    assert store.book([second, first, second]) == 1
    assert opened().book([first, second]) == 0
    assert energies(store.totals()) == {"request": 27} == energies(store.balances())
    assert list(store.batches(METER)) == [first, second]


def test_another_batch_in_the_place_of_one_is_refused_with_all_its_group(store: Store):
    store.book([Chain().batch({REQUEST: 7})])
    group = [Chain("machine:other", "GPU-2").batch({REQUEST: 5}), Chain().batch({REQUEST: 8})]
    with pytest.raises(BooksDamaged, match=r"machine:node, batch 1\.0: the store holds another one"):
        store.book(group)
    with pytest.raises(BooksDamaged, match=r"machine:new, batch 1\.0: the store holds another one"):
        store.book([Chain("machine:new").batch({WARM: 1}), Chain("machine:new").batch({WARM: 2})])
    assert energies(store.totals()) == {"request": 7}
    assert store.book(group[:1]) == 1


def test_what_cannot_be_understood_is_named_and_leaves_nothing(store: Store):
    good, chain = Chain("machine:other", "GPU-2").batch({REQUEST: 5}), Chain()
    broken = [
        Batch.sealed(METER, 1, 0, GENESIS, {}),
        Batch.sealed(METER, 1, 0, GENESIS, chain.batch({WARM: 2}).body | {"devices": [], "postings": [{}]}),
        chain.batch({WARM: 2**62}),
        Batch(METER, 1, 0, GENESIS, "digest", b"not deflated"),
    ]
    for batch in broken:
        with pytest.raises(BooksDamaged, match=rf"machine:node, batch 1\.{batch.sequence}: cannot be booked"):
            store.book([good, batch])
    assert (store.totals(), store.balances(), store.ends(), store.devices()) == ([], [], {}, [])
    assert store.book([good]) == 1


def test_more_than_a_statement_can_name_is_still_one_group(store: Store):
    group = [Chain(f"machine:{n}", f"GPU-{n}").batch({warm_account(f"m{n}", "1"): 1}) for n in range(1_500)]
    assert (store.book(group), store.book(group)) == (1_500, 0)
    assert energies(store.totals()) == {"warm": 1_500}


def test_bookers_at_the_same_time_book_each_batch_once(opened: Callable[..., Store], store: Store):
    chains = [Chain(f"machine:{n}", f"GPU-{n}") for n in range(4)]
    batches = [batch for chain in chains for batch in chain.minutes(range(10), {REQUEST: 3, WARM: 1})]
    stores = [opened() for _ in range(4)]

    def book(number: int) -> int:
        shuffled = random.Random(number).sample(batches, len(batches))
        return sum(stores[number].book(shuffled[begin : begin + 7]) for begin in range(0, len(shuffled), 7))

    with ThreadPoolExecutor(len(stores)) as pool:
        assert sum(pool.map(book, range(len(stores)))) == len(batches)
    assert energies(store.totals()) == {"request": 120, "warm": 40} == energies(store.balances())
    assert audit(store).ok


def test_a_booker_that_remembers_what_was_undone_begins_anew(store: Store, url: str):
    """Ids that were looked up in a transaction that failed are not used in the next."""
    chain = Chain()
    with pytest.raises(BooksDamaged):
        store.book([chain.batch({REQUEST: 1}), chain.batch({REQUEST: 2**62})])
    store.book([Chain("machine:other", "GPU-2").batch({WARM: 5})])
    store.book([Chain().batch({REQUEST: 1})])
    assert energies(store.totals()) == {"request": 1, "warm": 5}


# Reading


def test_a_moment_does_not_see_what_is_booked_after_it(store: Store):
    chain = Chain()
    store.book([chain.batch({REQUEST: 7})])
    with store.moment() as books:
        assert energies(books.totals()) == {"request": 7}
        store.book([chain.batch({REQUEST: 20})])
        assert energies(books.totals()) == {"request": 7}
        assert books.ends() == {METER: (1, 0)}
        assert len(list(books.batches(METER))) == 1
        assert prove(books, []).ok
    assert energies(store.totals()) == {"request": 27}


def test_an_audit_beside_a_booker_finds_no_fault(store: Store, opened: Callable[..., Store]):
    chain, other = Chain(), opened()
    batches = chain.minutes(range(60), {REQUEST: 3, WARM: 1})
    stop = threading.Event()

    def book() -> None:
        for batch in batches:
            other.book([batch])
        stop.set()

    booker = threading.Thread(target=book)
    booker.start()
    audits = [audit(store)]
    while not stop.is_set():
        audits.append(audit(store))
    booker.join()
    assert [found.faults for found in audits] == [()] * len(audits)


def test_two_meters_on_one_device_are_found(store: Store):
    one, two = Chain(), Chain("machine:other", from_ns=3_000_000_000)
    store.book([one.batch({REQUEST: 7}, lasts_ns=10_000_000_000)])
    store.book([two.batch({REQUEST: 7}, lasts_ns=4_000_000_000), two.batch({REQUEST: 7}, lasts_ns=4_000_000_000)])
    (overlap,) = store.overlaps()
    assert (overlap.device, overlap.meters) == (KEY, (METER, "machine:other"))
    assert (overlap.from_ns, overlap.until_ns) == (3_000_000_000, 10_000_000_000)
    found = audit(store)
    assert not found.ok
    assert found.faults[0].startswith(f"{KEY}: meters machine:node and machine:other both booked 7.0 s of it")


def test_meters_that_follow_each_other_do_not_overlap(store: Store):
    one, two = Chain(), Chain("machine:other", from_ns=9_900_000_000)
    store.book([one.batch({REQUEST: 7}, lasts_ns=10_000_000_000), two.batch({REQUEST: 7}, lasts_ns=4_000_000_000)])
    assert store.overlaps() == []
    assert audit(store).ok


# Rollups


def test_minutes_become_hours_become_days_and_totals_stay(opened: Callable[..., Store]):
    store = opened(Retention(batches_s=NEVER, minutes_s=2 * HOUR_S, hours_s=2 * DAY_S))
    chain = Chain()
    minutes = range(0, 3 * 24 * 60, 21)
    store.book(chain.minutes(minutes, {REQUEST: 3, WARM: 1}))
    now_s = WALL_S + 3 * DAY_S
    done = compact(store, now_s)
    assert sum(each.buckets for each in done) > 24
    widths = {balance.width_s for balance in store.balances()}
    assert widths == {60, HOUR_S, DAY_S}
    assert energies(store.balances()) == energies(store.totals())
    assert energies(store.totals()) == {"request": 3 * len(minutes), "warm": len(minutes)}
    assert all(b.bucket_s % b.width_s == 0 for b in store.balances())
    # What is young stays fine: the newest hours by minute, the days before by hour.
    assert min(b.bucket_s for b in store.balances() if b.width_s == 60) >= now_s - 3 * HOUR_S
    assert min(b.bucket_s for b in store.balances() if b.width_s == HOUR_S) >= now_s - 3 * DAY_S
    assert audit(store).ok
    assert compact(store, now_s) == [compaction.Compaction()]


def test_a_period_over_several_widths_takes_each_bucket_once(opened: Callable[..., Store]):
    store = opened(Retention(batches_s=NEVER, minutes_s=HOUR_S, hours_s=DAY_S))
    begin_s = WALL_S // DAY_S * DAY_S + DAY_S
    first = (begin_s - WALL_S) // 60
    store.book(Chain().minutes(range(first, first + 2 * 24 * 60, 10), {REQUEST: 1}))
    compact(store, begin_s + 2 * DAY_S, steps=1_000)

    def energy(since_s: int | None, until_s: int | None) -> int:
        return sum(balance.energy_uj for balance in store.balances(since_s, until_s))

    day, hour = begin_s + DAY_S, begin_s + 2 * DAY_S - 2 * HOUR_S
    assert [balance.width_s for balance in store.balances(begin_s, day)] == [DAY_S]
    assert {balance.width_s for balance in store.balances(begin_s, None)} == {60, HOUR_S, DAY_S}
    # Cut at the edge of a bucket, the parts of a period add up.
    assert (energy(None, day), energy(day, hour), energy(hour, None)) == (144, 132, 12)
    assert energy(None, None) == 288
    # Cut within one, it counts on both sides, as a whole.
    assert energy(begin_s + 60, begin_s + 120) == 144
    assert energy(day + 60, day + 120) == 6
    assert energy(begin_s + 2 * DAY_S - 600, None) == 1


def test_a_batch_that_comes_late_goes_into_the_bucket_that_its_minute_became(opened: Callable[..., Store]):
    store = opened(Retention(batches_s=NEVER, minutes_s=HOUR_S, hours_s=NEVER))
    chain = Chain()
    store.book(chain.minutes((0, 10), {REQUEST: 3}))
    now_s = WALL_S + 6 * HOUR_S
    compact(store, now_s)
    store.book([chain.batch({REQUEST: 5}, minute=5)])
    compact(store, now_s)
    assert [(b.width_s, b.energy_uj) for b in store.balances()] == [(HOUR_S, 11)]
    assert audit(store).ok


# Retention


@pytest.fixture
def keeping(opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that keeps batches for two days, with two meters' batches of six."""
    monkeypatch.setattr(compaction, "BATCHES_A_SEAL", 10)
    monkeypatch.setattr(compaction, "BATCHES_A_STEP", 4)
    store = opened(Retention(batches_s=2 * DAY_S, minutes_s=NEVER, hours_s=NEVER))
    for chain in chains():
        store.book(chain)
    return store


PART = {"account": JOB.labels(), "worker": 0, "part": 1, "energy_uj": 3, "time_ns": 30}


def chains() -> list[list[Batch]]:
    """Two meters, four batches a day for six days."""
    one, two = Chain(), Chain("machine:other", "GPU-2")
    minutes = range(0, 6 * 24 * 60, 360)
    dead = two.batch({WARM: 4, GAP: 5}, lasts_ns=30_000_000_000)
    dead.body["devices"][0]["absence"] = "dead"
    gap = Batch.sealed(two.meter, 1, 0, GENESIS, dead.body)
    two.previous = gap.digest
    return [
        [one.batch({REQUEST: 3, WARM: 1}, minute, parts=[PART]) for minute in minutes],
        [gap, *two.minutes(minutes, {WARM: 2})],
    ]


NOW_S = WALL_S + 6 * DAY_S


def test_dropped_batches_leave_seals_that_prove_the_rest(keeping: Store, opened: Callable[..., Store]):
    before = audit(keeping)
    done = compact(keeping, NOW_S)
    left = [len(list(keeping.batches(chain[0].meter))) for chain in chains()]
    assert sum(each.sealed for each in done) == sum(each.dropped for each in done) == 49 - sum(left)
    assert max(left) < 16
    after = audit(keeping)
    assert after.faults == ()
    assert (after.devices, after.energy_uj, after.gaps) == (before.devices, before.energy_uj, before.gaps)
    assert energies(keeping.totals()) == {"request": 72, "warm": 24 + 4 + 48, "gap": 5}
    assert opened().ends() == {METER: (1, 23), "machine:other": (1, 24)}
    assert compact(keeping, NOW_S) == [compaction.Compaction()]


def test_what_was_dropped_and_comes_again_is_not_new(keeping: Store, opened: Callable[..., Store]):
    stale = opened()
    assert stale.book(chains()[0]) == 0
    compact(keeping, NOW_S)
    for store in (keeping, stale, opened()):
        assert [store.book(chain) for chain in chains()] == [0, 0]
    assert audit(keeping).faults == ()


def test_the_chain_goes_on_after_its_seal(keeping: Store):
    compact(keeping, NOW_S + 90 * DAY_S)
    assert list(keeping.batches(METER)) == []
    chain = Chain()
    *_, last = chains()[0]
    chain.previous, chain.sequence = last.digest, last.sequence + 1
    chain.at_ns, chain.counter_uj = last.body["devices"][0]["raw"][-1]
    assert keeping.book([chain.batch({REQUEST: 8}, minute=99 * 1440)]) == 1
    assert audit(keeping).faults == ()
    compact(keeping, NOW_S + 200 * DAY_S)
    assert audit(keeping).faults == ()
    assert energies(keeping.totals())["request"] == 80


def test_a_compaction_that_was_cut_short_is_continued(keeping: Store, opened: Callable[..., Store]):
    """Killed after any step, the books still prove, and the next compaction finishes the work."""
    while keeping.compact(NOW_S, steps=1).more:
        assert audit(keeping).faults == ()
    for _ in range(2):
        assert opened().compact(NOW_S).sealed == 0


def test_batches_with_a_fault_are_kept_as_evidence(keeping: Store, url: str):
    execute(url, "UPDATE batches SET previous = 'another' WHERE sequence = 5")
    done = compact(keeping, NOW_S)
    assert [batch.sequence for batch in keeping.batches(METER)][:2] == [5, 6]
    assert any("meter machine:node: batches are kept: " in reason for each in done for reason in each.kept)
    assert any("batch 1.5: the chain is broken" in fault for fault in audit(keeping).faults)


@pytest.mark.parametrize(
    ("done", "found"),
    [
        ("DELETE FROM seals WHERE id = (SELECT min(id) FROM seals)", "the chain of seals is broken"),
        ("DELETE FROM seals WHERE meter = 'machine:node'", "the chain is broken; a batch before it was removed"),
        ("UPDATE seals SET digest = 'another' WHERE id = 1", "its digest does not match its contents"),
        ("UPDATE seals SET sequence = sequence - 1 WHERE id = 1", "its digest does not match its contents"),
        ("UPDATE seals SET body = (SELECT body FROM seals WHERE id = 2) WHERE id = 1", "the seal was altered"),
        ("DELETE FROM batches WHERE sequence = (SELECT min(sequence) FROM batches)", "the chain is broken"),
        ("UPDATE lines SET energy_uj = energy_uj + 1 WHERE id = 1", "the running totals were altered"),
        ("UPDATE balances SET energy_uj = energy_uj + 1 WHERE line = 1", "the balances were altered"),
        ("UPDATE spans SET last_ns = last_ns + 1", "the spans were altered"),
    ],
)
def test_what_is_done_to_a_store_with_seals_is_found(keeping: Store, url: str, done: str, found: str):
    compact(keeping, NOW_S)
    assert execute(url, done) > 0
    audited = audit(keeping)
    assert not audited.ok
    assert any(found in fault for fault in audited.faults), audited.faults


def test_an_audit_explains_each_gap_and_names_who_was_not_heard(keeping: Store):
    compact(keeping, NOW_S)
    audited = audit(keeping)
    (gap,) = audited.gaps
    assert (gap.node, gap.device_key, gap.meter) == ("node", "machine/boot/GPU-2", "machine:other")
    assert (gap.energy_uj, gap.duration_s, gap.since_s) == (5, 30, WALL_S)
    assert "the meter died without a closing reading" in gap.reason
    assert [note.split(" was not heard")[0] for note in audited.notes] == [
        "meter machine:node (node node)",
        "meter machine:other (node node)",
    ]
    assert audited.ok


# Opening


def old_store(url: str) -> None:
    """Fill the database with what version 0.1 left in one of its own."""
    source = sqlite3.connect(":memory:")
    source.executescript(OLD_STORE.read_text())
    database = Database(url)
    with database.writing("be filled") as connection:
        migration.upgrade(connection, "0001")
        connection.execute(sa.text("DROP TABLE alembic_version"))
        old = sa.MetaData()
        old.reflect(connection)
        for name in ("accounts", "devices", "batches", "balances"):
            cursor = source.execute(f"SELECT * FROM {name}")
            names = [column[0] for column in cursor.description]
            connection.execute(sa.insert(old.tables[name]), [dict(zip(names, row, strict=True)) for row in cursor])
    database.close()
    source.close()


def check_upgraded(store: Store) -> None:
    assert {(b.account, b.grade.value, b.energy_uj) for b in store.totals()} == {
        (REQUEST, "counter", 27),
        (WARM, "counter", 6),
        (OLD_GAP, "counter", 2),
        (JOB, "modelled", 42),
    }
    assert {(b.bucket_s - WALL_S, b.width_s, b.account, b.energy_uj) for b in store.balances()} == {
        (0, 60, REQUEST, 27),
        (0, 60, WARM, 3),
        (60, 60, WARM, 3),
        (60, 60, OLD_GAP, 2),
        (4_200, 60, JOB, 42),
    }
    found = audit(store)
    assert (found.ok, found.faults, found.energy_uj, len(found.gaps)) == (True, (), 77, 1)


def test_a_store_of_version_0_1_is_upgraded_with_all_it_holds(url: str, opened: Callable[..., Store]):
    old_store(url)
    store = opened()
    check_upgraded(store)
    assert store.book(list(store.batches("machine:node:second"))) == 0
    last = next(iter(store.batches("machine:node:second")))
    late = body([(9, 142), (10, 150)], {JOB: 8}, uuid="cpu-1", grade="modelled", minute=71)
    assert store.book([Batch.sealed("machine:node:second", 1, 1, last.digest, late)]) == 1
    assert {b.energy_uj for b in store.totals() if b.account == JOB} == {50}
    assert audit(opened()).ok


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_open_a_store_at_once_do_not_disturb_each_other(url: str, old: bool):
    if old:
        old_store(url)
    barrier = threading.Barrier(4)

    def open_store(_: int) -> Store:
        barrier.wait()
        return Store(url)

    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(open_store, range(4)))
    for store in stores:
        if old:
            check_upgraded(store)
        assert audit(store).ok
        store.close()


def test_many_that_make_a_new_file_at_once_wait_for_each_other(tmp_path: Path):
    together = threading.Barrier(8)

    def open_new(name: str) -> bool:
        together.wait()
        with contextlib.closing(Store(f"sqlite:///{tmp_path / name}")) as store:
            return audit(store).ok

    with ThreadPoolExecutor(8) as pool:
        for number in range(30):  # SQLite refuses one in every fifth or so of these, unless it is asked again
            assert all(pool.map(open_new, [f"{number}.sqlite"] * 8))


def test_a_store_of_a_newer_program_is_refused(store: Store, url: str):
    execute(url, "UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(InvalidInput, match=r"revision 0999 of its schema, this program knows revisions up to 000\d"):
        Store(url)


@pytest.mark.parametrize("old", [False, True])
def test_the_schema_is_the_same_upgraded_or_made_new(url: str, opened: Callable[..., Store], old: bool):
    if old:
        old_store(url)
    opened()
    database = Database(url)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_the_newest_script_leads_to_the_revision_of_the_schema():
    assert ScriptDirectory(str(Path(migration.__file__).with_name("migrations"))).get_current_head() == REVISION


# Failing


def test_a_server_that_goes_away_is_unavailable_and_then_works_again(postgres: PostgresServer):
    store = Store(postgres.new_database())
    chain = Chain()
    first, second = chain.batch({REQUEST: 7}), chain.batch({REQUEST: 20})
    store.book([first])
    postgres.stop()
    try:
        for ask in (lambda: store.book([second]), store.totals, lambda: store.compact(NOW_S)):
            with pytest.raises(Unavailable, match="the ledger's store cannot"):
                ask()
    finally:
        postgres.start()
    assert (store.book([first, second]), energies(store.totals())) == (1, {"request": 27})
    assert audit(store).ok
    store.close()


def test_a_store_may_be_opened_before_its_server_is_there(postgres: PostgresServer):
    url = postgres.new_database()
    postgres.stop()
    try:
        with pytest.raises(Unavailable, match="the ledger's store cannot be opened"):
            Store(url)
        store = Store(url, at_once=False)
        with pytest.raises(Unavailable, match="the ledger's store cannot be opened"):
            store.totals()
    finally:
        postgres.start()
    assert store.book([Chain().batch({REQUEST: 7})]) == 1
    assert audit(store).ok
    store.close()


def test_a_server_that_dies_in_the_middle_of_a_booking_leaves_nothing_half_booked(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    store = Store(postgres.new_database())
    chain = Chain()
    batches = chain.minutes(range(20), {REQUEST: 7, WARM: 1})
    store.book(batches[:10])
    add_spans = store._booker._add_spans

    def die(*arguments: object) -> None:
        postgres.stop()
        add_spans(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store._booker, "_add_spans", die)
    try:
        with pytest.raises(Unavailable):
            store.book(batches)
    finally:
        monkeypatch.undo()
        postgres.start()
    assert (energies(store.totals()), audit(store).ok) == ({"request": 70, "warm": 10}, True)
    assert store.book(batches) == 10
    assert audit(store).ok
    store.close()


def test_a_full_disk_is_unavailable_and_leaves_nothing_half_booked(tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path / 'books.sqlite'}")
    chain = Chain()
    store.book([chain.batch({REQUEST: 7})])
    limit = 0

    def bound(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit or 1_000_000_000}")

    sa.event.listen(store._database._engine, "checkout", bound)
    with contextlib.closing(sqlite3.connect(tmp_path / "books.sqlite")) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    limit = pages + 2
    batches = [chain.batch({warm_account(f"m{n}", "1"): 1}) for n in range(300)]
    with pytest.raises(Unavailable, match="cannot take a batch: database or disk is full"):
        store.book(batches)
    assert energies(store.totals()) == {"request": 7}
    assert audit(store).ok
    limit = 0
    assert store.book(batches) == 300
    assert audit(store).ok
    store.close()
