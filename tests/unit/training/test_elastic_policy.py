"""The group grows into what is free, leaves a checkpoint first, and moves off nodes that are about to be taken away."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import MagicMock

import pytest
from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ResizeDecision

from app.training import elastic
from app.training.elastic import RoomPolicy


@dataclass
class Meta:
    node_id: str


@dataclass
class Worker:
    metadata: Meta
    resources: dict[str, float] = field(default_factory=lambda: {"CPU": 1.0})
    asked: list[str] = field(default_factory=list)

    def execute_async(self, function: Callable[[str, float], None], reason: str, hold_s: float) -> None:
        assert function is elastic.ask_save
        assert bool(hold_s) == reason.startswith("the group goes")
        self.asked.append(reason)


@dataclass
class Group:
    workers: list[Worker]
    start_time: float = 0.0

    @property
    def num_workers(self) -> int:
        return len(self.workers)


@dataclass
class Report:
    checkpoint: object = None
    metrics: dict[str, object] = field(default_factory=dict)


@dataclass
class One:
    training_report: Report | None = None


@dataclass
class Status:
    worker_statuses: dict[int, One]


QUIET = Status({0: One(), 1: One(Report())})
DUE = Status({0: One(Report("a checkpoint", {"asked_for": ""})), 1: One(Report())})


def saved(reason: str) -> Status:
    return Status({0: One(Report("a checkpoint", {"asked_for": reason})), 1: One(Report())})


class World:
    """A cluster of nodes with free CPUs, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: dict[str, float] = {}
        self.draining: set[str] = set()
        self.now_s = 100.0
        self.granted = 4
        monkeypatch.setattr(
            elastic.cluster, "available_resources_per_node", lambda: {n: {"CPU": cpus} for n, cpus in self.free.items()}
        )
        monkeypatch.setattr(elastic, "_draining", lambda: frozenset(self.draining))
        monkeypatch.setattr(elastic, "time_monotonic", lambda: self.now_s)
        base = elastic.ElasticScalingPolicy
        monkeypatch.setattr(
            "ray.train.v2._internal.execution.scaling_policy.elastic.time_monotonic", lambda: self.now_s
        )
        monkeypatch.setattr(base, "_maybe_send_resource_request", lambda policy: None)
        monkeypatch.setattr(base, "_get_reserved_resources", lambda policy: {"granted": {"CPU": float(self.granted)}})
        monkeypatch.setattr(base, "_autoscaling_coordinator", MagicMock())

    def policy(self, least: int = 1, most: int = 4, run: str = "") -> RoomPolicy:
        config = ScalingConfig(
            num_workers=(least, most), resources_per_worker={"CPU": 1}, elastic_resize_monitor_interval_s=10
        )
        return RoomPolicy(config, run)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def size(decision: Any) -> int | None:
    return decision.num_workers if isinstance(decision, ResizeDecision) else None


def test_it_starts_with_what_is_free_though_ray_would_grant_more(world: World) -> None:
    world.free = {"a": 1.0, "b": 0.4}
    assert size(world.policy().make_decision_for_non_running_worker_group()) == 1
    assert isinstance(world.policy(least=2).make_decision_for_non_running_worker_group(), NoopDecision)


def test_a_group_that_is_placed_finds_room_in_its_zone_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.free = {"a": 4.0, "b": 4.0}
    nodes = [{"NodeID": "a", "Labels": {"zone": "FRA"}}, {"NodeID": "b", "Labels": {"zone": "DEU"}}]
    monkeypatch.setattr(elastic.ray, "nodes", lambda: nodes)
    config = ScalingConfig(num_workers=(1, 8), resources_per_worker={"CPU": 1}, label_selector={"zone": "FRA"})
    assert size(RoomPolicy(config).make_decision_for_non_running_worker_group()) == 4


def test_other_jobs_that_ray_counts_with_are_counted_with(world: World) -> None:
    world.free, world.granted = {"a": 8.0}, 3
    assert size(world.policy().make_decision_for_non_running_worker_group()) == 3


def test_a_plan_bounds_it_and_a_bound_that_falls_lets_it_shrink(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = {"planned": 2}
    monkeypatch.setattr(elastic.board, "most_workers", bounds.get)
    world.free = {"a": 8.0}
    assert size(world.policy(run="planned").make_decision_for_non_running_worker_group()) == 2
    assert size(world.policy(run="another").make_decision_for_non_running_worker_group()) == 4
    policy, group = world.policy(run="planned"), Group([Worker(Meta("a")), Worker(Meta("a"))])
    bounds["planned"] = 1
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) is None
    assert size(policy.make_decision_for_running_worker_group(group, saved("the group goes from 2 to 1"))) == 1


def test_it_grows_once_a_checkpoint_is_there(world: World) -> None:
    policy, group = world.policy(), Group([Worker(Meta("a")), Worker(Meta("b"))])
    world.free = {"a": 0.0, "b": 0.0, "c": 1.0}
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) is None
    assert [worker.asked for worker in group.workers] == [["the group goes from 2 to 3"]] * 2
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) is None
    assert size(policy.make_decision_for_running_worker_group(group, DUE)) is None  # begun before it was asked for
    assert size(policy.make_decision_for_running_worker_group(group, saved("the group goes from 2 to 3"))) == 3
    assert len(group.workers[0].asked) == 1


def test_it_does_not_wait_for_a_checkpoint_for_ever(world: World) -> None:
    policy, group = world.policy(), Group([Worker(Meta("a"))])
    world.free = {"a": 0.0, "c": 1.0}
    policy.make_decision_for_running_worker_group(group, QUIET)
    world.now_s += 29
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) is None
    world.now_s += 2
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) == 2


def test_what_its_own_workers_hold_is_room_and_so_it_stays_as_it_is(world: World) -> None:
    policy, group = world.policy(), Group([Worker(Meta("a")), Worker(Meta("b"))])
    world.free = {"a": 0.0, "b": 0.5}
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) is None
    assert [worker.asked for worker in group.workers] == [[], []]


def test_after_a_lost_node_it_restarts_on_those_that_are_left(world: World) -> None:
    policy, group = world.policy(), Group([Worker(Meta("a")), Worker(Meta("b"))])
    world.free = {"a": 0.0, "b": 0.0}
    policy.make_decision_for_running_worker_group(group, QUIET)
    world.free = {"a": 0.0}  # b is gone; the rest of the group still holds its place on a
    assert size(policy.make_decision_for_non_running_worker_group()) == 1
    policy.before_controller_execute_resize_decision(ResizeDecision(1, {"CPU": 1}))
    assert isinstance(policy.make_decision_for_non_running_worker_group(), NoopDecision)  # what it held is counted once


def test_workers_move_off_a_node_that_is_about_to_be_taken_away_without_waiting_for_the_next_look(world: World) -> None:
    policy, group = world.policy(), Group([Worker(Meta("a")), Worker(Meta("b"))], start_time=99.0)
    world.free = {"a": 0.0, "b": 0.0}
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) is None
    world.draining, world.now_s = {"b"}, world.now_s + 1
    assert size(policy.make_decision_for_running_worker_group(group, QUIET)) is None
    assert group.workers[0].asked == ["the group goes from 2 to 1"]
    assert size(policy.make_decision_for_running_worker_group(group, saved("the group goes from 2 to 1"))) == 1


def test_where_there_is_nowhere_to_move_a_checkpoint_is_left_at_least(world: World) -> None:
    policy, group = world.policy(least=2), Group([Worker(Meta("a")), Worker(Meta("b"))], start_time=99.0)
    world.free, world.draining = {"a": 0.0, "b": 0.0}, {"b"}
    for _ in range(3):
        assert size(policy.make_decision_for_running_worker_group(group, DUE)) is None
        world.now_s += 2
    assert [worker.asked for worker in group.workers] == [["a node is about to be taken away"]] * 2
