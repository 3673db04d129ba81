"""How many replicas a deployment has: what its load needs, more while answers are late, fewer while the grid is dirty.

Pure; time and figures come in. Knows nothing of Serve. Whether it sleeps is keepalive.py's business; this is about more
than one.

    keeper = ReplicaKeeper(ReplicaRules(latency_p95_ms=200, caps={400: 2}))
    keeper.wanted(needed=3, current=2, seen=Seen(g_per_kwh=450), now_s=now_s)       # (2, "450 gCO2e/kWh: 2 at most...")

A cap yields to people: by a date until which it is lifted, or for as long as answers take longer than `caps_yield_ms`.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

_SETTLE_S = 10.0
"""Another replica shows in the latency only after it has come: one more at a time."""
_RELAXED = 0.6
"""Below this share of the objective a replica may go that the load does not need."""
_BACK = 0.95
"""A cap holds until the intensity is this far below its bound, lest replicas come and go with every revision."""

Replicas = Annotated[int, Field(ge=1)]
Bound = Annotated[float, Field(gt=0)]


class ReplicaRules(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_p95_ms: float | None = Field(default=None, gt=0)
    """From the first byte of a request to its answer, for 95 % of the newest: while it is exceeded, another replica
    comes every ten seconds. None: the load alone decides."""
    caps: dict[Bound, Replicas] = Field(default_factory=dict)
    """Most replicas above so many gCO2e/kWh, PUE included: `{300: 3, 500: 1}`."""
    caps_yield_ms: float | None = Field(default=None, gt=0)
    """Caps do not hold while the p95 is above it. None: they always do."""
    caps_lifted_until: AwareDatetime | None = None
    """Caps do not hold before: a time with its zone, deployed by who knows better."""

    @model_validator(mode="after")
    def _caps_fall(self) -> Self:
        counts = [self.caps[bound] for bound in sorted(self.caps)]
        if counts != sorted(counts, reverse=True):
            raise ValueError(f"caps must allow fewer replicas the dirtier the grid is, got {dict(self.caps)}")
        return self


@dataclass(frozen=True, slots=True)
class Seen:
    """What replicas told last; None: nothing."""

    p95_ms: float | None = None
    g_per_kwh: float | None = None
    is_spent: bool = False
    """Of the day's budget nothing is left: nobody is answered."""


class ReplicaKeeper:
    """Of one deployment."""

    def __init__(self, rules: ReplicaRules) -> None:
        self._rules = rules
        self._raised_s = -math.inf
        self._bound: float | None = None

    def wanted(self, needed: float, current: int, seen: Seen, now_s: float) -> tuple[int, str]:
        """How many, and why; `needed` by the load alone, `now_s` Unix seconds. At least one."""
        number, why = max(1, math.ceil(needed - 1e-9)), "the load"
        if seen.is_spent:
            return 1, "the budget of the day is spent"
        objective = self._rules.latency_p95_ms
        if objective is not None and seen.p95_ms is not None:
            number, why = self._in_time(number, why, current, seen.p95_ms, objective, now_s)
        cap = self._cap(seen.g_per_kwh)
        if cap is None or number <= cap:
            return number, why
        until = self._rules.caps_lifted_until
        if until is not None and now_s < until.timestamp():
            return number, f"{why}; caps are lifted until {until.isoformat()}"
        bound_ms = self._rules.caps_yield_ms
        if bound_ms is not None and seen.p95_ms is not None and seen.p95_ms > bound_ms:
            return number, f"{why}; the cap of {cap} yields: p95 is {seen.p95_ms:.0f} ms, more than {bound_ms:g}"
        return cap, f"{seen.g_per_kwh:.0f} gCO2e/kWh: {cap} at most, {number} wanted by {why}"

    def _in_time(
        self, number: int, why: str, current: int, p95_ms: float, objective_ms: float, now_s: float
    ) -> tuple[int, str]:
        if p95_ms > objective_ms:
            if now_s - self._raised_s < _SETTLE_S:
                return max(number, current), why
            self._raised_s = now_s
            late = f"p95 is {p95_ms:.0f} ms, more than {objective_ms:g}"
            return (current + 1, late) if current + 1 > number else (number, why)
        if p95_ms > _RELAXED * objective_ms and current > number:
            return current, f"p95 is {p95_ms:.0f} ms, near {objective_ms:g}"
        return number, why

    def _cap(self, g_per_kwh: float | None) -> int | None:
        """Of the highest bound that is exceeded; the one that holds is let go a little below it."""
        if g_per_kwh is None:
            return None
        held = self._bound
        exceeded = [
            bound for bound in self._rules.caps if g_per_kwh > (bound * _BACK if held and bound <= held else bound)
        ]
        self._bound = max(exceeded, default=None)
        return None if self._bound is None else self._rules.caps[self._bound]
