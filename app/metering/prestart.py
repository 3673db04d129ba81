"""Worker processes that a raylet starts ahead of need: the only file that knows Ray's internal calls for it.

Ray 2.60 has `PrestartWorkers` and `GetNodeStats` on every raylet, for its own use; nobody promises that they stay. So
whatever goes wrong here is `Unavailable` and costs no more than a slower start: an actor for which no worker waits gets
a new one, as ever. Knows nothing of models or of when a worker is worth its memory.

    raylet = Raylet("10.0.0.7:41233")             # NodeManagerAddress:NodeManagerPort of ray.nodes()
    raylet.waiting(job_id)                        # workers that never had work
    raylet.start_worker(keep_alive_s=3600)

A worker so started belongs to no job: it serves the next actor or task, of any, that has no runtime environment, and
ends with the raylet. Of several that fit, Ray takes the one that has waited longest.
"""

from typing import Any, NamedTuple

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.errors import Unavailable

_TIMEOUT_S = 5.0
_NIL = b"\xff"


class Waiting(NamedTuple):
    """Workers of one node that were never given anything to do."""

    prepared: int
    """Asked for ahead of need: of no job."""
    plain: int
    """Left over, as Ray started them for tasks of this job that others did meanwhile, and older than the prepared ones:
    Ray would take these first."""


class Raylet:
    """One raylet, by the address of its node manager. Used by one thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = init_grpc_channel(address)
        self._stub = node_manager_pb2_grpc.NodeManagerServiceStub(self._channel)

    def waiting(self, job_id: bytes) -> Waiting:
        """Workers that wait for an actor of this job. Raises Unavailable."""
        stats = self._ask("GetNodeStats", node_manager_pb2.GetNodeStatsRequest(include_memory_info=False))
        waiting = [worker for worker in stats.core_workers_stats if _is_waiting(worker)]
        prepared = [worker.pid for worker in waiting if not worker.job_id.strip(_NIL)]
        plain = [worker.pid for worker in waiting if worker.job_id == job_id]
        oldest = min(prepared, default=max(plain, default=0) + 1)
        return Waiting(len(prepared), sum(pid < oldest for pid in plain))

    def start_worker(self, keep_alive_s: int) -> None:
        """Have one more worker started, to be kept at least so long. Raises Unavailable."""
        wanted = node_manager_pb2.PrestartWorkersRequest(
            language=common_pb2.PYTHON,
            num_workers=1,
            keep_alive_duration_secs=keep_alive_s,
        )
        wanted.runtime_env_info.serialized_runtime_env = "{}"
        self._ask("PrestartWorkers", wanted)

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def _ask(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=_TIMEOUT_S)
        except (grpc.RpcError, AttributeError) as error:
            code = error.code().name if isinstance(error, grpc.RpcError) else "no such call"
            raise Unavailable(f"raylet {self.address} does not answer {method}: {code}") from error


def use_up(ray_node_id: str) -> None:
    """End the worker of this job that has waited longest on a node; an actor that does nothing takes it with it."""
    here = NodeAffinitySchedulingStrategy(ray_node_id, soft=False)
    guest = ray.remote(num_cpus=0, max_restarts=0)(_Guest).options(scheduling_strategy=here).remote()
    try:
        ray.get(guest.__ray_ready__.remote(), timeout=_TIMEOUT_S)
    finally:
        ray.kill(guest)


class _Guest:
    """An actor that does nothing."""


def _is_waiting(worker: common_pb2.CoreWorkerStats) -> bool:
    return (
        worker.worker_type == common_pb2.WORKER
        and not worker.actor_id.strip(_NIL)
        and not worker.num_executed_tasks
        and not worker.num_running_tasks
    )
