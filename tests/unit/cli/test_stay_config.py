"""How long a model stays is read from every kind of config, and the change that is written is read back as meant."""

from typing import Any

import pytest

from app.cli.config_patch import patched
from app.cli.stay_config import stay_of
from app.policy.keepalive import KeepAliveSettings

KEEP_ALIVE = "app.serving.autoscale:KeepAlivePolicy"
OBJECTIVES = "app.serving.objectives:ObjectivePolicy"


def policy(function: str, **kwargs: Any) -> dict[str, Any]:
    return {"policy_function": function, "policy_kwargs": kwargs}


@pytest.mark.parametrize(
    ("config", "autoscaling", "now"),
    [
        ({}, None, "always loaded"),
        ({}, {"min_replicas": 1, "policy": policy(KEEP_ALIVE)}, "always loaded"),
        ({}, {"min_replicas": 0, "downscale_delay_s": 30}, "30 s"),
        ({}, {"min_replicas": 0, "downscale_delay_s": 30, "downscale_to_zero_delay_s": 5}, "5 s"),
        ({}, {"min_replicas": 0, "policy": policy(KEEP_ALIVE, longest_s=30)}, "learnt, 30 s at most"),
        ({}, {"min_replicas": 0, "policy": policy(KEEP_ALIVE)}, "learnt, 900 s at most"),
        (
            {"autoscaling_policy": policy(OBJECTIVES, latency_p95_ms=200, keep_alive={"longest_s": 300})},
            {"min_replicas": 0, "policy": policy("ray.serve.autoscaling_policy:default_autoscaling_policy")},
            "learnt, 300 s at most",
        ),
    ],
)
def test_what_a_config_says_is_read(config: dict[str, Any], autoscaling: dict[str, Any] | None, now: str) -> None:
    assert str(stay_of(config, autoscaling, "Model").now) == now


def test_a_policy_of_somebody_elses_is_not_judged() -> None:
    assert "mine:Policy decides" in stay_of({}, {"min_replicas": 0, "policy": policy("mine:Policy")}, "Model").refusal


def test_the_change_is_read_back_as_the_learnt_policy_and_keeps_the_rest() -> None:
    auto = {"min_replicas": 1, "max_replicas": 4, "downscale_delay_s": 30.0}
    config = {"name": "m", "deployments": [{"name": "Model", "autoscaling_config": auto}]}
    changed = patched(config, stay_of(config, auto, "Model").change(1200.0))
    new = changed["deployments"][0]["autoscaling_config"]
    assert (new["max_replicas"], new["min_replicas"]) == (4, 0)
    assert str(stay_of(changed, new, "Model").now) == "learnt, 1200 s at most"


def test_the_change_of_an_applications_policy_leaves_its_objectives_alone() -> None:
    config = {"name": "m", "autoscaling_policy": policy(OBJECTIVES, latency_p95_ms=200, keep_alive={"longest_s": 3})}
    auto = {"min_replicas": 0, "max_replicas": 4}
    changed = patched(config, stay_of(config, auto, "Model").change(12.0))
    assert changed["autoscaling_policy"] == policy(OBJECTIVES, latency_p95_ms=200, keep_alive={"longest_s": 900.0})
    assert "policy" not in changed["deployments"][0]["autoscaling_config"]


def test_the_defaults_are_those_of_the_policy() -> None:
    now = stay_of({}, {"min_replicas": 0, "policy": policy(KEEP_ALIVE)}, "Model").now
    defaults = KeepAliveSettings()
    assert (now.seconds, now.cold_price) == (defaults.longest_s, defaults.cold_price)
