"""Electricity Maps, API v3: the flow-traced average of a zone, with a forecast. Schemas: docs/carbon/providers.md.

An entry that is null, or whose `carbonIntensity` is, is a hole. The width of a slot is the spacing of the entries:
plans serve 5 minutes, 15 minutes or hours.

    ElectricityMaps("FR", wire).recent(now_ns)
"""

from collections.abc import Mapping
from typing import Any

from app.carbon.intensity import IntensityGrade, Slot
from app.carbon.providers.base import DAY_NS, HOUR_NS, Answer, Quota, instant_ns, iso_utc, periods, spacing_ns
from app.carbon.providers.wire import Wire
from app.carbon.series import ordered
from app.errors import Forbidden

URL = "https://api.electricitymaps.com"
QUOTA = Quota(50, 3600)
"""Ours: plans differ, and none is documented in public; twice what the looks of an hour need."""
_LONGEST_NS = 10 * DAY_NS
"""What one request of `past-range` may cover in hours (API reference, "Past carbon intensity history range")."""
_HORIZON_HOURS = 72
_MADE_UP = "SANDBOX_MODE_DATA"
_WIDTHS_NS = {"5_minutes": HOUR_NS // 12, "15_minutes": HOUR_NS // 4, "hourly": HOUR_NS}


class ElectricityMaps:
    """One zone, named as their zones are (`FR`, `US-CAL-CISO`)."""

    offers_forecast = True

    def __init__(self, zone: str, wire: Wire) -> None:
        self._zone, self._wire = zone, wire

    def recent(self, now_ns: int) -> Answer:
        body = self._wire.json("/v3/carbon-intensity/history", {"zone": self._zone})
        return Answer(self._slots(body, "history"))

    def history(self, start_ns: int, end_ns: int) -> Answer:
        slots: list[Slot] = []
        for start, end in periods(start_ns, end_ns, _LONGEST_NS):
            query = {"zone": self._zone, "start": iso_utc(start), "end": iso_utc(end)}
            slots += self._slots(self._wire.json("/v3/carbon-intensity/past-range", query), "data")
        return Answer(ordered(slots))

    def forecast(self, now_ns: int) -> Answer:
        body = self._wire.json("/v3/carbon-intensity/forecast", {"zone": self._zone, "horizonHours": _HORIZON_HOURS})
        return Answer(self._slots(body, "forecast", IntensityGrade.FORECAST))

    def close(self) -> None:
        self._wire.close()

    def _slots(self, body: Mapping[str, Any], name: str, grade: IntensityGrade | None = None) -> tuple[Slot, ...]:
        entries = body.get(name)
        if not isinstance(entries, list):
            raise self._wire.unreadable(f"it has no list {name!r}", str(body))
        known = [entry for entry in entries if isinstance(entry, dict) and "datetime" in entry]
        if any(entry.get("estimationMethod") == _MADE_UP for entry in known):
            raise Forbidden(f"{self._wire.name}: the key is one of the sandbox, whose figures are made up; use another")
        starts = [instant_ns(entry["datetime"], self._wire.name) for entry in known]
        width_ns = spacing_ns(starts, _WIDTHS_NS.get(str(body.get("temporalGranularity")), HOUR_NS))
        return ordered(
            Slot(start, start + width_ns, figure, grade or _grade(entry), self._wire.name)
            for start, entry in zip(starts, known, strict=True)
            if (figure := _figure(entry)) is not None
        )


def _grade(entry: Mapping[str, Any]) -> IntensityGrade:
    return IntensityGrade.ESTIMATED if entry.get("isEstimated") else IntensityGrade.ACTUAL


def _figure(entry: Mapping[str, Any]) -> float | None:
    value = entry.get("carbonIntensity")
    return float(value) if isinstance(value, int | float) and 0 <= value < float("inf") else None
