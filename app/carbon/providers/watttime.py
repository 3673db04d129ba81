"""WattTime, API v3: what one more kWh makes the grid emit, with a forecast. Schemas: docs/carbon/providers.md.

Figures come in pounds of CO2 per MWh. A login gives a token that lasts 30 minutes; one that has expired is answered
with 401 and renewed once.

    WattTime("CAISO_NORTH", wire, user, password).recent(now_ns)
"""

from collections.abc import Mapping
from typing import Any

import httpx

from app.carbon.intensity import IntensityGrade, Slot
from app.carbon.providers.base import DAY_NS, HOUR_NS, RECENT_NS, Answer, Quota, instant_ns, iso_utc, periods
from app.carbon.providers.wire import Wire
from app.carbon.series import ordered
from app.errors import Unauthenticated, Unavailable
from app.units import NS_PER_S

URL = "https://api.watttime.org"
QUOTA = Quota(3000, 300)
"""Requests in a rolling window of five minutes (docs.watttime.org, "Rate limits")."""
_LONGEST_NS = 32 * DAY_NS  # what one request of /v3/historical may cover (docs.watttime.org)
_HORIZON_HOURS = 24
_SIGNAL = "co2_moer"
_UNITS = "lbs_co2_per_mwh"
G_PER_KWH_OF_LB_PER_MWH = 0.45359237
"""The avoirdupois pound is 0.45359237 kg exactly (yard and pound agreement, 1959); 1 kg/MWh is 1 g/kWh."""


class WattTime:
    """One region, named as theirs are (`CAISO_NORTH`)."""

    offers_forecast = True

    def __init__(self, region: str, wire: Wire, user: str, password: str) -> None:
        self._region, self._wire = region, wire
        self._user, self._password = user, password
        self._token = ""
        wire.guard(password)

    def recent(self, now_ns: int) -> Answer:
        return self.history(now_ns - RECENT_NS, now_ns)

    def history(self, start_ns: int, end_ns: int) -> Answer:
        slots: list[Slot] = []
        notes: list[str] = []
        for start, end in periods(start_ns, end_ns, _LONGEST_NS):
            body = self._asked("/v3/historical", {"start": iso_utc(start), "end": iso_utc(end)})
            slots += self._slots(body, IntensityGrade.ACTUAL)
            notes += _warnings(body)
        return Answer(ordered(slots), tuple(notes))

    def forecast(self, now_ns: int) -> Answer:
        body = self._asked("/v3/forecast", {"horizon_hours": _HORIZON_HOURS})
        return Answer(self._slots(body, IntensityGrade.FORECAST), tuple(_warnings(body)))

    def close(self) -> None:
        self._wire.close()

    def _asked(self, path: str, query: Mapping[str, str | int]) -> dict[str, Any]:
        """With the token that we have, and where that has expired with a new one."""
        full = {"region": self._region, "signal_type": _SIGNAL, **query}
        if self._token:
            try:
                return self._wire.json(path, full, headers=self._bearer())
            except Unauthenticated:
                self._token = ""
        self._log_in()
        return self._wire.json(path, full, headers=self._bearer())

    def _log_in(self) -> None:
        basic = next(httpx.BasicAuth(self._user, self._password).auth_flow(httpx.Request("GET", URL)))
        self._wire.guard(basic.headers["authorization"].removeprefix("Basic "))
        body = self._wire.json("/login", headers={"authorization": basic.headers["authorization"]})
        token = body.get("token")
        if not isinstance(token, str) or not token:
            raise Unavailable(f"{self._wire.name}: the login succeeds but gives no token")
        self._wire.guard(token)
        self._token = token

    def _bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"}

    def _slots(self, body: Mapping[str, Any], grade: IntensityGrade) -> tuple[Slot, ...]:
        meta, points = body.get("meta"), body.get("data")
        if not isinstance(meta, dict) or not isinstance(points, list):
            raise self._wire.unreadable("it has no 'data' and 'meta'", str(body))
        if meta.get("units", _UNITS) != _UNITS or meta.get("signal_type", _SIGNAL) != _SIGNAL:
            raise self._wire.unreadable(f"it is not {_SIGNAL} in {_UNITS}", str(meta))
        width_ns = int(meta.get("data_point_period_seconds") or HOUR_NS // 12 // NS_PER_S) * NS_PER_S
        return ordered(
            self._slot(point, width_ns, grade) for point in points if isinstance(point.get("value"), int | float)
        )

    def _slot(self, point: Mapping[str, Any], width_ns: int, grade: IntensityGrade) -> Slot:
        start = instant_ns(point.get("point_time"), self._wire.name)
        # A grid that curtails may be said to emit less than nothing; to us that is nothing.
        g_per_kwh = max(0.0, float(point["value"])) * G_PER_KWH_OF_LB_PER_MWH
        return Slot(start, start + width_ns, g_per_kwh, grade, self._wire.name)


def _warnings(body: Mapping[str, Any]) -> list[str]:
    told = (body.get("meta") or {}).get("warnings") or ()
    return [str(each.get("message", each)) if isinstance(each, dict) else str(each) for each in told]
