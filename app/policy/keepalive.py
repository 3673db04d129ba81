"""How long a model that nobody asks stays warm, and whether it is loaded again before it is asked.

Pure: time comes in with what happened. Knows nothing of replicas. Keeping a model warm for the break-even (load energy
/ warm power) and no longer never costs more than twice the best; what is learnt of the gaps of this model
does better. A request that finds no loaded model waits for the load: it is cold, and so are those that come meanwhile.

    keeper = KeepAlive(KeepAliveSettings())
    keeper.measured_load(energy_j=3300, seconds=22)
    keeper.measured_warm(power_w=70)
    keeper.visited(Visit(begun_s, ended_s, requests=3, cold=1))
    plan = keeper.plan()
    plan.awake(now_s), plan.reason

The price of cold requests is what makes a model stay longer than energy alone would: the same price for all models
gives the fewest cold requests for a given energy. The bound on cold starts holds whatever is learnt.
"""

from collections import deque
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from app.policy.gaps import GapHistory
from app.policy.prewarm import Window, best_window

_HOUR_S = 3600.0
_MEASURED_GAIN = 0.1
_RELEARN = 1.1  # times as many gaps, or a break-even so much longer or shorter
_LOOK_EVERY = 8  # long gaps
_LONGEST_BREAK_EVEN_S = 1e6


class KeepAliveSettings(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cold_price: float = Field(default=0.5, ge=0)
    """What it is worth that one request need not wait, in loads of its model. 0: energy alone decides."""
    max_cold_starts_per_hour: int = Field(default=30, ge=1)
    """In no hour is a model loaded more often because it was put to sleep; it stays warm instead."""
    longest_s: float = Field(default=900.0, gt=0)
    """After this long it leaves memory though staying were cheaper, unless the bound on cold starts keeps it."""
    first_break_even_s: float = Field(default=60.0, gt=0)
    """Stands for the break-even until the energy of a load and the power of staying are measured."""
    prior_gaps: float = Field(default=4.0, ge=0)
    """How many gaps the break-even rule weighs against the measured ones."""
    pooled_gaps: float = Field(default=20.0, ge=0)
    """How many gaps all of the model's weigh against those that began alike."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The model was asked and worked over [begun_s, ended_s]; the load it had to wait for, if any, is part of it."""

    begun_s: float
    ended_s: float
    requests: int = 1
    cold: int = 0
    """Requests that waited for a load."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Until the next visit: awake until `sleep_at_s`, and again from `wake_at_s` until `sleep_again_s`."""

    idle_from_s: float
    delay_s: float
    """What the gaps and the price of cold requests advise."""
    sleep_at_s: float
    wake_at_s: float | None
    sleep_again_s: float | None
    break_even_s: float

    def awake(self, now_s: float) -> bool:
        """Whether the model should be loaded, or loading, at `now_s`."""
        if now_s < self.sleep_at_s:
            return True
        return (
            self.wake_at_s is not None
            and self.sleep_again_s is not None
            and self.wake_at_s <= now_s < self.sleep_again_s
        )

    @property
    def reason(self) -> str:
        """Why, for people."""
        stays_s = self.sleep_at_s - self.idle_from_s
        told = f"asleep {stays_s:.3g} s after the last request (break-even {self.break_even_s:.3g} s"
        if self.sleep_at_s > self.idle_from_s + self.delay_s:
            told += f"; {self.delay_s:.3g} s by its gaps, longer by the bound on cold starts or the next visit due"
        else:
            told += "; by its gaps"
        if self.wake_at_s is None or self.sleep_again_s is None:
            return told + ")"
        return (
            f"{told}), loaded again after {self.wake_at_s - self.idle_from_s:.3g} s, when a visit is due, "
            f"until {self.sleep_again_s - self.idle_from_s:.3g} s"
        )


class KeepAlive:
    """Learns one model."""

    def __init__(self, settings: KeepAliveSettings) -> None:
        self._settings = settings
        self._gaps = GapHistory()
        self._load_j: float | None = None
        self._load_s: float | None = None
        self._warm_w: float | None = None
        self._ended_s: float | None = None
        self._waiters = 1.0
        self._cold_starts_s: deque[float] = deque(maxlen=settings.max_cold_starts_per_hour)
        self._learnt: dict[int, tuple[float, float]] = {}
        """By context: until how many gaps were seen, and the delay."""
        self._learnt_load_s = 1.0
        self._window: Window | None = None
        self._look_again_at = _LOOK_EVERY

    @property
    def break_even_s(self) -> float:
        """Seconds of staying warm that cost as much as one load."""
        if self._load_j is None or self._warm_w is None:
            return self._settings.first_break_even_s
        return self._load_j / max(self._warm_w, self._load_j / _LONGEST_BREAK_EVEN_S)

    def measured_load(self, energy_j: float | None, seconds: float) -> None:
        """A load is over that took `seconds`; None: its energy is not known."""
        self._load_s = _mean(self._load_s, seconds)
        if energy_j:
            self._load_j = _mean(self._load_j, energy_j)

    def measured_warm(self, power_w: float) -> None:
        """Power of the model while loaded and not asked."""
        self._warm_w = _mean(self._warm_w, power_w)

    def visited(self, visit: Visit) -> None:
        """A visit is over, or still going on and reported as far as it went; visits come in order."""
        if self._ended_s is not None and visit.begun_s > self._ended_s:
            self._gaps.add(visit.begun_s - self._ended_s, self.break_even_s)
        self._ended_s = max(visit.ended_s, self._ended_s or visit.ended_s)
        if visit.cold:
            self._waiters = _mean(self._waiters, visit.cold)
            self._cold_starts_s.append(visit.begun_s)

    def plan(self) -> Plan:
        """What to do until the next visit. Raises ValueError before the first one."""
        if self._ended_s is None:
            raise ValueError("there is nothing to plan before the first visit; report it with `visited`")
        delay_s, window = self._delay_s(), self._due()
        sleep_at_s = self._ended_s + delay_s
        if len(self._cold_starts_s) == self._cold_starts_s.maxlen:
            sleep_at_s = max(sleep_at_s, self._cold_starts_s[0] + _HOUR_S)
        if window is None or self._ended_s + window.ready_after_s <= sleep_at_s:
            return Plan(self._ended_s, delay_s, sleep_at_s, None, None, self.break_even_s)
        wake_at_s = self._ended_s + window.ready_after_s - (self._load_s or 0.0)
        until_s = self._ended_s + window.until_s
        if wake_at_s <= sleep_at_s:
            # There would be no time to sleep between.
            return Plan(self._ended_s, delay_s, until_s, None, None, self.break_even_s)
        return Plan(self._ended_s, delay_s, sleep_at_s, wake_at_s, until_s, self.break_even_s)

    def _delay_s(self) -> float:
        """The best delay now, learnt again when there is enough to learn from."""
        load_s, context, seen = self.break_even_s, self._gaps.context, self._gaps.seen
        if not 1 / _RELEARN <= load_s / self._learnt_load_s <= _RELEARN:
            self._learnt.clear()
            self._learnt_load_s = load_s
        until, delay_s = self._learnt.get(context, (0.0, 0.0))
        if seen >= until:
            price_s = self._settings.cold_price * load_s * self._waiters
            delay_s = self._gaps.best_delay_s(load_s, price_s, self._settings.prior_gaps, self._settings.pooled_gaps)
            delay_s = min(delay_s, self._settings.longest_s)
            self._learnt[context] = seen * _RELEARN + 1, delay_s
        return delay_s

    def _due(self) -> Window | None:
        """When the next visit is due, if loading ahead of it pays."""
        if self._gaps.long_seen >= self._look_again_at:
            self._look_again_at = self._gaps.long_seen + _LOOK_EVERY
            price_s = self._settings.cold_price * self.break_even_s * self._waiters
            self._window = best_window(self._gaps.long_gaps_s, self.break_even_s, price_s)
        return self._window


def _mean(known: float | None, value: float) -> float:
    return value if known is None else known + _MEASURED_GAIN * (value - known)
