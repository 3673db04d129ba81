"""When a worker process is prepared, and when not: Serve's details in, calls of a raylet out."""

import pytest

from app.clock import ManualClock
from app.errors import Unavailable
from app.metering.prestart import Waiting
from app.serving.keeper import KEEP_ALIVE_S, Keeper, is_starting, sleeping
from app.units import NS_PER_S

JOB = b"\x02\0\0\0"
NODES = [{"NodeID": "a", "Alive": True, "NodeManagerAddress": "10.0.0.1", "NodeManagerPort": 7}]


class FakeRaylet:
    """Starts workers at once, or answers nothing."""

    def __init__(self, address):
        self.address, self.workers, self.plain, self.silent, self.closed = address, 0, 0, False, False
        self.kept_s = []

    def waiting(self, job_id):
        assert job_id == JOB
        if self.silent:
            raise Unavailable("no answer")
        return Waiting(self.workers, self.plain)

    def start_worker(self, keep_alive_s):
        self.workers += 1
        self.kept_s.append(keep_alive_s)

    def close(self):
        self.closed = True


class Ground:
    """A keeper with its clock and the raylets it came to know."""

    def __init__(self, limit):
        self.clock, self.raylets = ManualClock(), {}
        self.used_up = []
        self.keeper = Keeper(limit, JOB, self.raylet, self.used_up.append, self.clock)

    def raylet(self, address):
        return self.raylets.setdefault(address, FakeRaylet(address))

    def look(self, details, nodes=NODES, later_s=20):
        self.clock.advance(later_s * NS_PER_S)
        self.keeper.look(details, nodes)
        return {address: raylet.workers for address, raylet in self.raylets.items()}


def model(target=0, states=(), app=None, options=None):
    deployment = {
        "target_num_replicas": target,
        "replicas": [{"state": state} for state in states],
        "deployment_config": {"ray_actor_options": options or {}},
    }
    return {"deployed_app_config": app or {}, "deployments": {"Model": deployment}}


def details(**applications):
    return {"applications": applications}


def test_a_model_asleep_has_one_worker_waiting_on_every_living_node():
    ground = Ground(limit=1)
    other = {"NodeID": "b", "Alive": True, "NodeManagerAddress": "10.0.0.2", "NodeManagerPort": 8}
    dead = {"NodeID": "c", "Alive": False, "NodeManagerAddress": "10.0.0.3", "NodeManagerPort": 9}
    assert ground.look(details(minilm=model()), [*NODES, other, dead]) == {"10.0.0.1:7": 1, "10.0.0.2:8": 1}
    assert ground.raylets["10.0.0.1:7"].kept_s == [KEEP_ALIVE_S]
    assert ground.look(details(minilm=model()), NODES) == {"10.0.0.1:7": 1, "10.0.0.2:8": 1}
    assert ground.raylets["10.0.0.2:8"].closed


def test_as_many_wait_as_models_sleep_up_to_the_limit_one_after_the_other():
    ground = Ground(limit=2)
    asleep = details(one=model(), two=model(), three=model())
    counts = [ground.look(asleep)["10.0.0.1:7"] for _ in range(4)]
    assert counts == [1, 2, 2, 2]


def test_a_worker_that_takes_long_to_show_is_not_asked_for_twice():
    ground = Ground(limit=1)
    ground.look(details(minilm=model()))
    ground.raylets["10.0.0.1:7"].workers = 0
    assert ground.look(details(minilm=model()), later_s=3) == {"10.0.0.1:7": 0}
    assert ground.look(details(minilm=model()), later_s=15) == {"10.0.0.1:7": 1}


@pytest.mark.parametrize(
    "there",
    [
        {},
        details(minilm=model(1, ["RUNNING"])),
        details(minilm=model(0, ["STOPPING"])),
        details(minilm=model(), other=model(1, ["STARTING"])),
        details(minilm=model(app={"runtime_env": {"working_dir": "s3://x"}})),
        details(minilm=model(options={"runtime_env": {"env_vars": {"A": "1"}}})),
    ],
    ids=["nothing", "awake", "draining", "one starts", "own code", "own variables"],
)
def test_nothing_is_started_where_it_would_not_be_used_or_would_be_in_the_way(there):
    assert Ground(limit=1).look(there) == {}


def test_a_raylet_that_does_not_answer_is_asked_again_later_and_the_others_meanwhile():
    ground = Ground(limit=1)
    other = {"NodeID": "b", "Alive": True, "NodeManagerAddress": "10.0.0.2", "NodeManagerPort": 8}
    ground.raylet("10.0.0.1:7").silent = True
    assert ground.look(details(minilm=model()), [*NODES, other]) == {"10.0.0.1:7": 0, "10.0.0.2:8": 1}
    ground.raylets["10.0.0.1:7"].silent = False
    assert ground.look(details(minilm=model()), [*NODES, other], later_s=3) == {"10.0.0.1:7": 1, "10.0.0.2:8": 1}


def test_a_plain_worker_that_ray_would_take_first_is_used_up_before_one_is_prepared():
    ground = Ground(limit=1)
    ground.raylet("10.0.0.1:7").plain = 1
    assert ground.look(details(minilm=model()), later_s=3) == {"10.0.0.1:7": 0}
    assert ground.used_up == ["a"]
    ground.raylets["10.0.0.1:7"].plain = 0
    assert ground.look(details(minilm=model()), later_s=3) == {"10.0.0.1:7": 1}
    ground.raylets["10.0.0.1:7"].plain = 1
    ground.look(details(minilm=model()), later_s=3)
    assert ground.used_up == ["a", "a"], "it was only slow to show"


def test_a_plain_worker_that_cannot_be_used_up_is_left_alone_after_one_try():
    ground = Ground(limit=1)
    ground.raylet("10.0.0.1:7").plain = 2
    counts = [ground.look(details(minilm=model()), later_s=3)["10.0.0.1:7"] for _ in range(2)]
    assert (counts, ground.used_up) == ([0, 1], ["a"])
    ground.raylets["10.0.0.1:7"].workers, ground.raylets["10.0.0.1:7"].plain = 0, 1
    ground.look(details(minilm=model()))
    assert ground.used_up == ["a", "a"]


def test_with_a_limit_of_zero_nobody_waits():
    assert Ground(limit=0).look(details(minilm=model())) == {}


def test_details_are_read_as_serve_gives_them():
    there = details(a=model(), b=model(1, ["RUNNING"]), c=model(1, ["STARTING"]))
    assert sleeping(there) == 1
    assert is_starting(there)
    assert not is_starting(details(a=model()))
