"""Keeps worker processes prepared on every node while models sleep, so that waking one takes no process start.

A model that sleeps costs nothing; a prepared worker costs host memory. So there are as many as models asleep, up to
`prepared_workers` on each node, none while all are awake, and none is started while a replica starts: that has the
CPUs. Models with a runtime environment of their own cannot use one and do not count. Reads Serve's details and
`ray.nodes()` as they come; decides purely, acts through app/metering/prestart.py. Any failure means: no worker now.

    keeper = Keeper(1, job_id, Raylet, use_up, SystemClock())     # the job is Serve's
    keeper.look(details, nodes)                                   # every few seconds
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from app.clock import Clock
from app.errors import Unavailable
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.metering.prestart import Waiting

_log = logging.getLogger("ray.serve")

KEEP_ALIVE_S = 3600
"""After this long unused Ray may end a worker; if models still sleep it is replaced."""
_START_NS = 15 * NS_PER_S
"""A worker that was asked for is not asked for again before this: it takes seconds to show."""


class Workers(Protocol):
    """One raylet; see app/metering/prestart.py."""

    def waiting(self, job_id: bytes) -> "Waiting": ...
    def start_worker(self, keep_alive_s: int) -> None: ...
    def close(self) -> None: ...


class Keeper:
    """One per cluster. Used by one thread."""

    def __init__(
        self,
        limit: int,
        job_id: bytes,
        raylet: Callable[[str], Workers],
        use_up: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._limit, self._job_id, self._clock = limit, job_id, clock
        self._raylet, self._use_up = raylet, use_up
        self._raylets: dict[str, Workers] = {}
        self._asked_ns: dict[str, int] = {}
        self._plain: dict[str, int] = {}
        """How many plain workers waited when one was last to be used up: where they are not fewer now, it was in vain,
        as with workers of another runtime environment."""

    def look(self, details: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> None:
        """Start what is missing, at most one worker a node."""
        wanted = min(self._limit, sleeping(details))
        if not wanted or is_starting(details):
            return
        alive = {node["NodeID"]: node for node in nodes if node["Alive"]}
        self._forget(alive)
        for node_id, node in alive.items():
            try:
                self._fill(node_id, f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", wanted)
            except Unavailable as error:
                _log.debug("no prepared worker: %s", error)

    def _fill(self, node_id: str, address: str, wanted: int) -> None:
        if node_id not in self._raylets:
            self._raylets[node_id] = self._raylet(address)
        raylet = self._raylets[node_id]
        waiting, now_ns = raylet.waiting(self._job_id), self._clock.monotonic_ns()
        if not waiting.plain:
            self._plain.pop(node_id, None)
        if 0 < waiting.plain < self._plain.get(node_id, waiting.plain + 1):
            self._plain[node_id] = waiting.plain
            self._use_up(node_id)
        elif waiting.prepared < wanted and now_ns - self._asked_ns.get(node_id, now_ns - _START_NS) >= _START_NS:
            self._asked_ns[node_id] = now_ns
            raylet.start_worker(KEEP_ALIVE_S)

    def _forget(self, alive: Collection[str]) -> None:
        for gone in self._raylets.keys() - set(alive):
            self._raylets.pop(gone).close()
            self._asked_ns.pop(gone, None)
            self._plain.pop(gone, None)


def sleeping(details: Mapping[str, Any]) -> int:
    """Deployments at zero replicas, in Serve's instance details, that a plain worker process can serve."""
    return sum(
        not deployment.get("target_num_replicas") and not deployment.get("replicas")
        for application in details.get("applications", {}).values()
        for deployment in application.get("deployments", {}).values()
        if not _has_own_environment(application, deployment)
    )


def is_starting(details: Mapping[str, Any]) -> bool:
    """Whether a replica is on its way."""
    return any(
        replica.get("state") == "STARTING"
        for application in details.get("applications", {}).values()
        for deployment in application.get("deployments", {}).values()
        for replica in deployment.get("replicas", ())
    )


def _has_own_environment(application: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    config = application.get("deployed_app_config") or {}
    options = (deployment.get("deployment_config") or {}).get("ray_actor_options") or {}
    return bool(config.get("runtime_env") or options.get("runtime_env"))
