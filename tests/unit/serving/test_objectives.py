"""The application's policy: keep-alive as it was, and on top of it latency, caps and budget, by what replicas tell."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from ray import cloudpickle
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from app.serving.objectives import ObjectivePolicy

NOW_S = 1_800_000_000.0


@dataclass(frozen=True)
class Replica:
    unique_id: str


def context(now_s=NOW_S, ongoing=1.0, replicas=1, **told):
    known = {"asked": 5.0, "busy_from_s": now_s - 1, "idle_from_s": 0.0, "idle_s": 0.0, "sleep_wanted": 0.0}
    known |= {"load_uj": 1.0, "warm_uj": 0.0, "p95_ms": 50.0, "g_per_kwh": 100.0, "budget_spent": 0.0} | told
    names = [Replica(str(number)) for number in range(replicas)]
    metrics = {name: {each: [SimpleNamespace(value=value)] for each in names} for name, value in known.items()}
    return AutoscalingContext(
        deployment_id="d",
        deployment_name="Model",
        app_name="m",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=names,
        total_num_requests=ongoing,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics=metrics,
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=4,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now_s,
        config=AutoscalingConfig(min_replicas=0, max_replicas=4, target_ongoing_requests=2),
    )


def decided(policy, ctx):
    wanted, states = policy({"d": ctx})
    return wanted["d"], states["d"].get("replicas_because", "")


def test_late_answers_bring_a_replica_and_a_dirty_grid_takes_it():
    policy = ObjectivePolicy(latency_p95_ms=100, caps={400: 1})
    assert decided(policy, context(p95_ms=150.0)) == (2.0, "p95 is 150 ms, more than 100")
    number, why = decided(policy, context(NOW_S + 20, p95_ms=150.0, g_per_kwh=450.0))
    assert (number, why.startswith("450 gCO2e/kWh: 1 at most")) == (1.0, True)


def test_the_load_still_decides_below_that():
    # nine at a time, two for each replica
    assert decided(ObjectivePolicy(latency_p95_ms=100), context(ongoing=9.0))[0] == 5.0


def test_the_latency_of_answers_that_are_long_over_brings_nobody():
    policy = ObjectivePolicy(latency_p95_ms=100)
    policy({"d": context(p95_ms=50.0)})
    assert decided(policy, context(NOW_S + 20, ongoing=0.0, p95_ms=150.0, idle_from_s=NOW_S))[0] <= 1.0


def test_it_sleeps_as_keep_alive_has_it():
    policy = ObjectivePolicy(keep_alive={"longest_s": 10})
    assert decided(policy, context())[0] == 1.0
    asleep = context(NOW_S + 100, ongoing=0.0, idle_from_s=NOW_S + 1, busy_from_s=NOW_S)
    assert decided(policy, asleep)[0] == 0


def test_it_travels_to_the_controller_and_mistakes_are_told_when_it_is_made():
    policy = cloudpickle.loads(cloudpickle.dumps(ObjectivePolicy(caps={400: 1})))
    assert decided(policy, context(ongoing=9.0, g_per_kwh=500.0))[0] == 1.0
    with pytest.raises(ValidationError, match="latency"):
        ObjectivePolicy(latency_ms=5)
    with pytest.raises(ValidationError):
        ObjectivePolicy(keep_alive={"longest": 5})
