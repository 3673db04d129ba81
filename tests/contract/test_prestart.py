"""What is asked of a raylet, with Ray's own messages, and what is understood of its answers."""

from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

from app.errors import Unavailable
from app.metering.prestart import Raylet, Waiting

NIL_ACTOR, NIL_JOB = b"\xff" * 16, b"\xff" * 4
SERVE, OTHER = b"\x02\0\0\0", b"\x01\0\0\0"


class FakeRaylet(node_manager_pb2_grpc.NodeManagerServiceServicer):
    """Answers the two calls as Ray 2.60's raylet does."""

    def __init__(self, workers=()):
        self.workers, self.asked = workers, []

    def GetNodeStats(self, request, context):  # noqa: N802
        return node_manager_pb2.GetNodeStatsReply(core_workers_stats=self.workers)

    def PrestartWorkers(self, request, context):  # noqa: N802
        self.asked.append(request)
        return node_manager_pb2.PrestartWorkersReply()


@contextmanager
def raylet(servicer):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    if servicer is not None:
        node_manager_pb2_grpc.add_NodeManagerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = Raylet(f"127.0.0.1:{port}")
    try:
        yield client
    finally:
        client.close()
        server.stop(0).wait()


def worker(**said):
    waiting = {"worker_type": common_pb2.WORKER, "job_id": NIL_JOB, "actor_id": NIL_ACTOR, "pid": 100}
    return common_pb2.CoreWorkerStats(**(waiting | said))


def test_workers_wait_that_did_nothing_and_belong_to_no_job_or_to_the_one_asked_for():
    workers = [
        worker(),
        worker(job_id=OTHER),
        worker(job_id=SERVE, pid=99),
        worker(job_id=SERVE, pid=101),
        worker(job_id=SERVE, actor_id=b"\x01" * 16),
        worker(job_id=SERVE, num_executed_tasks=1),
        worker(actor_id=b"\x01" * 16),
        worker(worker_type=common_pb2.DRIVER),
        worker(num_executed_tasks=1),
        worker(num_running_tasks=1),
    ]
    with raylet(FakeRaylet(workers)) as client:
        assert client.waiting(SERVE) == Waiting(prepared=1, plain=1)
    with raylet(FakeRaylet([worker(job_id=SERVE, pid=99), worker(job_id=SERVE, pid=101)])) as client:
        assert client.waiting(SERVE) == Waiting(prepared=0, plain=2)
    with raylet(FakeRaylet()) as client:
        assert client.waiting(SERVE) == Waiting(0, 0)


def test_one_python_worker_of_no_job_and_no_environment_is_asked_for():
    servicer = FakeRaylet()
    with raylet(servicer) as client:
        client.start_worker(keep_alive_s=60)
    asked = servicer.asked[0]
    assert (asked.language, asked.num_workers, asked.keep_alive_duration_secs) == (common_pb2.PYTHON, 1, 60)
    assert not asked.HasField("job_id")
    assert asked.runtime_env_info.serialized_runtime_env == "{}"


def test_a_raylet_without_these_calls_is_unavailable():
    with raylet(None) as client:
        with pytest.raises(Unavailable, match="does not answer GetNodeStats: UNIMPLEMENTED"):
            client.waiting(SERVE)
        with pytest.raises(Unavailable, match="does not answer PrestartWorkers: UNIMPLEMENTED"):
            client.start_worker(60)


def test_a_raylet_that_is_gone_is_unavailable():
    client = Raylet("127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer"):
        client.waiting(SERVE)
    client.close()
