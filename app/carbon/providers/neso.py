"""NESO's Carbon Intensity API: Great Britain and its regions by the half hour, with a forecast of two days; no key.

Schemas: docs/carbon/providers.md. Counts generation, imports and losses, not the life cycle. The national figure has an
estimate of what was (`actual`, null until it is known); a region, named by its id 1 to 17, is only ever forecast.

    Neso("GB", wire).recent(now_ns)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.carbon.intensity import IntensityGrade, Slot
from app.carbon.providers.base import DAY_NS, HOUR_NS, RECENT_NS, Answer, Quota, instant_ns, iso_utc, periods
from app.carbon.providers.wire import Wire
from app.carbon.series import ordered
from app.errors import InvalidInput

URL = "https://api.carbonintensity.org.uk"
QUOTA = Quota(120, 3600)
"""Ours: the API documents none and is free of charge; data change twice an hour."""
NATION = "GB"
_REGIONS = 17
_LONGEST_NS = 14 * DAY_NS  # "The maximum date range is limited to 14 days" (API definitions)


class Neso:
    """The nation, or one region by its id."""

    offers_forecast = True

    def __init__(self, zone: str, wire: Wire) -> None:
        is_region = zone.isdigit() and 1 <= int(zone) <= _REGIONS
        if zone != NATION and not is_region:
            raise InvalidInput(f"zone of neso must be {NATION} or a region from 1 to {_REGIONS}, got {zone!r}")
        self._region, self._wire = zone if is_region else "", wire

    def recent(self, now_ns: int) -> Answer:
        return self.history(now_ns - RECENT_NS, now_ns)

    def history(self, start_ns: int, end_ns: int) -> Answer:
        slots: list[Slot] = []
        for start, end in periods(start_ns, end_ns, _LONGEST_NS):
            slots += self._asked(f"{iso_utc(start, 'minutes')}/{iso_utc(end, 'minutes')}", self._known)
        return Answer(ordered(slots))

    def forecast(self, now_ns: int) -> Answer:
        begun_ns = now_ns - now_ns % (HOUR_NS // 2)
        return Answer(ordered(self._asked(f"{iso_utc(begun_ns, 'minutes')}/fw48h", self._expected)))

    def close(self) -> None:
        self._wire.close()

    def _asked(self, period: str, figure: Any) -> Iterator[Slot]:
        kind = "/regional/intensity/" if self._region else "/intensity/"
        body = self._wire.json(f"{kind}{period}{f'/regionid/{self._region}' if self._region else ''}")
        entries = body.get("data")
        if self._region and isinstance(entries, dict):
            entries = entries.get("data")
        if not isinstance(entries, list):
            raise self._wire.unreadable("it has no list 'data'", str(body))
        for entry in entries:
            found = figure(entry.get("intensity") or {})
            if found is not None:
                yield self._slot(entry, *found)

    def _slot(self, entry: Mapping[str, Any], g_per_kwh: float, grade: IntensityGrade) -> Slot:
        start, end = (instant_ns(entry.get(name), self._wire.name) for name in ("from", "to"))
        return Slot(start, end, float(g_per_kwh), grade, self._wire.name)

    def _known(self, told: Mapping[str, Any]) -> tuple[float, IntensityGrade] | None:
        # "actual" is itself an estimate, by their own words; a region's past is the forecast that it had.
        name, grade = ("forecast", IntensityGrade.FORECAST) if self._region else ("actual", IntensityGrade.ESTIMATED)
        return None if told.get(name) is None else (told[name], grade)

    def _expected(self, told: Mapping[str, Any]) -> tuple[float, IntensityGrade] | None:
        return None if told.get("forecast") is None else (told["forecast"], IntensityGrade.FORECAST)
