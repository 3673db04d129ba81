"""`deploy --place`: models get a selector for the cleanest zone in reach and the others to fall back on."""

import pytest

from app.cli.place_replicas import placed
from app.cli.serve_config import ConfigFile
from app.clock import ManualClock
from app.config import Settings
from app.engine.decision_files import choices_in, directory_of
from app.engine.places import Places
from app.errors import InvalidInput
from app.metering.node_zones import Room
from app.policy.placement import PlaceLimits

ROOMS = {zone: Room(0, {"joulekeeper.io/zone": zone}, 1) for zone in ("DEU", "FRA")}


def config(**options):
    model = {"name": "m", "route_prefix": "/v2/models/m", "deployments": [{"name": "Model", **options}]}
    return ConfigFile("x.yaml", {"applications": [{"name": "console", "route_prefix": "/"}, model]})


def place(directory, file, rooms=ROOMS, places=None, **limits):
    settings = Settings(state_dir=directory, zone="DEU")
    asked = []
    files, said = placed(
        [file], lambda needed: asked.append(needed) or rooms, places or Places(), settings, ManualClock(),
        hours=24, limits=PlaceLimits(**limits),
    )  # fmt: skip
    return files[0].applications, said, asked


def test_a_model_goes_to_the_cleanest_zone_and_falls_back_on_the_others(tmp_path):
    file = config(ray_actor_options={"num_cpus": 0.5})
    (console, model), said, asked = place(tmp_path, file)
    assert "deployments" not in console
    assert asked == [{"CPU": 0.5, "GPU": 0.0}]
    assert model["deployments"][0]["ray_actor_options"] == {
        "num_cpus": 0.5,
        "label_selector": {"joulekeeper.io/zone": "FRA"},
        "fallback_strategy": [{"label_selector": {"joulekeeper.io/zone": "DEU"}}],
    }
    assert said[0].startswith("m: in FRA, 8")
    assert file.applications[1]["deployments"][0]["ray_actor_options"] == {"num_cpus": 0.5}  # the file's own stay
    (choice,) = choices_in(directory_of(tmp_path, "m")).values()
    assert (choice.topic, choice.chosen) == ("place", "FRA")
    assert "its power is not known: grams are of 1 kW" in choice.reasons


def test_serve_takes_what_comes_out(tmp_path):
    from app.cli.serve_api import validate

    applications, _, _ = place(tmp_path, config(ray_actor_options={"num_cpus": 0.5}))
    validate({"applications": [{**each, "import_path": "a:b"} for each in applications]})


def test_callers_rule_out_zones_that_are_too_far_away(tmp_path):
    places = Places.model_validate({"zones": {"FRA": {"latency_ms": 90}, "DEU": {"latency_ms": 9}}})
    (_, model), _, _ = place(tmp_path, config(ray_actor_options={"num_cpus": 1}), places=places, latency_ms=50)
    assert model["deployments"][0]["ray_actor_options"]["label_selector"] == {"joulekeeper.io/zone": "DEU"}
    with pytest.raises(InvalidInput, match="no zone may have it"):
        place(tmp_path, config(ray_actor_options={"num_cpus": 1}), latency_ms=50)


def test_what_says_nothing_of_its_actors_is_left_alone(tmp_path):
    (_, model), said, _ = place(tmp_path, config())
    assert model["deployments"] == [{"name": "Model"}]
    assert "is not placed" in said[0]


def test_without_zones_it_says_how_to_have_some(tmp_path):
    with pytest.raises(InvalidInput, match=r"--labels=joulekeeper\.io/zone"):
        place(tmp_path, config(ray_actor_options={"num_cpus": 1}), rooms={})
