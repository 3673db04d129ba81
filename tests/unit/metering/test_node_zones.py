"""Rooms by zone, from what Ray tells of nodes: the dead and the unnamed are in none."""

from app.metering.node_zones import Room, matching, rooms_of

FRANCE, REGION = {"joulekeeper.io/zone": "FRA"}, {"ray.io/availability-region": "eu-west-1"}
NODES = [
    {"NodeID": "a", "Alive": True, "Labels": FRANCE | {"ray.io/node-id": "a"}},
    {"NodeID": "b", "Alive": True, "Labels": FRANCE},
    {"NodeID": "c", "Alive": True, "Labels": REGION},
    {"NodeID": "d", "Alive": False, "Labels": FRANCE},
    {"NodeID": "e", "Alive": True, "Labels": {}},
    {"NodeID": "f", "Alive": True, "Labels": {"joulekeeper.io/zone": "fr"}},
]
FREE = {"a": {"CPU": 2.0}, "b": {"CPU": 0.5}, "c": {"CPU": 4.0}, "e": {"CPU": 9.0}, "f": {"CPU": 9.0}}


def test_rooms_are_by_zone_and_found_by_the_label_that_most_nodes_have():
    assert rooms_of(NODES, FREE, {"CPU": 0.5}) == {
        "FRA": Room(5, FRANCE, 2),
        "aws:eu-west-1": Room(8, REGION, 1),
    }


def test_workers_that_need_nothing_find_room_anywhere():
    assert rooms_of(NODES, FREE, {"CPU": 0.0})["FRA"].workers is None


def test_nodes_that_a_selector_means():
    assert matching(NODES, FRANCE) == {"a", "b", "d"}
    assert matching(NODES, {}) == set("abcdef")
