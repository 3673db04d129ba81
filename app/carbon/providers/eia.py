"""U.S. EIA, API v2: hourly net generation by fuel of a balancing authority, made an intensity with our own factors.

Schemas: docs/carbon/providers.md. A `period` names the END of its hour in UTC (Form EIA-930 counts hours by their
end). At most 5,000 rows come at once, with a warning in a 200; the rest is asked for. There is no forecast by fuel.

    Eia("CISO", wire, factors).recent(now_ns)
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from app.carbon.providers.base import DAY_NS, HOUR_NS, RECENT_NS, Answer, Quota, periods
from app.carbon.providers.fuel_mix import slots_of_mixes
from app.carbon.providers.wire import Wire
from app.carbon.series import ordered
from app.errors import Unavailable
from app.units import NS_PER_S

URL = "https://api.eia.gov"
QUOTA = Quota(1000, 3600)
"""Ours: data change once an hour, and the look at ten days of a large authority takes two pages."""
_PATH = "/v2/electricity/rto/fuel-type-data/data/"
_PAGE = 5000
_LONGEST_NS = 30 * DAY_NS
_DELAY_NS = 24 * HOUR_NS  # newest hours come late, and some authorities deliver once a day
_FUELS = {
    "COL": "coal",
    "NG": "gas",
    "OIL": "oil",
    "NUC": "nuclear",
    "WAT": "hydro",
    "WND": "wind",
    "WNB": "wind",
    "SUN": "solar",
    "SNB": "solar",
    "GEO": "geothermal",
    "OTH": "other",
    "UNK": "other",
}
"""Their fuel types to ours (facet `fueltype`); WNB and SNB are wind and solar with a battery beside them."""
_STORES = {"BAT", "PS", "UES", "OES"}
"""What gives back what was generated before is no source: counting it would count its charge twice."""


class Eia:
    """One balancing authority, named as their respondents are (`CISO`, `PJM`)."""

    offers_forecast = False

    def __init__(self, respondent: str, wire: Wire, factors: Mapping[str, float]) -> None:
        self._respondent, self._wire, self._factors = respondent, wire, factors

    def recent(self, now_ns: int) -> Answer:
        return self.history(now_ns - RECENT_NS - _DELAY_NS, now_ns)

    def history(self, start_ns: int, end_ns: int) -> Answer:
        rows: list[Mapping[str, Any]] = []
        notes: list[str] = []
        for start, end in periods(start_ns, end_ns, _LONGEST_NS):
            found, told = self._rows(start, end)
            rows += found
            notes += told
        slots, left_out = slots_of_mixes(_mixes(rows), self._factors, self._wire.name)
        if left_out:
            notes.append(f"{self._wire.name}: {left_out} hours lack a fuel that matters and are left out")
        return Answer(ordered(slots), tuple(dict.fromkeys(notes)))

    def forecast(self, now_ns: int) -> Answer:
        return Answer()

    def close(self) -> None:
        self._wire.close()

    def _rows(self, start_ns: int, end_ns: int) -> tuple[list[Mapping[str, Any]], list[str]]:
        """All pages of one period, and the warnings that nothing further explains."""
        rows: list[Mapping[str, Any]] = []
        while True:
            body = self._wire.json(_PATH, self._query(start_ns, end_ns, len(rows)))
            response = body.get("response")
            if not isinstance(response, dict) or not isinstance(response.get("data"), list):
                raise self._wire.unreadable("it has no 'response' with 'data'", str(body))
            rows += response["data"]
            if len(rows) >= int(response.get("total") or 0):
                return rows, [] if len(rows) > _PAGE else _warnings(response)
            if not response["data"]:
                missing = f"{len(rows)} of {response['total']} rows came"
                raise Unavailable(
                    f"{self._wire.name} answers incompletely, {missing}: {'; '.join(_warnings(response))}"
                )

    def _query(self, start_ns: int, end_ns: int, offset: int) -> dict[str, str | int]:
        # Hours are named by their end: the first that begins in the period ends an hour after its start.
        return {
            "frequency": "hourly",
            "data[0]": "value",
            "facets[respondent][]": self._respondent,
            "start": _hour(start_ns + HOUR_NS),
            "end": _hour(end_ns),
            "sort[0][column]": "period",
            "sort[0][direction]": "asc",
            "sort[1][column]": "fueltype",
            "sort[1][direction]": "asc",
            "offset": offset,
            "length": _PAGE,
        }


def _mixes(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, int, dict[str, float]]]:
    """Begin, end and energy by fuel of each hour; null is missing, an unknown fuel is `other`."""
    by_end: dict[int, dict[str, float]] = defaultdict(dict)
    for row in rows:
        code, value = str(row.get("fueltype")), row.get("value")
        if value is None or code in _STORES:
            continue
        mix, fuel = by_end[_end_ns(row.get("period"))], _FUELS.get(code, "other")
        mix[fuel] = mix.get(fuel, 0.0) + max(0.0, float(value))
    return [(end - HOUR_NS, end, by_end[end]) for end in sorted(by_end)]


def _end_ns(period: object) -> int:
    try:
        parsed = datetime.strptime(str(period), "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError as error:
        raise Unavailable(f"eia answers with a period that nobody can read: {str(period)[:40]!r}") from error
    return int(parsed.timestamp()) * NS_PER_S


def _hour(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H")


def _warnings(response: Mapping[str, Any]) -> list[str]:
    told = response.get("warnings") or ()
    return [
        f"eia: {each.get('warning', '')}: {each.get('description', '')}" if isinstance(each, dict) else f"eia: {each}"
        for each in told
    ]
