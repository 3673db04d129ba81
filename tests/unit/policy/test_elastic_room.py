"""How many workers find room, by hand."""

import pytest

from app.policy.elastic import number_of_workers, workers_that_fit


@pytest.mark.parametrize(
    ("free", "per_worker", "workers"),
    [
        ({"a": {"CPU": 2.0}, "b": {"CPU": 0.5}}, {"CPU": 0.5}, 5),
        ({"a": {"CPU": 0.9}, "b": {"CPU": 0.9}}, {"CPU": 1}, 0),  # 1.8 in all, and no node has room
        ({"a": {"CPU": 8, "GPU": 1}, "b": {"CPU": 1, "GPU": 4}}, {"CPU": 1, "GPU": 1}, 2),
        ({"a": {"CPU": 8}}, {"CPU": 1, "GPU": 1}, 0),
        ({"a": {"CPU": 8, "GPU": 0.5}}, {"CPU": 1, "GPU": 0}, 8),
        ({"a": {"CPU": 0.1 + 0.1 + 0.1}}, {"CPU": 0.1}, 3),
        ({"a": {"CPU": 0.7}}, {"CPU": 0.1}, 7),  # 0.7 / 0.1 is 6.999...
        ({}, {"CPU": 1}, 0),
        ({"a": {}}, {"CPU": 0}, None),
    ],
)
def test_room(free: dict[str, dict[str, float]], per_worker: dict[str, float], workers: int | None) -> None:
    assert workers_that_fit(free, per_worker) == workers


@pytest.mark.parametrize(
    ("running", "room", "least", "most", "workers"),
    [
        (2, 5, 1, 4, 4),
        (4, 3, 1, 4, 3),
        (2, 1, 2, 4, 2),  # less than the least: those that run go on
        (2, 0, 1, 4, 2),
        (2, 2, 1, 4, 2),
        (2, None, 1, 4, 4),
    ],
)
def test_number_of_workers(running: int, room: int | None, least: int, most: int, workers: int) -> None:
    assert number_of_workers(running, room, least, most) == workers
