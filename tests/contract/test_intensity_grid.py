"""The grid over real HTTP: fallback, quotas, revisions, staleness, a provider that dies, processes that share one."""

import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.carbon.grid import Grid, open_grid
from app.carbon.grid_settings import grid_settings
from app.carbon.intensity import IntensityGrade, LocationAverage, Marginal, MarketBased
from app.carbon.providers.wire import Wire
from app.carbon.zones import find_zone
from app.clock import ManualClock
from app.errors import NotFound
from tests.fixtures.grid_server import HOUR_NS, KEY, PASSWORD, USER, Fault, GridServer

NOON = int(datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
MINUTE_NS = HOUR_NS // 60
YEARLY = find_zone("FRA").intensity_g_per_kwh

Open = Callable[..., Grid]


def truth(at_ns: int) -> float:
    """100 to 330 gCO2e/kWh by the hour of the day."""
    return 100.0 + 10 * (at_ns // HOUR_NS % 24)


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Wire.__init__

    def patient(self: Wire, *args: object, **options: object) -> None:
        before(self, *args, **{**options, "sleep": lambda seconds: None})  # type: ignore[arg-type]

    monkeypatch.setattr(Wire, "__init__", patient)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_ns=NOON + HOUR_NS // 2)


@pytest.fixture
def server(clock: ManualClock) -> Iterator[GridServer]:
    with GridServer(truth, now_ns=clock.wall_ns) as server:
        yield server


@pytest.fixture
def opened(server: GridServer, clock: ManualClock, tmp_path: Path) -> Iterator[Open]:
    grids: list[Grid] = []

    def make(*average: str, **more: object) -> Grid:
        access = {name: {"url": server.url, "key": KEY} for name in ("electricitymaps", "neso", "entsoe", "eia")}
        access["watttime"] = {"url": server.url, "user": USER, "key": PASSWORD}
        settings = grid_settings(zone="FRA", average=average, access=access, cache=tmp_path / "grid.sqlite", **more)
        grids.append(open_grid(settings, clock))
        return grids[-1]

    yield make
    for grid in grids:
        grid.close()


def test_without_sources_the_yearly_figure_holds_and_nobody_is_asked(
    server: GridServer, opened: Open, clock: ManualClock, tmp_path: Path
):
    grid = opened()
    zone = find_zone("FRA")
    assert not grid.refresh()
    held = grid.average().intensity_at(clock.wall_ns())
    assert held == LocationAverage(YEARLY, "FRA", zone.source, zone.year, IntensityGrade.YEARLY)
    assert (grid.marginal(), grid.market(), grid.warnings, server.asked) == (None, None, (), [])
    assert list(tmp_path.iterdir()) == []


def test_what_holds_now_comes_from_the_first_source(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR", "entsoe:10YFR-RTE------C")
    assert grid.average().intensity_at(clock.wall_ns()).grade is IntensityGrade.YEARLY
    assert grid.refresh()
    held = grid.average().intensity_at(clock.wall_ns())
    assert held == LocationAverage(truth(NOON), "FRA", "electricitymaps", None, IntensityGrade.ACTUAL)
    assert server.count("entsoe") == 0


def test_nothing_is_asked_again_before_its_time(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR")
    grid.refresh()
    asked = server.count("electricitymaps")
    assert not grid.refresh()
    clock.advance(299 * 1_000_000_000)
    assert not grid.refresh()
    clock.advance(1_000_000_000)
    assert grid.refresh()
    assert server.count("electricitymaps") == asked + 1, "the forecast is due every 20 minutes, older days once a day"


def test_while_the_first_source_fails_the_next_one_fills_in(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR", "entsoe:10YFR-RTE------C")
    server.fail("electricitymaps", Fault(503))
    grid.refresh()
    held = grid.average().intensity_at(NOON - HOUR_NS)
    assert (held.source, held.g_per_kwh) == ("entsoe", pytest.approx(truth(NOON - HOUR_NS)))
    (warning,) = grid.warnings
    assert warning.startswith("electricitymaps:FR fails since 2026-03-10 12:30 UTC: electricitymaps answers 503")

    server.fail("electricitymaps", None)
    clock.advance(10 * MINUTE_NS)
    grid.refresh()
    assert grid.average().intensity_at(NOON - HOUR_NS).source == "electricitymaps"
    assert grid.warnings == ()


def test_a_source_that_answers_without_new_data_is_helped_out(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR", "entsoe:10YFR-RTE------C")
    server.fail("electricitymaps", Fault(200, '{"zone": "FR", "history": []}'))
    grid.refresh()
    assert grid.average().intensity_at(NOON - HOUR_NS).source == "entsoe"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_left_alone_for_an_hour(status: int, server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR")
    server.fail("electricitymaps", Fault(status))
    grid.refresh()
    clock.advance(59 * MINUTE_NS)
    assert not grid.refresh()
    clock.advance(MINUTE_NS)
    assert grid.refresh()
    assert server.count("electricitymaps") == 2


def test_a_provider_out_of_reach_is_asked_ever_more_rarely(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("neso:GB")
    server.fail("neso", Fault(503))
    times = []
    for minute in range(240):
        if grid.refresh():
            times.append(minute)
        clock.advance(MINUTE_NS)
    # As long as it has failed so far, at least 5 and at most 60 minutes.
    assert times == [0, 5, 10, 20, 40, 80, 140, 200]


def test_a_spent_quota_of_theirs_is_waited_out(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("neso:GB")
    server.fail("neso", Fault(429, headers={"retry-after": "1800"}), None)
    grid.refresh()
    clock.advance(29 * MINUTE_NS)
    assert not grid.refresh()
    clock.advance(MINUTE_NS)
    assert grid.refresh()


def test_our_quota_holds_for_all_processes_together(server: GridServer, opened: Open, clock: ManualClock):
    grids = [opened("electricitymaps:FR", requests_per_hour=10, refresh_s=1) for _ in range(3)]
    for _ in range(600):
        for grid in grids:
            grid.refresh()
        clock.advance(1_000_000_000)
    assert server.count("electricitymaps") == 10
    assert "10 requests in 3600 s are made, its quota is spent" in "".join(grids[0].warnings)
    assert [status.requests for status in grids[1].sources()] == [10]
    clock.advance(HOUR_NS)
    assert grids[2].refresh()


def test_one_process_refreshing_is_enough_for_all_of_a_host(server: GridServer, opened: Open, clock: ManualClock):
    writer, reader = opened("electricitymaps:FR"), opened("electricitymaps:FR")
    assert reader.average().revision == 0
    writer.refresh()
    assert reader.average().intensity_at(NOON).g_per_kwh == truth(NOON)
    asked = server.count("electricitymaps")
    assert not reader.refresh()
    assert server.count("electricitymaps") == asked


def test_what_is_told_anew_is_a_revision_and_the_first_figure_is_kept(
    server: GridServer, opened: Open, clock: ManualClock
):
    grid = opened("electricitymaps:FR")
    grid.refresh()
    before = grid.average()
    hour = NOON - 3 * HOUR_NS
    server.truth = lambda at: 55.0 if at == hour else truth(at)
    clock.advance(5 * MINUTE_NS)
    grid.refresh()
    after = grid.average()
    assert before.intensity_at(hour).g_per_kwh == truth(hour), "a snapshot does not change"
    assert after.intensity_at(hour).g_per_kwh == 55.0
    assert after.revision > before.revision
    (revision,) = grid.revisions(NOON - 24 * HOUR_NS, NOON)
    assert (revision.start_ns, revision.old_g_per_kwh, revision.new_g_per_kwh) == (hour, truth(hour), 55.0)
    assert revision.seen_ns == clock.wall_ns()
    (slot,) = after.slots_between(hour, hour + HOUR_NS)
    assert slot.first_g_per_kwh == truth(hour)
    assert grid.revisions(NOON - 24 * HOUR_NS, NOON, seen_since_ns=clock.wall_ns() + 1) == ()


def test_what_is_read_piece_by_piece_is_what_is_read_at_once(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR", "entsoe:10YFR-RTE------C")
    for i in range(12):
        revised = NOON - (i * 17 % 90) * HOUR_NS
        server.truth = lambda at, revised=revised, i=i: truth(at) + (i + 1 if at == revised else 0)
        server.fail("electricitymaps", Fault(503) if i % 4 == 3 else None)
        grid.refresh()
        grid.fetch(NOON - (40 + 10 * i) * HOUR_NS, NOON - (20 + 10 * i) * HOUR_NS)
        assert grid.average() == opened("electricitymaps:FR", "entsoe:10YFR-RTE------C").average()
        clock.advance(HOUR_NS)


def test_older_days_are_asked_for_again_once_a_day(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR")
    grid.refresh()
    hour = NOON - 5 * 24 * HOUR_NS
    server.truth = lambda at: 55.0 if at == hour else truth(at)
    clock.advance(23 * HOUR_NS)
    grid.refresh()
    assert grid.average().intensity_at(hour).g_per_kwh == truth(hour)
    clock.advance(HOUR_NS)
    grid.refresh()
    assert grid.average().intensity_at(hour).g_per_kwh == 55.0


def test_a_figure_that_turns_null_later_is_kept(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR")
    grid.refresh()
    server.truth = lambda at: None
    clock.advance(5 * MINUTE_NS)
    grid.refresh()
    assert grid.average().intensity_at(NOON - HOUR_NS).g_per_kwh == truth(NOON - HOUR_NS)


def test_when_the_provider_dies_only_the_grade_changes(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR")
    grid.refresh()
    server.fail("electricitymaps", Fault(503))
    for _ in range(6):
        clock.advance(HOUR_NS)
        grid.refresh()
        held = grid.average().intensity_at(clock.wall_ns())
        assert held.g_per_kwh == truth(clock.wall_ns())
        assert held.grade is IntensityGrade.FORECAST


def test_without_a_forecast_the_last_figure_is_carried_and_then_the_year_holds(
    server: GridServer, opened: Open, clock: ManualClock
):
    grid = opened("entsoe:10YFR-RTE------C", stale_hours=6)
    grid.refresh()
    server.fail("entsoe", Fault(503))
    last = grid.average().observed_until_ns or 0
    grades = [grid.average().intensity_at(last + i * HOUR_NS).grade for i in (-1, 0, 5, 6)]
    stale = IntensityGrade.STALE
    assert grades == [IntensityGrade.ACTUAL, stale, stale, IntensityGrade.YEARLY]
    assert grid.average().intensity_at(last + 6 * HOUR_NS).g_per_kwh == YEARLY


def test_the_three_meanings_stand_beside_each_other(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("electricitymaps:FR", marginal=("watttime:CAISO_NORTH",), market=("constant:12.5",))
    assert grid.marginal() is None, "nothing was told yet, and nothing else can stand for it"
    grid.refresh()
    marginal, market = grid.marginal(), grid.market()
    assert marginal is not None
    assert market is not None
    held = (grid.average().intensity_at(NOON), marginal.intensity_at(NOON), market.intensity_at(NOON))
    assert [type(each) for each in held] == [LocationAverage, Marginal, MarketBased]
    assert held[1].g_per_kwh == pytest.approx(truth(NOON))
    assert (held[2].g_per_kwh, held[2].source) == (12.5, "configured")


def test_forecasts_of_the_past_can_be_held_against_what_came(server: GridServer, opened: Open, clock: ManualClock):
    server.forecast = lambda at: truth(at) + 7
    grid = opened("electricitymaps:FR")
    grid.refresh()
    first_issue = clock.wall_ns()
    clock.advance(2 * HOUR_NS)
    grid.refresh()
    hour = NOON + 2 * HOUR_NS
    said = grid.past_forecasts(hour, hour + HOUR_NS)
    assert [(each.issued_ns, each.slot.g_per_kwh) for each in said] == [
        (first_issue, truth(hour) + 7),
        (clock.wall_ns(), truth(hour) + 7),
    ]
    assert grid.average().intensity_at(hour).g_per_kwh == truth(hour)


def test_a_past_period_is_fetched_from_the_first_that_can_tell_it(server: GridServer, opened: Open):
    grid = opened("electricitymaps:FR", "entsoe:10YFR-RTE------C")
    start = NOON - 400 * 24 * HOUR_NS
    server.fail("electricitymaps", Fault(403, "your plan has no history"))
    grid.fetch(start, start + 24 * HOUR_NS)
    day = grid.average().slots_between(start, start + 24 * HOUR_NS)
    assert [round(slot.g_per_kwh, 6) for slot in day] == [truth(slot.start_ns) for slot in day]
    assert len(day) == 24
    server.fail("entsoe", Fault(503))
    with pytest.raises(NotFound) as raised:
        grid.fetch(start, start + HOUR_NS)
    assert "electricitymaps:FR: electricitymaps refuses (403)" in str(raised.value)
    assert "entsoe:10YFR-RTE------C: entsoe answers 503" in str(raised.value)


def test_an_answer_that_breaks_a_parser_stops_nobody(server: GridServer, opened: Open, clock: ManualClock):
    grid = opened("neso:GB")
    server.fail("neso", Fault(200, '{"data": ["what is this"]}'))
    assert grid.refresh()
    assert "neso:GB cannot be understood: AttributeError" in "".join(grid.warnings)
    assert grid.average().intensity_at(NOON).g_per_kwh == YEARLY


def test_a_day_of_five_second_hours_needs_no_other_clock(server: GridServer, opened: Open, clock: ManualClock):
    width = 5_000_000_000
    server.width_ns = width
    server.truth = server.forecast = lambda at: 100.0 + at // width % 24
    grid = opened("electricitymaps:FR", refresh_s=0.5, requests_per_hour=100_000)
    for _ in range(240):
        grid.refresh()
        now = clock.wall_ns()
        assert grid.average().intensity_at(now).g_per_kwh == server.truth(now)
        clock.advance(500_000_000)
    ahead = grid.average().slots_between(clock.wall_ns(), clock.wall_ns() + 24 * width)
    assert {slot.grade for slot in ahead[1:]} == {IntensityGrade.FORECAST}


def test_a_file_that_cannot_be_kept_costs_only_the_hours(server: GridServer, clock: ManualClock, tmp_path: Path):
    (tmp_path / "taken").write_text("a file where a directory should be")
    access = {"neso": {"url": server.url}}
    settings = grid_settings(zone="FRA", average=("neso:GB",), access=access, cache=tmp_path / "taken" / "grid.sqlite")
    grid = open_grid(settings, clock)
    assert not grid.refresh()
    assert grid.average().intensity_at(NOON).g_per_kwh == YEARLY
    assert "cannot be made" in grid.warnings[0]


def test_a_snapshot_can_be_sent_to_another_node(opened: Open):
    grid = opened("electricitymaps:FR")
    grid.refresh()
    sent = pickle.loads(pickle.dumps(grid.average()))
    assert sent == grid.average()
    assert sent.intensity_at(NOON) == grid.average().intensity_at(NOON)
