"""The cluster's grid: series of each meaning, put together from sources in order of fallback and kept up to date.

Knows nothing of Ray. Reading is quick and never fails; `refresh` asks providers and belongs on a thread of its own. The
processes of a host share what was said by one file, so that one of them refreshing is enough.

    grid = open_grid(settings().grid, SystemClock())
    grid.average().intensity_at(wall_ns)            # a snapshot, GridSeries[LocationAverage]
    grid.refresh()                                  # what is due, within quotas; blocks on the network, never raises
    grid.revisions(start_ns, end_ns)                # which hours were told anew, with which figures

A slot is the first source's that has one for that time. A source is asked when those before it fail or are late.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.carbon.chain import Chain
from app.carbon.coefficients import coefficients
from app.carbon.grid_settings import GridSettings
from app.carbon.intensity import LocationAverage, Marginal, MarketBased, Meaning
from app.carbon.kept_source import KeptSource
from app.carbon.providers.fuel_mix import fuel_factors
from app.carbon.providers.registry import PROVIDERS, Source
from app.carbon.series import GridSeries
from app.carbon.slot_store import PastForecast, Revision, SlotStore
from app.carbon.zones import find_zone
from app.clock import Clock
from app.errors import JoulekeeperError, NotFound, Unavailable
from app.units import NS_PER_S

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How one source is doing."""

    meaning: str
    label: str
    newest_ns: int | None
    """End of the newest slot; None without any."""
    asked_ns: int | None
    """The last look at what is new."""
    requests: int
    """Made within the quota's window."""
    quota: str
    """For people; empty where nothing is asked over a network."""
    fault: str


def open_grid(settings: GridSettings, clock: Clock) -> "Grid":
    """The grid that settings mean; the file is opened when first needed. Raises InvalidInput."""
    return Grid(settings, clock, SlotStore(settings.cache) if settings.cache else None)


class Grid:
    """All series of one zone. Thread-safe; one thread at a time refreshes."""

    def __init__(self, settings: GridSettings, clock: Clock, store: SlotStore | None) -> None:
        self._settings, self._clock, self._store = settings, clock, store
        zone = find_zone(settings.zone)
        self._average = Chain(LocationAverage, zone, settings.sources(LocationAverage))
        self._marginal = Chain(Marginal, zone, settings.sources(Marginal))
        self._market = Chain(MarketBased, zone, settings.sources(MarketBased))
        if store:
            factors = fuel_factors(coefficients(settings.coefficients))
            for chain in self._chains:
                chain.kept = tuple(self._kept(source, chain.name, store, factors) for source in chain.asked)
        self._refreshing, self._reading = threading.Lock(), threading.Lock()
        self._fault = ""

    # Reading

    def average(self) -> GridSeries[LocationAverage]:
        """What the grid emits on average, by the location-based method."""
        return self._read(self._average)  # type: ignore[return-value]  # a zone always has a yearly figure

    def marginal(self) -> GridSeries[Marginal] | None:
        """What one more kWh makes it emit; None where no source is named, or none has ever told anything."""
        return self._read(self._marginal)

    def market(self) -> GridSeries[MarketBased] | None:
        """What contracts attribute; None where no source is named."""
        return self._read(self._market) if self._market.is_configured else None

    def revisions(self, start_ns: int, end_ns: int, seen_since_ns: int = 0) -> tuple[Revision, ...]:
        """Of the location-based average: slots that begin in the period and were told anew since then."""
        found = self._of_each(self._average, lambda store, key: store.revisions(key, start_ns, end_ns, seen_since_ns))
        return tuple(sorted(found, key=lambda revision: (revision.start_ns, revision.seen_ns)))

    def past_forecasts(self, start_ns: int, end_ns: int) -> tuple[PastForecast, ...]:
        """What was expected of slots that begin in the period, of the first source that ever forecast."""
        return self._of_each(self._average, lambda store, key: store.past_forecasts(key, start_ns, end_ns), first=True)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at, a sentence each."""
        try:
            found = tuple(warning for chain in self._chains for kept in chain.kept for warning in kept.warnings)
        except Unavailable as error:
            return (str(error),)
        return (*found, self._fault) if self._fault else found

    def sources(self) -> tuple[SourceStatus, ...]:
        """Every source that is asked, in order of fallback. Raises Unavailable."""
        return tuple(self._status(chain, kept) for chain in self._chains for kept in chain.kept)

    # Asking

    def refresh(self) -> bool:
        """Ask for what it is time for; True if anybody was asked. Returns at once where another thread is at it."""
        if not self._refreshing.acquire(blocking=False):
            return False
        try:
            asked = [self._refresh(chain) for chain in self._chains]
            self._fault = ""
            return any(asked)
        except JoulekeeperError as error:
            self._fault = str(error)
            return False
        finally:
            self._refreshing.release()

    def fetch(self, start_ns: int, end_ns: int) -> None:
        """Ask for a period of the past of the location-based average, of the first source that can tell it.

        Raises NotFound with what every source said where none could. Without sources there is nothing to ask.
        """
        reasons = []
        with self._refreshing:
            for kept in self._average.kept:
                try:
                    kept.fetch(start_ns, end_ns)
                    return
                except JoulekeeperError as error:
                    reasons.append(f"{kept.label}: {error}")
        if reasons:
            raise NotFound(f"nobody tells the average intensity of that time: {'; '.join(reasons)}")

    def close(self) -> None:
        """Let go of connections and the file."""
        for chain in self._chains:
            for kept in chain.kept:
                kept.close()
        if self._store:
            self._store.close()

    @property
    def _chains(self) -> tuple[Chain[Any], ...]:
        return self._average, self._marginal, self._market

    def _refresh(self, chain: Chain[Any]) -> bool:
        asked = False
        for kept in chain.kept:
            asked = kept.refresh() or asked
            if kept.is_serving:
                break
        return asked

    def _read(self, chain: Chain[Meaning]) -> GridSeries[Meaning] | None:
        """The newest snapshot; where the file cannot be read, the last one."""
        with self._reading:
            if self._store is None or not chain.kept:
                return chain.last()
            try:
                return chain.series(self._store, round(self._settings.stale_hours * _HOUR_S) * NS_PER_S)
            except Unavailable as error:
                self._fault = str(error)
                return chain.last()

    def _of_each(self, chain: Chain[Any], ask: Any, first: bool = False) -> tuple[Any, ...]:
        found: list[Any] = []
        for kept in chain.kept:
            try:
                found += ask(self._store, kept.key)
            except Unavailable as error:
                self._fault = str(error)
            if first and found:
                break
        return tuple(found)

    def _kept(self, source: Source, meaning: str, store: SlotStore, factors: Mapping[str, float]) -> KeptSource:
        kind, access = PROVIDERS[source.provider], self._settings.access_of(source.provider)
        # What another server said under the same name is not the same.
        key = f"{meaning}:{source.label}" + (f"@{access.url}" if access.url else "")

        def spend() -> None:
            requests, window_s = self._quota(source.provider)
            store.spend(source.provider, requests, window_s, self._clock.wall_ns())

        def make() -> Any:
            return kind.make(source, access, factors, spend)

        return KeptSource(key, source.label, make, store, self._clock, self._settings.refresh_s)

    def _quota(self, provider: str) -> tuple[int, float]:
        quota = PROVIDERS[provider].quota
        if self._settings.requests_per_hour:
            return self._settings.requests_per_hour, _HOUR_S
        return (quota.requests, quota.window_s) if quota else (0, 0.0)

    def _status(self, chain: Chain[Any], kept: KeptSource) -> SourceStatus:
        provider = kept.label.partition(":")[0]
        requests, window_s = self._quota(provider)
        look = kept.last_look
        since_ns = self._clock.wall_ns() - round(window_s * NS_PER_S)
        return SourceStatus(
            meaning=chain.name,
            label=kept.label,
            newest_ns=kept.newest_ns,
            asked_ns=look.at_ns if look else None,
            requests=self._store.spent(provider, since_ns) if self._store else 0,
            quota=f"{requests} in {window_s:g} s" if PROVIDERS[provider].quota else "",
            fault=look.fault if look else "",
        )
