"""What one process may still spend of its deployment's budget, and which variant answers whoever leaves that open.

Asks nobody: what the accountant said holds until it says something else (app/metering/spending_feed.py). Thread-safe;
microseconds. A process that has just begun answers on credit; one that has not heard for a minute whether anything is
left refuses.

    purse = Purse("digits", rules, offered, clock)
    variant = purse.choose()                            # raises OverQuota, Unavailable
    purse.charge(variant, energy_uj, carbon_ugco2e, steered=True)       # after the answer
"""

import threading
from collections.abc import Sequence

from app.clock import Clock
from app.engine.spending_words import Counted, Offered, SpendingPoll, Told
from app.errors import OverQuota, Unavailable
from app.policy.spending import SpendingRules
from app.units import NS_PER_S

CREDIT_S, SILENT_S = 10.0, 60.0
_AGAIN_S = 2.0


class Purse:
    """Of one process."""

    def __init__(self, model: str, rules: SpendingRules, offered: Sequence[Offered], clock: Clock) -> None:
        self.model, self.rules = model, rules
        self._offered, self._clock = tuple(offered), clock
        self._counted: dict[str, Counted] = {}
        self._refused = 0
        self._told: Told | None = None
        self._heard_s = self._born_s = self._now_s()
        self._turns: dict[str, float] = {}
        self._since: tuple[int, float] = 0, 0.0
        """Energy and carbon of all answers when it polled last."""
        self._polled: tuple[int, float] = 0, 0.0
        self._lock = threading.Lock()

    @property
    def why(self) -> str:
        """Of what is chosen now, in a few words."""
        return self._told.why if self._told else "nothing is known yet"

    @property
    def is_spent(self) -> bool:
        """Whether everybody is refused until the day ends."""
        told = self._told
        return told is not None and told.spent and self._now_s() < told.ends_s

    def check(self) -> None:
        """Raises OverQuota where nothing is left, Unavailable where that cannot be found out."""
        with self._lock:
            self._check()

    def choose(self) -> str:
        """The variant whose turn it is, by the shares that hold. Raises as `check`."""
        with self._lock:
            self._check()
            return self._next()

    def charge(self, version: str, energy_uj: int, carbon_ugco2e: float, steered: bool = False) -> None:
        """Count one answer by its receipt; `steered`: `choose` said who gives it."""
        with self._lock:
            counted = self._counted.get(version, Counted())
            self._counted[version] = Counted(
                counted.answers + 1,
                counted.steered + (steered or len(self._offered) == 1),
                counted.energy_uj + energy_uj,
                counted.carbon_ugco2e + carbon_ugco2e,
            )

    # The feed's side

    def poll(self, who: str) -> SpendingPoll:
        """What to tell the accountant."""
        with self._lock:
            self._polled = self._totals()
            return SpendingPoll(who, self.model, self.rules, self._offered, dict(self._counted), self._refused)

    def renew(self, told: Told) -> None:
        """Take what the accountant answered."""
        with self._lock:
            self._told, self._heard_s = told, self._now_s()
            self._since = self._polled

    def _check(self) -> None:
        told, now_s = self._told, self._now_s()
        if told is None:
            if now_s - self._born_s > CREDIT_S:
                raise Unavailable(f"what {self.model} has left of its budget is not known yet; try again in a moment")
            return
        if now_s >= told.ends_s:
            return  # another day; what it begins with comes with the next answer
        if told.spent:
            self._refused += 1
            wait_s = max(1.0, told.ends_s - now_s)
            message = f"{self.model} has used up its budget of {self.rules.budget}; come again in {wait_s:.0f} s"
            raise OverQuota(message, wait_s, True)
        if now_s - self._heard_s > SILENT_S:
            raise Unavailable(f"what {self.model} has left of its budget cannot be found out now; try again")
        energy_uj, carbon_ug = self._totals()
        over_energy = told.left_uj is not None and energy_uj - self._since[0] >= told.left_uj
        over_carbon = told.left_ugco2e is not None and carbon_ug - self._since[1] >= told.left_ugco2e
        if over_energy or over_carbon:
            self._refused += 1
            raise OverQuota(
                f"{self.model} is at the end of its budget of {self.rules.budget}; come again in {_AGAIN_S:.0f} s",
                _AGAIN_S,
            )

    def _next(self) -> str:
        """Smooth weighted turns: however short a stretch, its shares are those asked for within one answer."""
        shares = self._told.shares if self._told else {}
        if not shares:
            return max(self._offered, key=lambda each: each.quality or 0.0).name
        self._turns = {name: self._turns.get(name, 0.0) + share for name, share in shares.items()}
        name = max(self._turns, key=lambda each: self._turns[each])
        self._turns[name] -= 1
        return name

    def _totals(self) -> tuple[int, float]:
        counted = self._counted.values()
        return sum(each.energy_uj for each in counted), sum(each.carbon_ugco2e for each in counted)

    def _now_s(self) -> float:
        return self._clock.wall_ns() / NS_PER_S
