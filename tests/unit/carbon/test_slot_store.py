"""What providers said, on disk: revisions, forecasts, quotas and looks, shared by processes."""

from pathlib import Path

import pytest

from app.carbon import slot_store
from app.carbon.intensity import IntensityGrade, Slot
from app.carbon.slot_store import SlotStore
from app.errors import Busy, Unavailable

S = 1_000_000_000
HOUR = 3_600 * S
ACTUAL, ESTIMATED, FORECAST, *_ = IntensityGrade


def hour(number: int, g_per_kwh: float, grade: IntensityGrade = ACTUAL) -> Slot:
    return Slot(number * HOUR, (number + 1) * HOUR, g_per_kwh, grade, "grid")


@pytest.fixture
def store(tmp_path: Path) -> SlotStore:
    return SlotStore(tmp_path / "deep" / "grid.sqlite")


def test_what_was_recorded_is_there_for_another_process(store: SlotStore, tmp_path: Path):
    assert store.record("one", [hour(1, 100), hour(2, 200)], 5) == 2
    other = SlotStore(tmp_path / "deep" / "grid.sqlite")
    assert other.observed("one") == (hour(1, 100), hour(2, 200))
    assert other.observed("other") == ()
    assert other.newest_ns("one") == 3 * HOUR
    assert other.newest_ns("other") is None


def test_the_same_again_changes_nothing(store: SlotStore):
    store.record("one", [hour(1, 100)], 5)
    version = store.version("one")
    assert store.record("one", [hour(1, 100.0000001)], 6) == 0
    assert store.version("one") == version
    assert store.revisions("one", 0, 9 * HOUR, 0) == ()


def test_each_revision_is_kept_and_so_is_the_first_figure(store: SlotStore):
    for at, g_per_kwh in enumerate((100, 110, 120)):
        store.record("one", [hour(1, g_per_kwh)], at)
    (slot,) = store.observed("one")
    assert (slot.g_per_kwh, slot.first_g_per_kwh) == (120, 100)
    told = store.revisions("one", 0, 9 * HOUR, 0)
    assert [(each.old_g_per_kwh, each.new_g_per_kwh, each.seen_ns) for each in told] == [(100, 110, 1), (110, 120, 2)]
    assert [each.seen_ns for each in store.revisions("one", 0, 9 * HOUR, 2)] == [2]
    assert store.revisions("one", 2 * HOUR, 9 * HOUR, 0) == ()


def test_a_better_grade_of_the_same_figure_is_no_revision(store: SlotStore):
    store.record("one", [hour(1, 100, ESTIMATED)], 1)
    assert store.record("one", [hour(1, 100, ACTUAL)], 2) == 1
    assert store.observed("one") == (hour(1, 100, ACTUAL),)
    assert store.revisions("one", 0, 9 * HOUR, 0) == ()


def test_slots_of_another_width_take_the_place_of_what_they_cover(store: SlotStore):
    quarters = [Slot(HOUR + i * HOUR // 4, HOUR + (i + 1) * HOUR // 4, 100, ACTUAL, "grid") for i in range(4)]
    store.record("one", quarters, 1)
    store.record("one", [hour(1, 200)], 2)
    assert [(slot.start_ns, slot.end_ns, slot.g_per_kwh) for slot in store.observed("one")] == [(HOUR, 2 * HOUR, 200)]


def test_the_newest_word_on_each_slot_is_the_forecast(store: SlotStore):
    store.record_forecast("one", [hour(1, 100, FORECAST), hour(2, 200, FORECAST)], 10)
    store.record_forecast("one", [hour(2, 250, FORECAST), hour(3, 300, FORECAST)], 20)
    assert [slot.g_per_kwh for slot in store.forecast("one")] == [100, 250, 300]
    said = store.past_forecasts("one", 2 * HOUR, 3 * HOUR)
    assert [(each.issued_ns, each.slot.g_per_kwh) for each in said] == [(10, 200), (20, 250)]


def test_a_forecast_that_says_the_same_is_not_kept_twice(store: SlotStore):
    for at in (10, 20):
        store.record_forecast("one", [hour(1, 100, FORECAST)], at)
    assert [each.issued_ns for each in store.past_forecasts("one", 0, 9 * HOUR)] == [10]


def test_only_so_many_forecasts_are_kept(store: SlotStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slot_store, "_ISSUES_KEPT", 3)
    for at in range(10):
        store.record_forecast("one", [hour(1, 100 + at, FORECAST)], at)
    assert [each.issued_ns for each in store.past_forecasts("one", 0, 9 * HOUR)] == [7, 8, 9]


def test_a_quota_is_a_rolling_window_and_says_when_there_is_room(store: SlotStore, tmp_path: Path):
    other = SlotStore(tmp_path / "deep" / "grid.sqlite")
    for at in (0, 10, 20):
        (store if at else other).spend("eia", 3, 60, at * S)
    with pytest.raises(Busy) as refused:
        other.spend("eia", 3, 60, 45 * S)
    assert refused.value.retry_after_s == 15
    assert store.spent("eia", 5 * S) == 2
    store.spend("neso", 3, 60, 45 * S)
    store.spend("eia", 3, 60, 60 * S)


def test_a_source_is_failing_since_its_first_fault(store: SlotStore):
    assert store.look("one", "recent") is None
    for at, fault in ((10, ""), (20, "down"), (30, "still down")):
        store.looked("one", "recent", at, at + 5, fault)
    look = store.look("one", "recent")
    assert look is not None
    assert (look.at_ns, look.again_ns, look.fault, look.since_ns) == (30, 35, "still down", 20)
    store.looked("one", "recent", 40, 45, "")
    assert (again := store.look("one", "recent")) is not None
    assert again.since_ns == 40


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path):
    (tmp_path / "grid.sqlite").write_bytes(b"no database" * 200)
    with pytest.raises(Unavailable, match=r"grid\.sqlite"):
        SlotStore(tmp_path / "grid.sqlite").observed("one")


def test_a_closed_store_opens_again(store: SlotStore):
    store.record("one", [hour(1, 100)], 5)
    store.close()
    assert len(store.observed("one")) == 1
