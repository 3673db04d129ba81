"""The sources of one meaning in order of fallback, put together into one series.

Knows nothing of when sources are asked. A slot is the first source's that has one for that time; where nobody has, a
yearly figure holds: a configured constant, else the zone's own, else the mean of all that was told.

    chain = Chain(Marginal, zone, sources)
    chain.kept = (...)
    chain.series(store, stale_ns)          # None: nothing can be said
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import reduce
from typing import Generic

from app.carbon.intensity import LocationAverage, Marginal, MarketBased, Meaning, Slot
from app.carbon.kept_source import KeptSource
from app.carbon.providers.registry import CONSTANT, Source, constant_of
from app.carbon.series import GridSeries, filled
from app.carbon.slot_store import SlotStore
from app.carbon.zones import Zone

NAMES: dict[type, str] = {LocationAverage: "average", Marginal: "marginal", MarketBased: "market"}
"""Of each meaning, for people and for the store."""


class Chain(Generic[Meaning]):
    """Sources of one meaning for one zone. Not thread-safe."""

    def __init__(self, meaning: type[Meaning], zone: Zone, sources: Sequence[Source]) -> None:
        self.name = NAMES[meaning]
        self._meaning, self._zone = meaning, zone
        constants = [i for i, source in enumerate(sources) if source.provider == CONSTANT]
        # Nothing after a constant is ever asked: it holds at all times.
        self.asked = tuple(sources[: constants[0]] if constants else sources)
        self._constant = constant_of(sources[constants[0]]) if constants else None
        self.is_configured = bool(sources)
        self.kept: tuple[KeptSource, ...] = ()
        """One for each of `asked`, or none where nobody is asked."""
        self._last: tuple[object, GridSeries[Meaning] | None] = (None, None)
        self._read: dict[str, tuple[int, tuple[Slot, ...]]] = {}
        """By source: the number of the last change that was read, and slots. Years are not read again for an hour."""

    def series(self, store: SlotStore, stale_ns: int) -> GridSeries[Meaning] | None:
        """What is known; None where not even a yearly figure is. Raises Unavailable."""
        version = [store.version(kept.key) for kept in self.kept]
        if version != self._last[0]:
            changes = [changes for changes, _ in version]
            observed = self._laid(
                [self._observed(store, kept.key, n) for kept, n in zip(self.kept, changes, strict=True)]
            )
            forecast = self._laid([store.forecast(kept.key) for kept in self.kept])
            self._last = version, self._series(observed, forecast, stale_ns, sum(changes))
        return self._last[1]

    def last(self) -> GridSeries[Meaning] | None:
        """What was known when it was last asked, or what holds without any data."""
        return self._last[1] or self._series((), (), 0, 0)

    def _observed(self, store: SlotStore, key: str, changes: int) -> tuple[Slot, ...]:
        number, slots = self._read.get(key, (0, ()))
        if changes != number:
            # The slot before the first that changed may have been cut where another began.
            from_ns = store.changed_from(key, number)
            kept = max(0, bisect_left(slots, from_ns, key=lambda slot: slot.start_ns) - 1)
            since_ns = min(from_ns, slots[kept].start_ns) if slots else from_ns
            slots = (*slots[:kept], *store.observed(key, since_ns))
            self._read[key] = changes, slots
        return slots

    def _series(
        self, observed: tuple[Slot, ...], forecast: tuple[Slot, ...], stale_ns: int, revision: int
    ) -> GridSeries[Meaning] | None:
        otherwise = self._otherwise(observed)
        if otherwise is None:
            return None
        return GridSeries(self._zone.id, otherwise, observed, forecast, stale_ns, revision)

    def _otherwise(self, observed: Sequence[Slot]) -> Meaning | None:
        zone = self._zone
        if self._constant is not None:
            return self._meaning(self._constant, zone.id, "configured")
        if self._meaning is LocationAverage:
            return self._meaning(zone.intensity_g_per_kwh, zone.id, zone.source, zone.year)
        if self._meaning is MarketBased:
            # The last step of the hierarchy of the GHG Protocol's Scope 2 Guidance (2015), table 6.3.
            source = f"{zone.source}, for want of a contract and a residual mix"
            return self._meaning(zone.intensity_g_per_kwh, zone.id, source, zone.year)
        if not observed:
            return None
        mean = sum(slot.g_per_kwh for slot in observed) / len(observed)
        return self._meaning(mean, zone.id, "mean of all that was told")

    def _laid(self, layers: Sequence[tuple[Slot, ...]]) -> tuple[Slot, ...]:
        return reduce(filled, layers, ())
