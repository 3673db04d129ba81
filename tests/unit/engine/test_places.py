"""Zones of nodes: found in their labels, with sources, PUE and distance from a file, and a grid of their own."""

import pytest

from app.carbon.grid_settings import grid_settings
from app.clock import ManualClock
from app.engine.places import (
    Places,
    grid_of_zone,
    label_of_zone,
    read_places,
    selector_of,
    selector_of_labels,
    zone_of_labels,
    zone_view,
)
from app.errors import InvalidInput
from app.units import NS_PER_S


@pytest.mark.parametrize(
    ("labels", "zone"),
    [
        ({"joulekeeper.io/zone": "FRA"}, "FRA"),
        ({"joulekeeper.io/zone": "de"}, "DEU"),
        ({"joulekeeper.io/zone": "aws.eu-west-1"}, "aws:eu-west-1"),
        ({"ray.io/availability-region": "eu-west-1"}, "aws:eu-west-1"),
        ({"ray.io/availability-zone": "eu-west-1b"}, "aws:eu-west-1"),
        ({"joulekeeper.io/zone": "nowhere", "ray.io/availability-region": "europe-west1"}, "gcp:europe-west1"),
        ({"joulekeeper.io/zone": "nowhere"}, None),
        ({}, None),
    ],
)
def test_a_nodes_labels_name_its_zone(labels, zone):
    assert zone_of_labels(labels) == zone


def test_a_label_has_no_colon_and_selects_what_names_the_zone():
    assert label_of_zone("aws:eu-west-1") == "aws.eu-west-1"
    assert zone_of_labels(selector_of("aws:eu-west-1")) == "aws:eu-west-1"
    assert selector_of_labels({"ray.io/availability-zone": "eu-west-1b", "x": "y"}) == {
        "ray.io/availability-zone": "eu-west-1b"
    }
    assert selector_of_labels({"x": "y"}) == {}


def test_the_file_names_zones_and_what_moving_costs(tmp_path):
    path = tmp_path / "places.yaml"
    path.write_text("zones: {fr: {pue: 1.1, latency_ms: 12, grows: true}}\nkwh_per_gb: 0.06\nleast_saving: 0.1\n")
    places = read_places(str(path))
    assert (places.of("FRA").pue, places.of("FRA").grows, places.of("DEU").latency_ms) == (1.1, True, None)
    assert (places.moving.kwh_per_gb, places.moving.least_saving, places.moving.gbit_per_s) == (0.06, 0.1, 1.0)
    assert read_places("") == Places()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("zones: {atlantis: {}}", "zone must be an ISO country code"),
        ("zones: {fr: {pue: 0.5}}", "zones.fr.pue"),
        ("colour: red", "colour"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, text, told):
    path = tmp_path / "places.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=told):
        read_places(str(path))


def test_each_zone_has_a_grid_of_its_own(tmp_path):
    (tmp_path / "fr.csv").write_text("start,g_per_kwh\n2026-01-01T00:00:00Z,40\n2026-01-01T01:00:00Z,50\n")
    places = Places.model_validate({"zones": {"FRA": {"intensity": [f"file:{tmp_path / 'fr.csv'}"]}}})
    base = grid_settings(zone="DEU", cache=tmp_path / "grid.sqlite")
    clock = ManualClock(wall_ns=1_767_225_600 * NS_PER_S)  # 2026-01-01 00:00 UTC
    french = zone_view("FRA", places, base, clock, 1_767_225_600 + 7200)
    assert french.outlook.at(1_767_225_600) == pytest.approx(40.0)
    german = zone_view("DEU", places, base, clock, 1_767_225_600 + 7200)
    assert (german.source, german.outlook.at(1_767_225_600) > 200) == (german.source, True)
    assert grid_of_zone("DEU", places, base) is base
    assert grid_of_zone("SWE", places, base).average == ()
