"""ENTSO-E's Transparency Platform: generation by type of a bidding zone, made an intensity with our own factors.

Schemas: docs/carbon/providers.md. Documents are XML of IEC 62325-451-6. "No data" is an acknowledgement, with 200;
curve type A03 leaves out points that repeat the one before; a zone's own pumping (outBiddingZone_Domain) is no
generation. A day of 23 or 25 hours is just that many points, since all instants are UTC. There is no forecast by type.

    Entsoe("10YFR-RTE------C", wire, factors).recent(now_ns)
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from xml.etree import ElementTree

from app.carbon.providers.base import DAY_NS, HOUR_NS, RECENT_NS, Answer, Quota, instant_ns, periods
from app.carbon.providers.fuel_mix import slots_of_mixes
from app.carbon.providers.wire import Wire
from app.carbon.series import ordered
from app.errors import InvalidInput, Unavailable
from app.units import NS_PER_S

URL = "https://web-api.tp.entsoe.eu"
QUOTA = Quota(400, 60)
"""Requests a minute, by address and by token; more is a ban of ten minutes (API user guide, "Limits")."""
_LONGEST_NS = 30 * DAY_NS  # the guide allows a year; a month of quarter hours is already 2 MB
_DELAY_NS = 6 * HOUR_NS
_NOTHING = "no matching data"
_WIDTHS_NS = {"PT15M": HOUR_NS // 4, "PT30M": HOUR_NS // 2, "PT60M": HOUR_NS, "PT1H": HOUR_NS}
_FUELS = {
    "B01": "biomass",
    "B02": "coal",
    "B03": "coal",
    "B04": "gas",
    "B05": "coal",
    "B06": "oil",
    "B07": "oil",
    "B08": "coal",
    "B09": "geothermal",
    "B11": "hydro",
    "B12": "hydro",
    "B13": "other",
    "B14": "nuclear",
    "B15": "other",
    "B16": "solar",
    "B17": "other",
    "B18": "wind",
    "B19": "wind",
    "B20": "other",
}
"""Production types (code list PsrType) to our fuels: lignite, peat and coal-derived gas are coal, oil shale is
oil, waste and marine are other."""
_STORES = {"B10", "B25"}
"""Pumped storage and batteries give back what was generated before: counting them would count their charge twice."""

Points = list[tuple[int, int, float]]
"""Begin, end, megawatts."""
TimedMix = tuple[int, int, dict[str, float]]


class Entsoe:
    """One bidding zone or control area by its EIC code."""

    offers_forecast = False

    def __init__(self, zone: str, wire: Wire, factors: Mapping[str, float]) -> None:
        self._zone, self._wire, self._factors = zone, wire, factors

    def recent(self, now_ns: int) -> Answer:
        return self.history(now_ns - RECENT_NS - _DELAY_NS, now_ns)

    def history(self, start_ns: int, end_ns: int) -> Answer:
        mixes: list[TimedMix] = []
        notes: list[str] = []
        for start, end in periods(start_ns, end_ns, _LONGEST_NS):
            root = self._document(start, end)
            if root is None:
                notes.append(f"{self._wire.name}: no matching data from {_minute(start)} to {_minute(end)} UTC")
            else:
                mixes += _mixes(_generation(root, self._wire.name))
        slots, left_out = slots_of_mixes(mixes, self._factors, self._wire.name)
        if left_out:
            notes.append(f"{self._wire.name}: {left_out} slots lack a type that matters and are left out")
        return Answer(ordered(slots), tuple(notes))

    def forecast(self, now_ns: int) -> Answer:
        return Answer()

    def close(self) -> None:
        self._wire.close()

    def _document(self, start_ns: int, end_ns: int) -> ElementTree.Element | None:
        """The document of a period; None where the platform says that it has no data."""
        query = {
            "documentType": "A75",
            "processType": "A16",
            "in_Domain": self._zone,
            "periodStart": _minute(start_ns),
            "periodEnd": _minute(end_ns),
        }
        content = self._wire.content("/api", query)
        if b"<!DOCTYPE" in content:  # the platform sends none; entities have no business here
            raise self._wire.unreadable("it declares a document type", content)
        try:
            root = ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            raise self._wire.unreadable(f"it is no XML ({error})", content) from error
        if _name(root) != "Acknowledgement_MarketDocument":
            return root
        reason = " ".join(_texts(root, "Reason", "text"))
        if _NOTHING in reason.casefold():
            return None
        raise InvalidInput(f"{self._wire.name} does not accept the request: {reason}")


def _generation(root: ElementTree.Element, where: str) -> list[tuple[str, Points]]:
    """Fuel and points of each series of generation; stores are left out."""
    found = []
    for series in _children(root, "TimeSeries"):
        code = next(_texts(series, "MktPSRType", "psrType"), "")
        if code in _STORES or any(_children(series, "outBiddingZone_Domain.mRID")):
            continue
        is_whole = next(_texts(series, "curveType"), "") == "A01"
        points = [point for period in _children(series, "Period") for point in _points(period, is_whole, where)]
        found.append((_FUELS.get(code, "other"), points))
    return found


def _points(period: ElementTree.Element, is_whole: bool, where: str) -> Iterator[tuple[int, int, float]]:
    """`is_whole`: all points are told (A01), so that one which is not is a hole; else it repeats the one before."""
    start = instant_ns(next(_texts(period, "timeInterval", "start"), ""), where)
    end = instant_ns(next(_texts(period, "timeInterval", "end"), ""), where)
    resolution = next(_texts(period, "resolution"), "")
    width = _WIDTHS_NS.get(resolution)
    if width is None:
        raise Unavailable(f"{where}: resolution must be one of {', '.join(_WIDTHS_NS)}, got {resolution!r}")
    told = sorted(
        (int(next(_texts(point, "position"), "0")), next(_texts(point, "quantity"), ""))
        for point in _children(period, "Point")
    )
    for i, (position, quantity) in enumerate(told):
        last = position if is_whole else told[i + 1][0] - 1 if i + 1 < len(told) else (end - start) // width
        if quantity:
            for at in range(position - 1, last):
                yield start + at * width, start + (at + 1) * width, float(quantity)


def _mixes(generation: list[tuple[str, Points]]) -> list[TimedMix]:
    """The mix of every slot of the finest resolution; a coarser figure holds for each of its parts."""
    width = min((end - start for _, points in generation for start, end, _ in points), default=HOUR_NS)
    mixes: dict[int, dict[str, float]] = defaultdict(dict)
    for fuel, points in generation:
        for start, end, quantity in points:
            for at in range(start, end, width):
                mixes[at][fuel] = mixes[at].get(fuel, 0.0) + max(0.0, quantity)
    return [(at, at + width, mixes[at]) for at in sorted(mixes)]


def _minute(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).strftime("%Y%m%d%H%M")


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _name(child) == name)


def _texts(element: ElementTree.Element, *path: str) -> Iterator[str]:
    """The texts at a path below `element`, whatever their namespace: its version changes with the platform's."""
    if not path:
        yield (element.text or "").strip()
        return
    for child in _children(element, path[0]):
        yield from _texts(child, *path[1:])
