"""Which zones this cluster has nodes in, how Ray finds them, and how many workers find room in each now.

The only part of placing that asks Ray; a zone is what a node's labels say (app/engine/places.py).

    rooms = rooms_by_zone({"CPU": 0.5})
    rooms["FRA"].workers, rooms["FRA"].selector
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.places import selector_of_labels, zone_of_labels
from app.policy.elastic import workers_that_fit


@dataclass(frozen=True, slots=True)
class Room:
    """The nodes of one zone."""

    workers: int | None
    """That fit into what is free; None: they need nothing."""
    selector: Mapping[str, str]
    """Ray's label selector for them."""
    nodes: int


def rooms_by_zone(per_worker: Mapping[str, float]) -> dict[str, Room]:
    """By zone; nodes without a zone are in none. For a process that has joined Ray."""
    import ray
    from ray._private import state as cluster

    return rooms_of(ray.nodes(), cluster.available_resources_per_node(), per_worker)


def rooms_of(
    nodes: Iterable[Mapping[str, Any]], available: Mapping[str, Mapping[str, float]], per_worker: Mapping[str, float]
) -> dict[str, Room]:
    """As `rooms_by_zone`, of `ray.nodes()` and what is free on each by its id.

    Where nodes of a zone name it by different labels, those of the label that most of them have are meant.
    """
    by_zone: dict[str, dict[tuple[tuple[str, str], ...], dict[str, Mapping[str, float]]]] = defaultdict(dict)
    for node in nodes:
        labels = node.get("Labels") or {}
        zone = zone_of_labels(labels) if node.get("Alive") else None
        if zone is not None:
            same = by_zone[zone].setdefault(tuple(selector_of_labels(labels).items()), {})
            same[node["NodeID"]] = available.get(node["NodeID"], {})
    found = {}
    for zone, by_selector in by_zone.items():
        ((selector, _),) = Counter({key: len(free) for key, free in by_selector.items()}).most_common(1)
        free = by_selector[selector]
        found[zone] = Room(workers_that_fit(free, per_worker), dict(selector), len(free))
    return found


def matching(nodes: Iterable[Mapping[str, Any]], selector: Mapping[str, str]) -> frozenset[str]:
    """Ids of the nodes whose labels are those of `selector`, each equal."""
    return frozenset(
        str(node["NodeID"])
        for node in nodes
        if all((node.get("Labels") or {}).get(key) == value for key, value in selector.items())
    )
