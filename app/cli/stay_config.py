"""How long the last replica of a model stays, as a Serve config has it, and the change that has it stay otherwise.

Knows nothing of what it should be (app/policy/advice_standby.py). A policy of the whole application stands in the place
of its deployments' (app/serving/objectives.py); what it says of keep-alive is what the policy of a deployment says.

    stay = stay_of(config, autoscaling)
    stay.now, stay.change(12.5), stay.refusal
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from app.policy.advice_standby import StayNow

_POLICY = "app.serving.autoscale:KeepAlivePolicy"
_OF_APPLICATION = "app.serving.objectives:ObjectivePolicy"
_LONGEST_S, _COLD_PRICE = 900.0, 0.5  # of KeepAliveSettings
_SERVES_DELAY_S = 600.0
_KEPT_KEYS = (
    "min_replicas",
    "max_replicas",
    "target_ongoing_requests",
    "upscale_delay_s",
    "downscale_delay_s",
    "look_back_period_s",
    "metrics_interval_s",
)


@dataclass(frozen=True, slots=True)
class Stay:
    """Of one application with one model."""

    now: StayNow
    deployment: str
    autoscaling: Mapping[str, Any]
    kwargs: Mapping[str, Any]
    """Of the keep-alive policy in force."""
    of_application: bool
    refusal: str = ""
    """Why nothing is known of it."""

    def change(self, seconds: float) -> dict[str, JsonValue]:
        """What has it learn, and stay so many seconds where that is best."""
        own: dict[str, JsonValue] = {**self.kwargs, "longest_s": max(_LONGEST_S, round(seconds, 1))}
        kept = {key: self.autoscaling[key] for key in _KEPT_KEYS if self.autoscaling.get(key) is not None}
        config: dict[str, JsonValue] = {**kept, "min_replicas": 0, "downscale_to_zero_delay_s": 0}
        if not self.of_application:
            config["policy"] = {"policy_function": _POLICY, "policy_kwargs": own}
        changed: dict[str, JsonValue] = {"autoscaling_config": config, "num_replicas": None}
        change: dict[str, JsonValue] = {"deployments": {self.deployment: changed}}
        if self.of_application:
            change["autoscaling_policy"] = {"policy_kwargs": {"keep_alive": own}}
        return change


def stay_of(config: Mapping[str, Any], autoscaling: Mapping[str, Any] | None, deployment: str) -> Stay:
    """`config` of the application, `autoscaling` in force for its deployment; None: a fixed number of replicas."""
    auto, whole = autoscaling or {}, config.get("autoscaling_policy") or {}
    policy = whole or auto.get("policy") or {}
    function, kwargs = str(policy.get("policy_function", "")), policy.get("policy_kwargs") or {}
    if whole:
        kwargs = kwargs.get("keep_alive") or {}
    learnt = function in (_POLICY, _OF_APPLICATION)
    now, refusal = StayNow("always", 0.0), ""
    if autoscaling is None or auto.get("min_replicas"):
        pass
    elif learnt:
        now = StayNow("learnt", kwargs.get("longest_s", _LONGEST_S), kwargs.get("cold_price", _COLD_PRICE))
    elif function.startswith("ray.serve") or function in ("", "default"):
        delay_s = auto.get("downscale_to_zero_delay_s")
        now = StayNow("delay", float(auto.get("downscale_delay_s", _SERVES_DELAY_S) if delay_s is None else delay_s))
    else:
        now, refusal = StayNow("delay", 0.0), f"{function} decides, and nothing is known of it"
    return Stay(now, deployment, auto, kwargs if learnt else {}, bool(whole), refusal)
