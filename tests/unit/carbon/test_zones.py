"""The zone table: every row is sound, lookups forgive case, a wrong name is answered with near ones."""

import math
from pathlib import Path

import pytest

from app.carbon.zones import ZoneKind, find_zone, nearest_zones, reference, zones
from app.errors import InvalidInput

# Read by hand from the sources that the rows cite; US figures are tonnes per kWh times 1e6.
SPOT_CHECKS = [
    ("world", 480.0, 2023),
    ("FRA", 56.039, 2023),
    ("USA", 369.473, 2023),
    ("IND", 713.441, 2023),
    ("ISL", 27.68, 2022),
    ("aws:us-east-1", 415.755, 2019),
    ("aws:eu-west-1", 290.805, 2023),
    ("azure:southcentralus", 396.293, 2019),
    ("azure:finlandcentral", 79.158, 2023),
    ("azure:germanywestcentral", 380.95, 2023),
    ("gcp:europe-north2", 2.73, 2024),
    ("gcp:us-central1", 412.72, 2024),
]


@pytest.mark.parametrize(("zone_id", "g_per_kwh", "year"), SPOT_CHECKS)
def test_a_row_carries_the_figure_of_its_source(zone_id, g_per_kwh, year):
    zone = find_zone(zone_id)
    assert (zone.intensity_g_per_kwh, zone.year) == (g_per_kwh, year)


def test_every_row_is_plausible_and_says_where_it_comes_from():
    for zone in zones():
        assert 0 < zone.intensity_g_per_kwh < 1500, zone
        assert math.isfinite(zone.intensity_g_per_kwh)
        assert 2019 <= zone.year <= 2024, zone
        assert zone.name, zone
        assert zone.source, zone
        assert zone.licence, zone


def test_no_two_rows_answer_to_the_same_name():
    keys = [key.casefold() for zone in zones() for key in (zone.id, zone.alias) if key]
    assert len(keys) == len(set(keys))


def test_ids_have_the_shape_of_their_kind():
    for zone in zones():
        if zone.kind is ZoneKind.COUNTRY:
            assert len(zone.id) == 3, zone
            assert len(zone.alias) == 2, zone
            assert (zone.id + zone.alias).isupper(), zone
        elif zone.kind is ZoneKind.CLOUD:
            assert zone.id.partition(":")[0] in {"aws", "azure", "gcp"}, zone
        else:
            assert zone.id == "world"


def test_a_zone_is_found_in_any_case_by_id_and_by_alias():
    assert find_zone("fra") is find_zone("FRA") is find_zone("Fr") is find_zone(" fr ")
    assert find_zone("AWS:EU-West-1").name == "Ireland"


@pytest.mark.parametrize(
    ("asked", "offered"),
    [
        ("frnace", "FRA (France)"),
        ("germany", "DEU (Germany)"),
        ("eu-west-1", "aws:eu-west-1 (Ireland)"),
        ("aws:eu-west-9", "aws:eu-west-1 (Ireland)"),
        ("azure:westeurop", "azure:westeurope (Netherlands)"),
        ("wrld", "world (World)"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_names(asked, offered):
    with pytest.raises(InvalidInput, match="nearest: ") as refused:
        find_zone(asked)
    assert offered in str(refused.value)
    assert repr(asked) in str(refused.value)


@pytest.mark.parametrize("asked", ["", "?!"])
def test_a_zone_that_resembles_nothing_is_refused_with_the_default(asked):
    with pytest.raises(InvalidInput, match="try 'world'"):
        find_zone(asked)


def test_no_more_than_three_zones_are_offered():
    assert len(nearest_zones("us-east")) == 3


def test_the_reference_page_is_what_the_table_generates():
    page = Path(__file__).parents[3] / "docs" / "reference" / "carbon-zones.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "run: python -m app.carbon.zones > docs/reference/carbon-zones.md"
    )
