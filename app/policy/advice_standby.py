"""Advice on how long a model stays loaded when nobody asks: by gaps that were seen, and what staying and loading cost.

Pure. Knows nothing of replicas or Serve.

    advise_keep_alive(StayNow("delay", 60.0), gaps_s, Standby(load_j=8.0, warm_w=1.2, sleeps=1), change)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from app.domain.decision import Course, Fact, Saving
from app.policy.advice import STANDBY, WORTH, Advice, percent, settled, unknown
from app.policy.gaps import EDGES_S

_FEW_GAPS = 10
_FORGIVEN_LOADS = 0.5
"""What one request that need not wait is worth, in loads: as KeepAliveSettings.cold_price is by default."""
_UNMEASURED = "its load and its staying are not measured: ask it a few requests with a meter running, then ask again"


@dataclass(frozen=True, slots=True)
class StayNow:
    """How long the last replica stays when nobody asks, as the config has it."""

    kind: str
    """`learnt` (KeepAlivePolicy), `delay` (Serve's own), `always` (never fewer than one)."""
    seconds: float
    """`learnt`: at most so long; `delay`: so long; `always`: has no meaning."""
    cold_price: float = _FORGIVEN_LOADS

    def __str__(self) -> str:
        if self.kind == "always":
            return "always loaded"
        return f"learnt, {self.seconds:g} s at most" if self.kind == "learnt" else f"{self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Standby:
    """What one replica measured of itself over its life."""

    load_j: float
    """Of its one load."""
    warm_w: float
    """While loaded and not asked."""
    sleeps: int
    """Gaps that outlasted its life: 1 where the model sleeps, 0 where it always stays."""


Change = Callable[[float], Mapping[str, JsonValue]]
"""What has to be written for a model to stay so many seconds."""


def advise_keep_alive(now: StayNow, gaps_s: Sequence[float], standby: Standby | None, change: Change) -> Advice:
    """How long a model should stay when nobody asks. `gaps_s` are the gaps between visits that were seen.

    Staying costs warm power, a gap that outlasts the delay a load, and who waits for it `cold_price` loads more; the
    delay with the least of that over the gaps is what the learnt policy comes to.
    """
    name = str(now)
    if standby is None or standby.warm_w <= 0 or standby.load_j <= 0:
        return unknown("keep-alive", name, _UNMEASURED, of=STANDBY)
    break_even_s, facts = standby.load_j / standby.warm_w, _facts(standby, gaps_s)
    if len(gaps_s) < _FEW_GAPS:
        todo = f"{len(gaps_s)} gaps were seen, {_FEW_GAPS} are needed: let it serve on; break-even {break_even_s:.3g} s"
        return unknown("keep-alive", name, todo, of=STANDBY, facts=facts)
    stay = _Stay(np.asarray(gaps_s), standby, now.cold_price)
    best_s = float(min(EDGES_S, key=stay.priced))
    present_s = {"always": np.inf, "delay": now.seconds}.get(now.kind, min(now.seconds, best_s))
    before_j, after_j = stay.joules(present_s), stay.joules(best_s)
    share = 1 - after_j / before_j if before_j > 0 else 0.0
    courses = (
        Course(name=f"keep-alive {name}", energy_j=before_j),
        Course(name=f"keep-alive {best_s:.3g} s", energy_j=after_j),
    )
    if share < WORTH:
        why = f"its {len(gaps_s)} gaps ask for about {best_s:.3g} s; a change would save {percent(max(share, 0.0))}"
        return settled("keep-alive", name, why, of=STANDBY, basis="modelled", facts=facts, courses=courses)
    reason = f"a load costs as much as {break_even_s:.3g} s of staying; over {len(gaps_s)} gaps that were seen "
    reason += f"{best_s:.3g} s cost {after_j:.4g} J instead of {before_j:.4g} J"
    return Advice(
        setting="keep-alive",
        now=name,
        proposed=f"learnt, about {best_s:.3g} s",
        of=STANDBY,
        saving=Saving(share=share, energy_j=before_j - after_j, basis="modelled", against=name),
        reasons=(reason,),
        facts=facts,
        courses=courses,
        change=dict(change(best_s)),
    )


def _facts(standby: Standby, gaps_s: Sequence[float]) -> tuple[Fact, ...]:
    return (
        Fact(name="load", value=standby.load_j, unit="J", source="its replica"),
        Fact(name="staying", value=standby.warm_w, unit="W", source="its replica"),
        Fact(name="break-even", value=standby.load_j / standby.warm_w, unit="s", basis="modelled"),
        Fact(name="gaps", value=float(len(gaps_s)), source="its replica"),
    )


class _Stay:
    """What a delay would have cost over gaps that were seen."""

    def __init__(self, gaps_s: "np.ndarray[tuple[int], np.dtype[np.float64]]", standby: Standby, price: float) -> None:
        self._gaps_s, self._standby, self._price = gaps_s, standby, price

    def joules(self, delay_s: float) -> float:
        """Of staying and of loading."""
        stays_s = float(np.minimum(self._gaps_s, delay_s).sum())
        ends_s = delay_s if np.isfinite(delay_s) else 0.0
        return self._standby.warm_w * (stays_s + self._standby.sleeps * ends_s) + self._standby.load_j * self._loads(
            delay_s
        )

    def priced(self, delay_s: float) -> float:
        """The same, with a price on those who wait."""
        return self.joules(delay_s) + self._price * self._standby.load_j * self._loads(delay_s)

    def _loads(self, delay_s: float) -> int:
        return int((self._gaps_s > delay_s).sum()) + self._standby.sleeps
