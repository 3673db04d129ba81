"""Every provider against a server that answers as its documented API does: figures, holes, faults, and keys unseen."""

import base64
import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from app.carbon.coefficients import coefficients
from app.carbon.grid import Grid, open_grid
from app.carbon.grid_settings import grid_settings
from app.carbon.intensity import IntensityGrade, Slot
from app.carbon.providers.base import Provider
from app.carbon.providers.fuel_mix import fuel_factors
from app.carbon.providers.registry import PROVIDERS, Access, Source
from app.carbon.providers.wire import Wire
from app.clock import ManualClock
from app.errors import Busy, Forbidden, InvalidInput, JoulekeeperError, NotFound, Unauthenticated, Unavailable
from tests.fixtures.grid_server import (
    HOUR_NS,
    KEY,
    PASSWORD,
    USER,
    Fault,
    GridServer,
    acknowledgement,
    generation_document,
    time_series,
)

ZONES = {
    "electricitymaps": "FR",
    "watttime": "CAISO_NORTH",
    "neso": "GB",
    "entsoe": "10YFR-RTE------C",
    "eia": "CISO",
}
NAMES = sorted(ZONES)
KEYED = [name for name in NAMES if name != "neso"]
NOON = int(datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
HOLE = NOON - 5 * HOUR_NS


def truth(at_ns: int) -> float | None:
    """100 to 330 gCO2e/kWh by the hour of the day; the hour HOLE is missing."""
    return None if at_ns == HOLE else 100.0 + 10 * (at_ns // HOUR_NS % 24)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_ns=NOON + HOUR_NS // 2)


@pytest.fixture
def server(clock: ManualClock) -> Iterator[GridServer]:
    with GridServer(truth, now_ns=clock.wall_ns) as server:
        yield server


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Backoff is told, not slept."""
    waits: list[float] = []
    before = Wire.__init__

    def patient(self: Wire, *args: object, **options: object) -> None:
        before(self, *args, **{**options, "sleep": waits.append})  # type: ignore[arg-type]

    monkeypatch.setattr(Wire, "__init__", patient)
    return waits


def provider_of(name: str, server: GridServer, key: str = "", zone: str = "") -> Provider:
    access = Access(url=server.url, user=USER, key=key or (PASSWORD if name == "watttime" else KEY))
    factors = fuel_factors(coefficients())
    return PROVIDERS[name].make(Source(name, zone or ZONES[name]), access, factors, lambda: None)


def figures(slots: tuple[Slot, ...]) -> dict[int, float]:
    return {slot.start_ns: round(slot.g_per_kwh, 6) for slot in slots}


# Figures


@pytest.mark.parametrize("name", NAMES)
def test_history_is_the_truth_and_a_missing_hour_stays_missing(name: str, server: GridServer):
    start, end = NOON - 20 * HOUR_NS, NOON
    answer = provider_of(name, server).history(start, end)
    expected = {at: truth(at) for at in range(start, end, HOUR_NS) if truth(at) is not None}
    assert figures(answer.slots) == expected
    assert {slot.end_ns - slot.start_ns for slot in answer.slots} == {HOUR_NS}


@pytest.mark.parametrize("name", NAMES)
def test_the_routine_look_brings_the_last_day(name: str, server: GridServer, clock: ManualClock):
    found = figures(provider_of(name, server).recent(clock.wall_ns()).slots)
    assert found[NOON - HOUR_NS] == truth(NOON - HOUR_NS)
    assert found[NOON - 23 * HOUR_NS] == truth(NOON - 23 * HOUR_NS)
    assert HOLE not in found


@pytest.mark.parametrize("name", ["electricitymaps", "watttime", "neso"])
def test_a_forecast_begins_now_and_is_graded_as_one(name: str, server: GridServer, clock: ManualClock):
    slots = provider_of(name, server).forecast(clock.wall_ns()).slots
    assert {slot.grade for slot in slots} == {IntensityGrade.FORECAST}
    assert figures(slots)[NOON + 20 * HOUR_NS] == truth(NOON + 20 * HOUR_NS)


@pytest.mark.parametrize("name", ["entsoe", "eia"])
def test_a_provider_without_a_forecast_says_so_and_is_not_asked(name: str, server: GridServer, clock: ManualClock):
    provider = provider_of(name, server)
    assert not provider.offers_forecast
    assert provider.forecast(clock.wall_ns()).slots == ()
    assert server.asked == []


@pytest.mark.parametrize(("name", "days"), [("electricitymaps", 25), ("watttime", 70), ("neso", 30), ("entsoe", 65)])
def test_a_long_period_is_asked_for_in_pieces_that_the_provider_takes(name: str, days: int, server: GridServer):
    start = NOON - days * 24 * HOUR_NS
    slots = provider_of(name, server).history(start, NOON).slots
    assert len(slots) == days * 24 - 1
    assert server.count(name) >= 3


def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour(server: GridServer):
    # 1000 lb/MWh x 0.45359237 kg/lb = 453.59237 kg/MWh = 453.59237 g/kWh
    server.truth = lambda at: 453.59237
    (slot,) = provider_of("watttime", server).history(NOON - HOUR_NS, NOON).slots
    assert slot.g_per_kwh == pytest.approx(453.59237, abs=1e-9)


def test_a_signal_in_other_units_is_refused(server: GridServer):
    meta = '{"data": [], "meta": {"signal_type": "co2_moer", "units": "g_co2_per_kwh"}}'
    provider = provider_of("watttime", server)
    server.fail("watttime", None, Fault(200, meta))
    with pytest.raises(Unavailable, match="not co2_moer in lbs_co2_per_mwh"):
        provider.history(NOON - HOUR_NS, NOON)


def test_an_estimate_of_electricity_maps_is_graded_as_one(server: GridServer, clock: ManualClock):
    entry = '{"carbonIntensity": 51, "datetime": "2026-03-10T11:00:00.000Z", "isEstimated": true}'
    server.fail("electricitymaps", Fault(200, f'{{"zone": "FR", "history": [{entry}]}}'))
    (slot,) = provider_of("electricitymaps", server).recent(clock.wall_ns()).slots
    assert (slot.g_per_kwh, slot.grade) == (51.0, IntensityGrade.ESTIMATED)
    assert (slot.start_ns, slot.end_ns) == (NOON - HOUR_NS, NOON)


def test_figures_that_a_sandbox_makes_up_are_refused(server: GridServer, clock: ManualClock):
    entry = '{"carbonIntensity": 51, "datetime": "2026-03-10T11:00:00Z", "estimationMethod": "SANDBOX_MODE_DATA"}'
    server.fail("electricitymaps", Fault(200, f'{{"zone": "FR", "history": [{entry}]}}'))
    with pytest.raises(Forbidden, match="the key is one of the sandbox"):
        provider_of("electricitymaps", server).recent(clock.wall_ns())


def test_electricity_maps_may_serve_any_width_of_slots(server: GridServer, clock: ManualClock):
    server.width_ns = 5_000_000_000
    slots = provider_of("electricitymaps", server).recent(clock.wall_ns()).slots
    assert {slot.end_ns - slot.start_ns for slot in slots} == {5_000_000_000}


def test_a_region_of_britain_has_forecasts_where_others_have_a_past(server: GridServer):
    slots = provider_of("neso", server, zone="13").history(NOON - 2 * HOUR_NS, NOON).slots
    assert [slot.grade for slot in slots] == [IntensityGrade.FORECAST] * 2
    assert server.asked[-1][1].endswith("/regionid/13")


def test_britain_has_seventeen_regions(server: GridServer):
    with pytest.raises(InvalidInput, match="GB or a region from 1 to 17, got '18'"):
        provider_of("neso", server, zone="18")


# ENTSO-E's documents


def entsoe_slots(server: GridServer, *series: str) -> tuple[Slot, ...]:
    server.fail("entsoe", Fault(200, generation_document("zone", series)))
    return provider_of("entsoe", server).history(NOON - HOUR_NS, NOON).slots


def test_a_zone_s_own_pumping_is_no_generation(server: GridServer):
    gas, pumps = (
        time_series("B04", [(NOON, 100.0)], HOUR_NS),
        time_series("B10", [(NOON, 900.0)], HOUR_NS, consumed=True),
    )
    (slot,) = entsoe_slots(server, gas, pumps)
    assert slot.g_per_kwh == 490.0


def test_a_point_that_curve_a03_leaves_out_repeats_the_one_before(server: GridServer):
    hours = [NOON + i * HOUR_NS for i in range(4)]
    gas = time_series("B04", [(at, 300.0) for at in hours], HOUR_NS, curve="A03")
    wind = time_series("B19", list(zip(hours, (100.0, 300.0, 300.0, 100.0), strict=True)), HOUR_NS, curve="A03")
    assert wind.count("<Point>") == 3
    # (300 x 490 + 100 x 11) / 400 = 370.25; (300 x 490 + 300 x 11) / 600 = 250.5
    assert [slot.g_per_kwh for slot in entsoe_slots(server, gas, wind)] == [370.25, 250.5, 250.5, 370.25]


def test_quarter_hours_of_one_type_share_the_hours_of_another(server: GridServer):
    quarter = HOUR_NS // 4
    gas = time_series("B04", [(NOON + i * quarter, 100.0 * (i + 1)) for i in range(4)], quarter)
    wind = time_series("B19", [(NOON, 100.0)], HOUR_NS)
    slots = entsoe_slots(server, gas, wind)
    assert [slot.end_ns - slot.start_ns for slot in slots] == [quarter] * 4
    assert slots[0].g_per_kwh == pytest.approx((100 * 490 + 100 * 11) / 200)
    assert slots[3].g_per_kwh == pytest.approx((400 * 490 + 100 * 11) / 500)


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)])
def test_a_local_day_has_as_many_slots_as_it_has_hours(day: tuple[int, int, int], hours: int, server: GridServer):
    from zoneinfo import ZoneInfo

    year, month, number = day
    start, end = (
        int(datetime(year, month, number + extra, tzinfo=ZoneInfo("Europe/Paris")).timestamp()) * 1_000_000_000
        for extra in (0, 1)
    )
    server.now_ns = lambda: end
    slots = provider_of("entsoe", server).history(start, end).slots
    assert len(slots) == hours
    assert slots[0].start_ns == start
    assert slots[-1].end_ns == end
    assert all(one.end_ns == other.start_ns for one, other in pairwise(slots))


def test_no_matching_data_with_200_is_an_empty_answer_that_says_so(server: GridServer):
    server.fail("entsoe", Fault(200, acknowledgement("No matching data found for Data item [16.1.B, C]")))
    answer = provider_of("entsoe", server).history(NOON - HOUR_NS, NOON)
    assert answer.slots == ()
    assert answer.notes == ("entsoe: no matching data from 202603101100 to 202603101200 UTC",)


def test_another_acknowledgement_with_200_is_a_fault(server: GridServer):
    server.fail("entsoe", Fault(200, acknowledgement("The amount of requested data exceeds allowed limit")))
    with pytest.raises(InvalidInput, match="exceeds allowed limit"):
        provider_of("entsoe", server).history(NOON - HOUR_NS, NOON)


def test_entities_in_xml_are_not_read(server: GridServer):
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><GL_MarketDocument>&b;</GL_MarketDocument>'
    server.fail("entsoe", Fault(200, bomb))
    with pytest.raises(Unavailable, match="declares a document type"):
        provider_of("entsoe", server).history(NOON - HOUR_NS, NOON)


# EIA's pages


def test_the_pages_that_a_warning_announces_are_asked_for(server: GridServer):
    server.page = 7
    answer = provider_of("eia", server).history(NOON - 12 * HOUR_NS, NOON)
    assert len(answer.slots) == 11
    assert [query["offset"] for *_, query, _ in server.asked] == ["0", "7", "14", "21"]


def test_pages_that_end_before_the_total_are_a_fault(server: GridServer):
    told = '{"warning": "incomplete return", "description": "only 5000 rows"}'
    body = f'{{"response": {{"total": "9", "warnings": [{told}], "data": []}}}}'
    server.fail("eia", Fault(200, body))
    with pytest.raises(Unavailable, match="0 of 9 rows came: eia: incomplete return: only 5000 rows"):
        provider_of("eia", server).history(NOON - HOUR_NS, NOON)


def test_a_warning_beside_whole_data_is_passed_on(server: GridServer):
    row = '{"period": "2026-03-10T12", "fueltype": "NG", "value": "5"}'
    told = '{"warning": "delayed", "description": "CISO delivers late"}'
    body = f'{{"response": {{"total": 1, "warnings": [{told}], "data": [{row}]}}}}'
    server.fail("eia", Fault(200, body))
    answer = provider_of("eia", server).history(NOON - HOUR_NS, NOON)
    # The hour that EIA names by its end, 12:00.
    assert [(slot.start_ns, slot.g_per_kwh) for slot in answer.slots] == [(NOON - HOUR_NS, 490.0)]
    assert answer.notes == ("eia: delayed: CISO delivers late",)


def test_an_hour_without_a_fuel_that_matters_is_left_out(server: GridServer):
    def row(hour: int, fuel: str, value: str) -> str:
        return f'{{"period": "2026-03-10T{hour}", "fueltype": "{fuel}", "value": {value}}}'

    rows = [row(10, "NG", '"70"'), row(10, "COL", '"30"'), row(11, "NG", '"70"'), row(11, "COL", "null")]
    server.fail("eia", Fault(200, f'{{"response": {{"total": 4, "data": [{",".join(rows)}]}}}}'))
    answer = provider_of("eia", server).history(NOON - 3 * HOUR_NS, NOON)
    # (70 x 490 + 30 x 820) / 100 = 589
    assert [slot.g_per_kwh for slot in answer.slots] == [589.0]
    assert answer.notes == ("eia: 1 hours lack a fuel that matters and are left out",)


def test_batteries_and_pumped_storage_count_their_charge_once(server: GridServer):
    def row(fuel: str, value: int) -> str:
        return f'{{"period": "2026-03-10T12", "fueltype": "{fuel}", "value": "{value}"}}'

    rows = [row("NG", 100), row("SNB", 100), row("SUN", -3), row("BAT", 500), row("PS", -200)]
    server.fail("eia", Fault(200, f'{{"response": {{"total": 5, "data": [{",".join(rows)}]}}}}'))
    (slot,) = provider_of("eia", server).history(NOON - HOUR_NS, NOON).slots
    assert slot.g_per_kwh == (490 + coefficients().value("fuel:solar")) / 2


# Faults


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(401), Unauthenticated),
        (Fault(403), Forbidden),
        (Fault(404), NotFound),
        (Fault(400), InvalidInput),
        (Fault(429), Busy),
        (Fault(503), Unavailable),
        (Fault(302, headers={"location": "http://169.254.169.254/"}), Unavailable),
        (Fault(200, "<html>maintenance"), Unavailable),
        (Fault(200, "[]"), Unavailable),
        (Fault(200, ""), Unavailable),
    ],
    ids=["401", "403", "404", "400", "429", "503", "302", "html", "list", "nothing"],
)
def test_every_fault_of_every_provider_is_one_of_ours(
    name: str, fault: Fault, error: type[JoulekeeperError], server: GridServer
):
    server.fail(name, fault)
    with pytest.raises(error) as raised:
        provider_of(name, server).history(NOON - HOUR_NS, NOON)
    assert type(raised.value) is error
    assert name in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_that_stumbles_is_asked_again_after_a_while(name: str, server: GridServer, unhurried: list[float]):
    server.fail(name, Fault(503), Fault(502), None)
    assert provider_of(name, server).history(NOON - 3 * HOUR_NS, NOON).slots
    assert len(unhurried) == 2
    assert 0.5 <= unhurried[0] <= 1.5
    assert unhurried[1] > unhurried[0] / 2


def test_a_provider_says_how_long_to_wait_and_is_left_alone_for_so_long(server: GridServer, unhurried: list[float]):
    server.fail("neso", Fault(503, headers={"retry-after": "7"}), None)
    assert provider_of("neso", server).history(NOON - 3 * HOUR_NS, NOON).slots
    assert unhurried == [7.0]


def test_a_long_wait_is_not_slept_through(server: GridServer, unhurried: list[float]):
    server.fail("neso", Fault(503, headers={"retry-after": "600"}))
    with pytest.raises(Unavailable):
        provider_of("neso", server).history(NOON - 3 * HOUR_NS, NOON)
    assert (server.count("neso"), unhurried) == (1, [])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120),
        ({"retry-after": "Tue, 10 Mar 2026 12:01:30 GMT", "date": "Tue, 10 Mar 2026 12:00:00 GMT"}, 90),
        ({"retry-after": "soon"}, 60),
        ({}, 60),
    ],
)
def test_a_spent_quota_says_when_to_come_again(headers: dict[str, str], seconds: float, server: GridServer):
    server.fail("electricitymaps", Fault(429, headers=headers))
    with pytest.raises(Busy) as raised:
        provider_of("electricitymaps", server).history(NOON - HOUR_NS, NOON)
    assert raised.value.retry_after_s == seconds
    assert server.count("electricitymaps") == 1


def test_nobody_there_is_unavailable():
    provider = PROVIDERS["neso"].make(Source("neso", "GB"), Access(url="http://127.0.0.1:9"), {}, lambda: None)
    with pytest.raises(Unavailable, match="neso is out of reach: ConnectError"):
        provider.history(NOON - HOUR_NS, NOON)


def test_an_expired_token_is_renewed_once(server: GridServer):
    provider = provider_of("watttime", server)
    provider.history(NOON - HOUR_NS, NOON)
    server.expire()
    assert len(provider.history(NOON - HOUR_NS, NOON).slots) == 1
    assert [path for _, path, *_ in server.asked] == [
        "/login",
        "/v3/historical",
        "/v3/historical",
        "/login",
        "/v3/historical",
    ]


def test_a_token_that_never_holds_is_a_refused_key(server: GridServer):
    provider = provider_of("watttime", server)
    provider.history(NOON - HOUR_NS, NOON)
    server.expire()
    server.fail("watttime", Fault(401))
    with pytest.raises(Unauthenticated, match="JOULEKEEPER_INTENSITY_WATTTIME_PASSWORD"):
        provider.history(NOON - HOUR_NS, NOON)


def test_a_region_outside_the_plan_is_forbidden(server: GridServer):
    with pytest.raises(Forbidden, match="your plan does not include this region"):
        provider_of("watttime", server, zone="PJM_DC").history(NOON - HOUR_NS, NOON)


@pytest.mark.parametrize("name", KEYED)
def test_a_wrong_key_is_told_with_the_setting_to_look_at(name: str, server: GridServer):
    with pytest.raises((Unauthenticated, Forbidden), match=f"JOULEKEEPER_INTENSITY_{name.upper()}_"):
        provider_of(name, server, key="wrong").history(NOON - HOUR_NS, NOON)


# Keys


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", [None, "echo", "401", "503", "cut"])
def test_no_log_error_or_repr_ever_shows_a_key(
    name: str,
    fault: str | None,
    server: GridServer,
    tmp_path: Path,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
):
    # A server that repeats what it was sent is the worst case: error pages do.
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    sent = {"watttime": f"{PASSWORD} {basic}", "neso": ""}.get(name, KEY)
    echo = f"you sent {sent} to https://host/api?securityToken={sent}&api_key={sent}"
    told = {"echo": Fault(400, echo), "401": Fault(401, echo), "503": Fault(503, echo), "cut": Fault(200, f"{{{echo}")}
    server.fail(name, told.get(fault or ""))
    shown = []
    grid = grid_of(server, tmp_path, clock, name)
    with caplog.at_level(logging.DEBUG):
        grid.refresh()
        shown += [*grid.warnings, repr(grid.sources()), repr(grid._settings), str(grid._settings)]
        try:
            provider_of(name, server).history(NOON - HOUR_NS, NOON)
        except JoulekeeperError as error:
            shown += ["".join(traceback.format_exception(error)), repr(error)]
    grid.close()
    assert server.count(name) >= 2
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (KEY, PASSWORD, basic, *server.tokens):
        assert secret not in caplog.text
        assert secret not in "".join(shown)
        assert secret.encode() not in kept


def grid_of(server: GridServer, directory: Path, clock: ManualClock, *names: str, **more: object) -> Grid:
    access = {name: {"url": server.url, "user": USER, "key": PASSWORD if name == "watttime" else KEY} for name in NAMES}
    sources = tuple(f"{name}:{ZONES[name]}" for name in names if name != "watttime")
    marginal = tuple(f"{name}:{ZONES[name]}" for name in names if name == "watttime")
    settings = grid_settings(
        zone="FRA", average=sources, marginal=marginal, access=access, cache=directory / "grid.sqlite", **more
    )
    return open_grid(settings, clock)
