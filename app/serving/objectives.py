"""Serve's autoscaling policy for a whole application: latency objective, budget, caps by intensity; and keep-alive.

For each deployment KeepAlivePolicy (autoscale.py) says when it sleeps and what its load needs; app/policy/replicas.py
changes that number while it is awake. Like that one it runs in Serve's controller every 0.1 s, waits for nothing and
hears of latency, grid and budget with the metrics of the replicas; why the number is what it is stands in the policy's
state. In a Serve config, where it takes the place of the deployments' policies:

    applications:
      - name: minilm
        autoscaling_policy:
          policy_function: app.serving.objectives:ObjectivePolicy
          policy_kwargs: {latency_p95_ms: 200, caps: {400: 1}, keep_alive: {longest_s: 300}}
"""

import logging
from collections.abc import Mapping
from typing import Any

from ray.serve.config import AutoscalingContext

from app.policy.replicas import ReplicaKeeper, ReplicaRules, Seen
from app.serving.autoscale import KeepAlivePolicy, latest

_log = logging.getLogger("ray.serve")


class ObjectivePolicy:
    """One per application. `settings` are those of ReplicaRules, `keep_alive` those of KeepAliveSettings."""

    def __init__(self, keep_alive: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self._keep_alive = dict(keep_alive or {})
        self._rules = ReplicaRules(**settings)
        KeepAlivePolicy(**self._keep_alive)  # what is wrong with its settings is told now
        self._deployments: dict[str, _Deployment] = {}

    def __call__(
        self, contexts: Mapping[Any, AutoscalingContext]
    ) -> tuple[dict[Any, float], dict[Any, dict[str, Any]]]:
        wanted: dict[Any, float] = {}
        states: dict[Any, dict[str, Any]] = {}
        for deployment, ctx in contexts.items():
            found = self._deployments.get(ctx.deployment_name)
            if found is None:
                found = _Deployment(KeepAlivePolicy(**self._keep_alive), ReplicaKeeper(self._rules))
                self._deployments[ctx.deployment_name] = found
            wanted[deployment], states[deployment] = found.decide(ctx)
        return wanted, states


class _Deployment:
    """What is known of one."""

    def __init__(self, keep_alive: KeepAlivePolicy, keeper: ReplicaKeeper) -> None:
        self._keep_alive, self._keeper = keep_alive, keeper
        self._asked: dict[str, float] = {}
        self._why = ""

    def decide(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        number, state = self._keep_alive(ctx)
        if not number or not ctx.current_num_replicas:
            return number, state
        replicas, why = self._keeper.wanted(number, ctx.current_num_replicas, self._seen(ctx), ctx.current_time)
        if why != self._why and replicas != number:
            _log.info("%s of %s: %d replicas, %s", ctx.deployment_name, ctx.app_name, replicas, why)
        self._why = why
        return float(replicas), state | {"replicas_because": why}

    def _seen(self, ctx: AutoscalingContext) -> Seen:
        """The worst of all replicas; the latency only of those that were asked since they were heard last."""
        told = latest(ctx)
        busy = [
            each.get("p95_ms", 0.0)
            for name, each in told.items()
            if each["asked"] > self._asked.get(name, -1.0) or ctx.total_num_requests > 0
        ]
        self._asked = {name: each["asked"] for name, each in told.items()}
        intensity = max((each.get("g_per_kwh", 0.0) for each in told.values()), default=0.0)
        return Seen(
            p95_ms=max(busy, default=0.0) or None,
            g_per_kwh=intensity or None,
            is_spent=bool(told) and all(each.get("budget_spent", 0.0) for each in told.values()),
        )
