"""Serve's autoscaling policy for models: as many replicas as requests need, and sleep by keep-alive instead of a delay.

Runs in Serve's controller every 0.1 s, pickled by value: it waits for nothing, reads no clock and keeps its state in
the instance, which lives until the application is deployed anew or the controller restarts. What it knows of the
model comes with the metrics of its replicas (`record_autoscaling_stats`, app/serving/warm_replica.py): visits, the
energy of the load and that of staying warm, as the ledger has them. Decides by app/policy/keepalive.py.

While no replica runs and requests wait, Serve starts one without asking. Its own delays still apply to a second
replica and to the way back to one; `downscale_to_zero_delay_s` must be 0.
"""

from dataclasses import dataclass
from typing import Any

from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingContext

from app.policy.keepalive import KeepAlive, KeepAliveSettings, Visit

_SETTLED_S = 3.0  # after a load the books have its energy
_WARM_WINDOW_S = 3.0


@dataclass(slots=True)
class _Replica:
    """What was heard of one."""

    seen_s: float
    asked: float = 0.0
    load_told: bool = False
    warm_uj: float = 0.0
    idle_s: float = 0.0


class KeepAlivePolicy:
    """One per deployment. `settings` are those of KeepAliveSettings."""

    def __init__(self, **settings: Any) -> None:
        self._keeper = KeepAlive(KeepAliveSettings(**settings))
        self._replicas: dict[str, _Replica] = {}
        self._asleep = False
        self._load_begun_s: float | None = None
        """Of the load whose energy is still to be heard."""
        self._loaded_ahead = False
        self._visited = False

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        if not ctx.current_num_replicas:
            return self._while_none(ctx), {}
        stats = latest(ctx)
        needed, _ = replica_queue_length_autoscaling_policy(ctx)
        if not stats:  # just started: it reports in a moment
            return max(1.0, needed), {}
        # Woken at once, it was never seen asleep, but it is another replica.
        if self._asleep or (self._visited and not self._replicas.keys() & stats.keys()):
            self._asleep = False
            self._load_begun_s = ctx.last_scale_up_time
        self._hear(ctx.current_time, stats)
        if ctx.total_num_requests > 0 or (not self._visited and not self._loaded_ahead):
            return max(1.0, needed), {}
        if all(one.get("sleep_wanted") for one in stats.values()):
            return 0, {}
        return (max(1.0, needed) if self._keeper.plan().awake(ctx.current_time) else 0), {}

    def _while_none(self, ctx: AutoscalingContext) -> int:
        """Nobody waits, or Serve would not ask: asleep, on the way there, or on the way to the first replica."""
        self._asleep = True
        self._replicas.clear()
        if ctx.target_num_replicas:
            return ctx.target_num_replicas
        self._loaded_ahead = self._visited and self._keeper.plan().awake(ctx.current_time)
        return int(self._loaded_ahead)

    def _hear(self, now_s: float, stats: dict[str, dict[str, float]]) -> None:
        for gone in self._replicas.keys() - stats.keys():
            del self._replicas[gone]
        for name, told in stats.items():
            is_new = name not in self._replicas
            replica = self._replicas.setdefault(name, _Replica(now_s))
            self._hear_visit(now_s, replica, told, first=is_new and len(self._replicas) == 1)
            self._hear_energy(now_s, replica, told)

    def _hear_visit(self, now_s: float, replica: _Replica, told: dict[str, float], first: bool) -> None:
        asked = told["asked"] - replica.asked
        replica.asked = told["asked"]
        ended_s = told["idle_from_s"] or now_s
        begun_s = min(told["busy_from_s"], ended_s)
        if first and self._load_begun_s is not None:
            if self._loaded_ahead and not asked:
                return
            # Who woke it waited for the load, and so did all that came before its first report.
            cold = 0 if self._loaded_ahead else max(1, int(asked))
            begun_s = begun_s if self._loaded_ahead else min(self._load_begun_s, ended_s)
            self._keeper.visited(Visit(begun_s, ended_s, max(1, int(asked)), cold))
        elif asked or not told["idle_from_s"] or not self._visited:
            self._keeper.visited(Visit(begun_s or ended_s, ended_s, int(asked)))
        else:
            return
        self._visited = True
        self._loaded_ahead = False

    def _hear_energy(self, now_s: float, replica: _Replica, told: dict[str, float]) -> None:
        if not replica.load_told and now_s - replica.seen_s >= _SETTLED_S:
            replica.load_told = True
            replica.warm_uj, replica.idle_s = told["warm_uj"], told["idle_s"]
            if self._load_begun_s is not None:
                self._keeper.measured_load(told["load_uj"] / 1e6, max(0.0, replica.seen_s - self._load_begun_s))
                self._load_begun_s = None
        elif replica.load_told and told["idle_s"] - replica.idle_s >= _WARM_WINDOW_S:
            warm_j = (told["warm_uj"] - replica.warm_uj) / 1e6
            if told["warm_uj"] > 0:
                self._keeper.measured_warm(warm_j / (told["idle_s"] - replica.idle_s))
            replica.warm_uj, replica.idle_s = told["warm_uj"], told["idle_s"]


def latest(ctx: AutoscalingContext) -> dict[str, dict[str, float]]:
    """By replica, the last values of what it reports; only those that have reported all of it."""
    found: dict[str, dict[str, float]] = {}
    for name, by_replica in (ctx.raw_metrics or {}).items():
        for replica, series in by_replica.items():
            if series:
                found.setdefault(replica.unique_id, {})[name] = series[-1].value
    return {replica: told for replica, told in found.items() if {"asked", "load_uj", "warm_uj"} <= told.keys()}
