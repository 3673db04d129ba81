"""One source of intensity kept up: asked when it is time, within its quota, and left alone for a while when it fails.

Knows nothing of what comes first or of what the figures mean. What it hears goes to the store.

    kept = KeptSource("location:eia:CISO", "eia:CISO", make, store, clock, refresh_s=300)
    kept.refresh()                  # True if anything was asked; never raises
"""

from collections.abc import Callable
from datetime import UTC, datetime

from app.carbon.providers.base import DAY_NS, HOUR_NS, Answer, Provider
from app.carbon.slot_store import Look, SlotStore
from app.clock import Clock
from app.errors import Busy, JoulekeeperError, Unavailable
from app.units import NS_PER_S

RECENT, OLDER, FORECAST = "recent", "older", "forecast"

_FORECAST_EVERY = 4
"""Looks at what is new per look at the forecast."""
_OLDER_EVERY_NS, _OLDER_NS = DAY_NS, 10 * DAY_NS
"""How often older days are asked for again, and how many: EIA-930 and ENTSO-E are corrected for about a week."""
_REHEARSED_S = 60.0
"""Who looks more often than this is shown hours of seconds by a stand-in: its days are shorter, too."""
_LONGEST_PAUSE = 12
"""Looks left out at most while a source fails: an hour where it is every 5 minutes."""
_LATE_NS = 4 * HOUR_NS
"""A source whose newest slot ended before this is of no use now: EIA-930 and ENTSO-E are one to three hours late."""

Ask = Callable[[Provider, int], Answer]


class KeptSource:
    """One source of one meaning. Not thread-safe."""

    def __init__(
        self,
        key: str,
        label: str,
        make: Callable[[], Provider],
        store: SlotStore,
        clock: Clock,
        refresh_s: float,
    ) -> None:
        self.key, self.label = key, label
        self._make, self._store, self._clock = make, store, clock
        self._period_ns = round(refresh_s * NS_PER_S)
        self._scale = min(1.0, refresh_s / _REHEARSED_S)
        self._provider: Provider | None = None
        self.notes: tuple[str, ...] = ()
        """What the provider said beside its last figures."""

    @property
    def provider(self) -> Provider:
        """Built when first needed. Raises InvalidInput."""
        if self._provider is None:
            self._provider = self._make()
        return self._provider

    def refresh(self) -> bool:
        """Ask for what it is time for; True if anything was asked. What fails is noted, and `fault` tells it."""
        asked = self._look(RECENT, self._period_ns, lambda provider, now_ns: provider.recent(now_ns))
        if self.fault:
            return asked
        every_ns, reach_ns = (round(self._scale * ns) for ns in (_OLDER_EVERY_NS, _OLDER_NS))
        forecast = self._look(
            FORECAST, _FORECAST_EVERY * self._period_ns, lambda provider, now_ns: provider.forecast(now_ns)
        )
        older = self._look(OLDER, every_ns, lambda provider, now_ns: provider.history(now_ns - reach_ns, now_ns))
        return asked or forecast or older

    def fetch(self, start_ns: int, end_ns: int) -> None:
        """Ask for a period of the past. Raises what the provider raises."""
        answer = self._asked(lambda provider, now_ns: provider.history(start_ns, end_ns), self._clock.wall_ns())
        self._store.record(self.key, answer.slots, self._clock.wall_ns())

    @property
    def fault(self) -> str:
        """Why it cannot be asked for what is new; empty where it can."""
        look = self.last_look
        return look.fault if look else ""

    @property
    def last_look(self) -> Look | None:
        """The last look at what is new. Raises Unavailable."""
        return self._store.look(self.key, RECENT)

    @property
    def is_serving(self) -> bool:
        """Whether it answers, and with data of now."""
        newest_ns = self.newest_ns
        return not self.fault and newest_ns is not None and newest_ns >= self._clock.wall_ns() - _LATE_NS

    @property
    def newest_ns(self) -> int | None:
        """End of the newest slot that it told; None without any."""
        return self._store.newest_ns(self.key)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for people."""
        faults = {what: look for what in (RECENT, OLDER, FORECAST) if (look := self._store.look(self.key, what))}
        failing = tuple(
            f"{self.label} fails since {_minute(look.since_ns)}{_of(what)}: {look.fault}"
            for what, look in faults.items()
            if look.fault
        )
        return failing + tuple(f"{self.label}: {note}" for note in self.notes)

    def close(self) -> None:
        """Let go of connections."""
        if self._provider is not None:
            self._provider.close()

    def _look(self, what: str, every_ns: int, ask: Ask) -> bool:
        now_ns = self._clock.wall_ns()
        before = self._store.look(self.key, what)
        if before and before.at_ns <= now_ns < before.again_ns:
            return False
        if what == FORECAST and not self.provider.offers_forecast:
            return False
        fault, pause_ns = "", every_ns
        try:
            self._keep(what, self._asked(ask, now_ns), now_ns)
        except JoulekeeperError as error:
            fault, pause_ns = str(error), self._pause_ns(error, before, now_ns, every_ns)
        self._store.looked(self.key, what, now_ns, now_ns + pause_ns, fault)
        return True

    def _asked(self, ask: Ask, now_ns: int) -> Answer:
        try:
            return ask(self.provider, now_ns)
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            # A field that is not what is documented: no fault of a provider may stop who keeps the books.
            raise Unavailable(f"{self.label} cannot be understood: {type(error).__name__}: {error}") from error

    def _keep(self, what: str, answer: Answer, now_ns: int) -> None:
        if what == FORECAST:
            self._store.record_forecast(self.key, answer.slots, now_ns)
        else:
            self._store.record(self.key, answer.slots, now_ns)
        if what == RECENT:
            self.notes = answer.notes

    def _pause_ns(self, error: JoulekeeperError, before: Look | None, now_ns: int, every_ns: int) -> int:
        """How long to leave it alone: as it asks; long where a key is wrong; else as long as it has failed so far."""
        longest_ns = max(_LONGEST_PAUSE * self._period_ns, every_ns)
        if isinstance(error, Busy):
            return max(self._period_ns, round(error.retry_after_s * NS_PER_S))
        if not isinstance(error, Unavailable):
            return longest_ns
        failing_ns = now_ns - before.since_ns if before and before.fault else 0
        return min(longest_ns, max(self._period_ns, failing_ns))


def _of(what: str) -> str:
    return {RECENT: "", OLDER: " to tell of older days", FORECAST: " to forecast"}[what]


def _minute(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M UTC")
