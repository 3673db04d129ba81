"""Serve's policy with contexts as the controller makes them: ticks of 0.1 s, reports of a replica."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from app.serving.autoscale import KeepAlivePolicy
from app.serving.build import AUTOSCALING


@dataclass(frozen=True)
class Replica:
    unique_id: str


@dataclass
class Served:
    """A deployment of at most one replica whose load takes `load_s`; ongoing requests are told as they are."""

    policy: KeepAlivePolicy
    now_s: float = 1_000_000.0
    target: int = 0
    ready_s: float | None = None
    ongoing: int = 0
    load_s: float = 4.0
    tick_s: float = 0.1
    up_s: float | None = None
    told: dict = field(default_factory=dict)

    def ask(self, work_s=0.0):
        """A request; a sleeping model is woken by Serve itself."""
        if not self.target:
            self.target, self.up_s = 1, self.now_s
            self.ready_s = self.now_s + self.load_s
        if self.now_s < self.ready_s - 1e-3:
            self.run(self.ready_s - self.now_s, waiting=True)
        self.told["asked"] += 1.0
        self.told["busy_from_s"] = self.told["idle_from_s"] = self.now_s
        self.run(work_s)

    def run(self, seconds, waiting=False):
        until_s = self.now_s + seconds
        while self.now_s < until_s - 1e-6:
            self.now_s += self.tick_s
            running = self.ready_s is not None and self.now_s >= self.ready_s - 1e-3
            if running and not self.told:
                self.told = {"asked": 0.0, "busy_from_s": 0.0, "idle_from_s": self.now_s, "sleep_wanted": 0.0}
                self.told |= {"load_uj": 600e6, "warm_uj": 0.0, "idle_s": 0.0}
            if running:
                self.told["idle_s"] += self.tick_s
                self.told["warm_uj"] += self.tick_s * 70e6
            if waiting:
                continue
            wanted, _ = self.policy(self.context(running))
            if wanted and not self.target:
                self.up_s, self.ready_s = self.now_s, self.now_s + self.load_s
            if not wanted:
                self.ready_s, self.told = None, {}
            self.target = int(wanted)

    def context(self, running):
        replica = Replica(str(self.ready_s))
        metrics = {name: {replica: [SimpleNamespace(value=value)]} for name, value in self.told.items()}
        return AutoscalingContext(
            deployment_id="d",
            deployment_name="Model",
            app_name="m",
            current_num_replicas=int(running),
            target_num_replicas=self.target,
            running_replicas=[replica] if running else [],
            total_num_requests=float(self.ongoing),
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics=metrics if running else {},
            capacity_adjusted_min_replicas=0,
            capacity_adjusted_max_replicas=2,
            policy_state={},
            last_scale_up_time=self.up_s,
            last_scale_down_time=None,
            current_time=self.now_s,
            config=AutoscalingConfig(min_replicas=0, max_replicas=2, target_ongoing_requests=8),
        )

    def awake_for(self, most_s):
        """Seconds until it sleeps."""
        begun_s = self.now_s
        while self.target and self.now_s - begun_s < most_s:
            self.run(0.1)
        return self.now_s - begun_s


@pytest.fixture
def served():
    # so strong a prior that a gap or two do not move it
    return Served(KeepAlivePolicy(cold_price=0, first_break_even_s=20, prior_gaps=1000))


def test_before_anything_is_measured_it_stays_for_the_first_break_even(served):
    served.policy = KeepAlivePolicy(cold_price=0, first_break_even_s=2)
    served.ask()
    assert served.awake_for(60) == pytest.approx(2, rel=0.2)


def test_once_measured_it_stays_as_long_as_a_load_costs(served):
    # 600 J a load, 70 W warm: 8.6 s
    served.ask()
    served.awake_for(60)
    served.ask()
    assert served.awake_for(60) == pytest.approx(600 / 70, rel=0.25)


def test_work_keeps_it_awake_and_more_work_gets_it_another_replica(served):
    served.ask()
    served.ongoing = 1
    served.run(60)
    assert served.target == 1
    served.ongoing = 20
    wanted, _ = served.policy(served.context(running=True))
    assert wanted > 2


def test_a_model_that_is_told_to_sleep_does_at_once(served):
    served.ask()
    served.told["sleep_wanted"] = 1.0
    assert served.awake_for(60) < 0.5


def test_a_replica_on_its_way_is_not_called_back(served):
    served.target, served.up_s, served.ready_s = 1, served.now_s, served.now_s + 4
    served.run(3)
    assert served.target == 1


def test_asked_by_the_clock_it_is_loaded_ahead(served):
    served.policy, served.tick_s = KeepAlivePolicy(cold_price=3, first_break_even_s=20), 0.5
    for _ in range(12):
        served.ask()
        served.run(100)
    served.ask()
    served.run(97)
    assert served.target == 1
    assert served.now_s < served.ready_s + 20


def test_the_service_carries_it_by_value_with_its_settings():
    policy = cloudpickle.loads(AUTOSCALING.policy.get_serialized_policy_def())
    assert policy.__name__ == "KeepAlivePolicy"
    assert AUTOSCALING.downscale_to_zero_delay_s == 0
    with pytest.raises(ValueError, match="warm_for"):
        policy(warm_for=3)
