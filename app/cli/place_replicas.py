"""`deploy --place`: for each model of a Serve config the zone with least carbon that its callers can bear.

Decides by app/policy/placement.py, a replica being work without slack; what Serve gets is a label selector, and the
other zones that may have it in order as what to fall back on. Asks Ray for the nodes; knows nothing of HTTP.

    files, notes = placed(files, rooms, places, config, clock, hours=24, limits=PlaceLimits(latency_ms=50))
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.cli.serve_config import ConfigFile
from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.clock import Clock
    from app.config import Settings
    from app.engine.places import Places
    from app.metering.node_zones import Room
    from app.policy.placement import Place, PlaceLimits

_MODELS = "/v2/models/"
_NOMINAL_W = 1000.0
"""Powers cancel out: a replica is as powerful in one zone as in another, and only shares of carbon are told."""
_DEFAULT_CPUS = 1.0  # Serve's own, of a deployment that does not say

Rooms = Callable[[Mapping[str, float]], Mapping[str, "Room"]]


def placed(
    files: Sequence[ConfigFile],
    rooms: Rooms,
    places: "Places",
    config: "Settings",
    clock: "Clock",
    *,
    hours: float,
    limits: "PlaceLimits",
) -> tuple[list[ConfigFile], list[str]]:
    """The files with a zone for every model, and a sentence about each. Raises InvalidInput where none may have it."""
    contents = [deepcopy(dict(file.content)) for file in files]
    applications = [each for content in contents for each in content["applications"]]
    models = [each for each in applications if str(each.get("route_prefix", "")).startswith(_MODELS)]
    said = [_place(each, rooms, places, config, clock, hours, limits) for each in models]
    return [replace(file, content=content) for file, content in zip(files, contents, strict=True)], said


def _place(
    application: dict[str, Any],
    rooms: Rooms,
    places: "Places",
    config: "Settings",
    clock: "Clock",
    hours: float,
    limits: "PlaceLimits",
) -> str:
    from app.engine.decision_files import directory_of, keep_choice
    from app.engine.places import selector_of
    from app.policy.placement import choose_place
    from app.policy.shifting import fixed_run
    from app.training.placing import choice_of
    from app.units import NS_PER_S

    name, options = application.get("name", "default"), _options(application)
    if not options:
        return f"{name} is not placed: none of its deployments has ray_actor_options to say where"
    found, now_s = rooms(_largest(options)), clock.wall_ns() / NS_PER_S
    zones = sorted({*found, *(zone for zone, terms in places.zones.items() if terms.grows)})
    if not zones:
        raise InvalidInput("no node says which zone it is in; start nodes with --labels=joulekeeper.io/zone=ZONE")
    ends_s = now_s + hours * 3600
    candidates = [_candidate(zone, places, config, clock, ends_s) for zone in zones]
    run = fixed_run(hours * 3600, _NOMINAL_W, ends_s)
    choice = choose_place(run, candidates, now_s, config.zone, limits, places.moving)
    selectors = {zone: dict(found[zone].selector) if zone in found else selector_of(zone) for zone in zones}
    others = [option.zone for option in choice.options if option.zone != choice.zone]
    for each in options:
        each["label_selector"] = selectors[choice.zone]
        each["fallback_strategy"] = [{"label_selector": selectors[zone]} for zone in others]
    record = choice_of(name, choice, candidates, now_s, config.zone, (), knows_power=False)
    keep_choice(directory_of(config.state_dir, name), record)
    saved = f", {1 - choice.expected_g / choice.home_g:.1%} less carbon than in {config.zone}" if choice.home_g else ""
    return f"{name}: in {choice.zone}{saved}"


def _candidate(zone: str, places: "Places", config: "Settings", clock: "Clock", ends_s: float) -> "Place":
    """What is free there does not count: replicas that run now hold their room, and those to come take it over."""
    from app.engine.places import zone_view
    from app.policy.placement import Place

    outlook, terms = zone_view(zone, places, config.grid, clock, ends_s).outlook, places.of(zone)
    return Place(zone, outlook, terms.latency_ms, pue=terms.pue or config.pue)


def _options(application: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The actor options of its deployments that have any: to put some where there are none would undo the code's."""
    return [each["ray_actor_options"] for each in application.get("deployments", ()) if each.get("ray_actor_options")]


def _largest(options: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "CPU": max(float(each.get("num_cpus", _DEFAULT_CPUS)) for each in options),
        "GPU": max(float(each.get("num_gpus", 0.0)) for each in options),
    }
