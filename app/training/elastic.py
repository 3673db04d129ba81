"""Ray Train's controller, taught how a group grows and shrinks: into what is free, and with a checkpoint first.

Ray 2.60 counts what nodes have, not what is free on them, and ends the group the moment it decides to resize: the work
since the last checkpoint would be done again. Here a planned change asks the workers for a checkpoint first and waits
for it, a little; nodes that are about to be taken away count as gone, so that their workers move before the deadline
and nothing is lost. How many workers there shall be is decided in app/policy/elastic.py.

    ElasticTrainer(train_worker, scaling_config=ScalingConfig(num_workers=(1, 4)), ...).fit()

Written against Ray 2.60, `ray.train.v2._internal.execution.scaling_policy.elastic`.
"""

import os
from collections import defaultdict
from typing import Any

import ray
from ray._private import state as cluster
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ResizeDecision, ScalingDecision
from ray.train.v2._internal.execution.scaling_policy.elastic import ElasticScalingPolicy
from ray.train.v2._internal.util import time_monotonic

from app.metering.node_zones import matching
from app.policy.elastic import number_of_workers, workers_that_fit
from app.training import board
from app.training.notices import ASKED_FOR, ask_save

_SAVE_WITHIN_S = 30.0
_HOLD_S = 3.0
"""Longer than the controller takes to see the checkpoint and end the group; what a worker did then would be lost."""
_DRAINS_EVERY_S = 1.0
_START_WITHIN_S = "30"
"""Ray waits so long for resources that are not there after all, a node having died, before it counts again."""


class ElasticTrainer(TorchTrainer):
    """A TorchTrainer whose number of workers, where it may change, follows what is free."""

    def fit(self) -> Any:
        if self.scaling_config.elasticity_enabled:
            # The policy moves workers off such nodes at once; Ray's watcher would have them work on until the end.
            os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
            os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", _START_WITHIN_S)
        return super().fit()

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        if self.scaling_config.elasticity_enabled:
            parts["scaling_policy"] = RoomPolicy(self.scaling_config, str(self.run_config.name or ""))
        return super()._initialize_and_run_controller(**parts)


class RoomPolicy(ElasticScalingPolicy):
    """Ray's elastic policy, with free resources for a measure and a checkpoint before a change; in the controller."""

    def __init__(self, scaling_config: Any, run: str = "") -> None:
        super().__init__(scaling_config)
        self._run = run
        self._held: dict[str, dict[str, float]] = {}
        self._change: ResizeDecision | None = None
        self._reason = ""
        self._asked_s = self._looked_s = float("-inf")
        self._draining: frozenset[str] = frozenset()

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        self._held = _held_by(worker_group_state.workers)
        if self._change is not None:
            return self._changed_once_saved(worker_group_status)
        decision = self._flight(worker_group_state) or super().make_decision_for_running_worker_group(
            worker_group_state, worker_group_status
        )
        if not isinstance(decision, ResizeDecision):
            return decision
        self._change, self._asked_s = decision, time_monotonic()
        self._reason = f"the group goes from {worker_group_state.num_workers} to {decision.num_workers}"
        _ask(worker_group_state, self._reason, _HOLD_S)
        return NoopDecision()

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        """The group ends, and what it held is free."""
        self._held, self._change = {}, None

    def _changed_once_saved(self, status: Any) -> ScalingDecision:
        reports = [each.training_report for each in status.worker_statuses.values()]
        saved = any(
            report and report.checkpoint and report.metrics.get(ASKED_FOR) == self._reason for report in reports
        )
        if not saved and time_monotonic() - self._asked_s < _SAVE_WITHIN_S:
            return NoopDecision()
        decision, self._change = self._change, None
        return decision or NoopDecision()

    def _flight(self, state: Any) -> ScalingDecision | None:
        """Away from nodes of ours that are about to be taken away, if enough workers find room elsewhere."""
        now_s = time_monotonic()
        if now_s - self._looked_s < _DRAINS_EVERY_S:
            return None
        self._looked_s = now_s
        draining = _draining() & self._held.keys()
        if draining <= self._draining:
            return None
        self._draining = frozenset(draining)
        wanted = number_of_workers(state.num_workers, self._room(), *self._bounds)
        if wanted != state.num_workers:
            return self._get_resize_decision(wanted)
        _ask(state, "a node is about to be taken away", hold_s=0)
        return None

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        """As many as Ray grants this job among others, as find room, and as its plan wants (board.py)."""
        granted: int = super()._count_possible_workers(reserved_resources)
        room, (_, most) = self._room(), self._bounds
        return min(granted, most) if room is None else min(granted, room, most)

    def _get_reserved_resources(self) -> Any:
        """As Ray's, of the cluster as it is now: by itself the coordinator, who answers in order, looks every 20 s."""
        since_s = time_monotonic() - self._latest_reserved_resources_query_time
        if since_s >= self.GET_RESERVED_RESOURCES_INTERVAL_S:
            self._autoscaling_coordinator.get_reserved_resources.remote(self._requester_id, recompute=True)
        return super()._get_reserved_resources()

    def _room(self) -> int | None:
        free: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        available = cluster.available_resources_per_node()
        for resources_by_node in (available, {node: self._held.get(node, {}) for node in available}):
            for node, resources in resources_by_node.items():
                for name, amount in resources.items():
                    free[node][name] += amount
        for node in _draining():
            free.pop(node, None)
        selector = self.scaling_config.label_selector
        if isinstance(selector, dict):
            here = matching(ray.nodes(), selector)
            free = {node: resources for node, resources in free.items() if node in here}
        return workers_that_fit(free, self.scaling_config._resources_per_worker_not_none)

    @property
    def _bounds(self) -> tuple[int, int]:
        most = self.scaling_config.max_workers
        planned = board.most_workers(self._run) if self._run else None
        return self.scaling_config.min_workers, min(most, planned or most)


def _held_by(workers: Any) -> dict[str, dict[str, float]]:
    """What a group holds, by node."""
    held: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for worker in workers:
        for name, amount in worker.resources.items():
            held[worker.metadata.node_id][name] += amount
    return {node: dict(resources) for node, resources in held.items()}


def _draining() -> frozenset[str]:
    """Nodes that are about to be taken away."""
    return frozenset(cluster.state.get_draining_nodes() or {})


def _ask(state: Any, reason: str, hold_s: float) -> None:
    """Have every worker of a group leave a checkpoint soon; nothing is awaited."""
    for worker in state.workers:
        worker.execute_async(ask_save, reason, hold_s)
