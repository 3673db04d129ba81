"""Where intensity comes from: sources are named right, all faults at once, and no key is ever shown."""

from pathlib import Path

import pytest

from app.carbon.grid_settings import grid_settings
from app.carbon.intensity import LocationAverage, Marginal, MarketBased
from app.carbon.providers.registry import PROVIDERS, Source, constant_of, parsed_source
from app.carbon.zones import find_zone
from app.config import settings
from app.errors import InvalidInput

SECRET = "a-key-that-nobody-may-see"


def test_without_a_zone_of_their_own_providers_are_asked_for_ours():
    assert parsed_source("electricitymaps", find_zone("FRA")) == Source("electricitymaps", "FR")
    assert parsed_source("neso", find_zone("GBR")) == Source("neso", "GB")


@pytest.mark.parametrize("name", ["electricitymaps", "neso", "entsoe", "eia", "watttime", "file", "constant"])
def test_a_zone_that_a_provider_cannot_know_must_be_named(name: str):
    with pytest.raises(InvalidInput, match=f"name its own zone, as {name}:"):
        parsed_source(name, find_zone("aws:us-east-1"))


@pytest.mark.parametrize("figure", ["-1", "nan", "inf", "clean"])
def test_a_constant_is_a_figure(figure: str):
    with pytest.raises(InvalidInput, match="constant must be followed by a figure >= 0"):
        parsed_source(f"constant:{figure}", find_zone("FRA"))
    assert constant_of(parsed_source("constant:12.5", find_zone("FRA"))) == 12.5


def test_sources_keep_their_order():
    found = grid_settings(zone="FRA", average=("file:/a.csv", "neso:13"), market=("constant:0",))
    assert [source.label for source in found.sources(LocationAverage)] == ["file:/a.csv", "neso:13"]
    assert found.sources(Marginal) == ()
    assert found.sources(MarketBased) == (Source("constant", "0"),)


def test_every_fault_is_named_at_once():
    with pytest.raises(InvalidInput) as refused:
        grid_settings(
            zone="FRA",
            average=("electricitymap:FR", "watttime:CAISO_NORTH", "eia:CISO"),
            marginal=("electricitymaps:FR", "watttime:CAISO_NORTH"),
        )
    told = str(refused.value)
    assert "provider must be one of electricitymaps, watttime" in told
    assert "JOULEKEEPER_INTENSITY: watttime tells another kind of intensity, name it in" in told
    assert "eia needs JOULEKEEPER_INTENSITY_EIA_KEY" in told
    assert "JOULEKEEPER_INTENSITY_MARGINAL: electricitymaps tells another kind" in told
    assert "watttime needs JOULEKEEPER_INTENSITY_WATTTIME_USER and JOULEKEEPER_INTENSITY_WATTTIME_PASSWORD" in told


def test_each_meaning_has_the_providers_that_tell_it():
    tell = {kind: {name for name in PROVIDERS if kind in PROVIDERS[name].meanings} for kind in (Marginal, MarketBased)}
    assert tell == {Marginal: {"watttime", "file", "constant"}, MarketBased: {"file", "constant"}}


def test_keys_are_not_shown_by_settings_that_are_wrong_or_right():
    access = {"eia": {"key": SECRET}, "watttime": {"user": "me", "key": SECRET}}
    found = grid_settings(zone="FRA", average=("eia:CISO",), access=access)
    assert SECRET not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"
    for wrong in ({"average": ("nobody:1",)}, {"refresh_s": -1}, {"access": {"eia": {"key": SECRET, "kye": SECRET}}}):
        with pytest.raises(InvalidInput) as refused:
            grid_settings(**{"zone": "FRA", "access": access, **wrong})
        assert SECRET not in str(refused.value)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    settings.cache_clear()
    monkeypatch.setenv("JOULEKEEPER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("JOULEKEEPER_ZONE", "FRA")
    return monkeypatch


@pytest.fixture(autouse=True)
def _forget_settings():
    yield
    settings.cache_clear()


def test_the_environment_names_sources_addresses_and_keys(environment: pytest.MonkeyPatch, tmp_path: Path):
    environment.setenv("JOULEKEEPER_INTENSITY", "electricitymaps, entsoe:10YFR-RTE------C")
    environment.setenv("JOULEKEEPER_INTENSITY_MARGINAL", "watttime:CAISO_NORTH")
    environment.setenv("JOULEKEEPER_INTENSITY_ELECTRICITYMAPS_KEY", SECRET)
    environment.setenv("JOULEKEEPER_INTENSITY_ELECTRICITYMAPS_URL", "http://127.0.0.1:1")
    environment.setenv("JOULEKEEPER_INTENSITY_ENTSOE_KEY", SECRET)
    environment.setenv("JOULEKEEPER_INTENSITY_WATTTIME_USER", "me")
    environment.setenv("JOULEKEEPER_INTENSITY_WATTTIME_PASSWORD", SECRET)
    grid = settings().grid
    assert [source.label for source in grid.sources(LocationAverage)] == [
        "electricitymaps:FR",
        "entsoe:10YFR-RTE------C",
    ]
    assert grid.access_of("electricitymaps").url == "http://127.0.0.1:1"
    assert grid.access_of("watttime").key.get_secret_value() == SECRET
    assert grid.access_of("watttime").user == "me"
    assert grid.cache == tmp_path / "intensity.sqlite"
    assert SECRET not in f"{settings()!r} {settings().model_dump_json()}"


def test_a_source_without_its_key_is_a_fault_of_the_settings_that_shows_no_other_key(environment: pytest.MonkeyPatch):
    environment.setenv("JOULEKEEPER_INTENSITY", "electricitymaps:FR,eia:CISO")
    environment.setenv("JOULEKEEPER_INTENSITY_EIA_KEY", SECRET)
    with pytest.raises(
        InvalidInput, match="electricitymaps needs JOULEKEEPER_INTENSITY_ELECTRICITYMAPS_KEY"
    ) as refused:
        settings()
    assert SECRET not in str(refused.value)


def test_by_default_nothing_is_asked(environment: pytest.MonkeyPatch):
    assert settings().grid.sources(LocationAverage) == ()
