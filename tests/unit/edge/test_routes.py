"""The map of an edge: from routes and shares to the entries that are looked up."""

from collections import Counter

import pytest

from app.edge.routes import PARTS, Traffic, build_entries, read_traffic
from app.errors import InvalidInput
from app.serving.traffic import declared

ROUTES = {
    "/": "console",
    "/v2/models/minilm": "minilm",
    "/v2/models/minilm/versions/2": "minilm@2",
}


def entries(traffic=None, routes=ROUTES):
    return build_entries(routes, Traffic.model_validate(traffic or {}))


def parts(found, model="minilm"):
    return Counter(found[f"{model}#{part}"] for part in range(PARTS))


def test_a_model_is_found_by_name_by_version_and_by_route():
    assert entries() == {
        "minilm": "minilm",
        "minilm@2": "minilm@2",
        "/minilm": "/v2/models/minilm",
        "/minilm@2": "/v2/models/minilm/versions/2",
    }


@pytest.mark.parametrize("name", ["a b", "a\nb", "a#1", "a/b", "@", "a@b@c", ""])
def test_a_name_that_could_break_the_map_is_left_out(name):
    assert entries(routes={"/v2/models/x": name}) == {}


@pytest.mark.parametrize("route", ["/v2/models/a b", "/v2/models/a;x", "/other", '/v2/models/"'])
def test_a_route_that_is_no_models_is_left_out(route):
    assert entries(routes={route: "minilm"}) == {}


def test_traffic_is_divided_in_proportion_and_every_part_has_an_owner():
    found = parts(entries({"minilm": {"split": {"minilm": 2, "minilm@2": 1}}}))
    assert found == {"minilm": 667, "minilm@2": 333}  # 666.7 and 333.3: the larger remainder gets the odd one
    assert found.total() == PARTS


def test_a_version_that_is_not_deployed_leaves_its_share_to_the_others():
    assert parts(entries({"minilm": {"split": {"minilm": 1, "minilm@2": 1, "minilm@3": 8}}})) == {
        "minilm": 500,
        "minilm@2": 500,
    }


@pytest.mark.parametrize("split", [{}, {"minilm": 0}, {"minilm@9": 5}])
def test_where_nobody_has_a_share_nothing_is_divided(split):
    assert entries({"minilm": {"split": split}}) == entries()


def test_an_alias_leads_to_a_version_that_is_deployed():
    found = entries({"minilm": {"aliases": {"prod": "minilm@2", "next": "minilm@3", "bad name": "minilm"}}})
    assert found.keys() - entries().keys() == {"minilm@prod"}
    assert found["minilm@prod"] == "minilm@2"


def test_what_models_declare_is_understood():
    args = {
        "minilm": {"name": "minilm", "source": "repository:minilm@1", "traffic": {"2": 0.1}, "aliases": {"prod": 2}}
    }
    found = entries(declared(args))
    assert parts(found) == {"minilm": 900, "minilm@2": 100}
    assert found["minilm@prod"] == "minilm@2"


def test_every_fault_of_a_traffic_file_is_named(tmp_path):
    path = tmp_path / "traffic.yaml"
    path.write_text("minilm: {split: {minilm: -1}, weights: {}}\n")
    with pytest.raises(InvalidInput) as refusal:
        read_traffic(path)
    for part in (str(path), "minilm.split.minilm", "got -1", "minilm.weights"):
        assert part in str(refusal.value)
