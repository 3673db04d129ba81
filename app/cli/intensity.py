"""`intensity`: what the electricity of this cluster's grid emits now, what is expected, who says so, how well known.

Needs no cluster: it asks the sources that JOULEKEEPER_INTENSITY names, within their quotas, and shares what they say
with the other processes of this host. What it shows is made here; what holds is app/carbon/grid.py's.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.clock import Clock, SystemClock
from app.console.period import local_now, parse_period
from app.engine.views import View
from app.errors import InvalidInput
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.carbon.grid import Grid as Sources
    from app.carbon.intensity import Intensity, Slot
    from app.policy.shifting_costs import Outlook

_HOUR_S = 3600.0


class Held(View):
    """What holds now, with one meaning."""

    meaning: str
    """`average` (location-based), `marginal` or `market` (market-based). Never to be summed."""
    g_per_kwh: float
    grade: str
    source: str
    year: int | None


class Expected(View):
    """One slot ahead, with what it may be at the 10th and 90th percentile."""

    start: str
    end: str
    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float


class Past(View):
    """One slot of the past."""

    start: str
    end: str
    g_per_kwh: float
    grade: str
    source: str
    first_g_per_kwh: float | None
    """What was said at first, where it was revised."""


class SourceView(View):
    """One source that is asked."""

    meaning: str
    source: str
    known_until: str | None
    asked: str | None
    requests: int
    """Made within the window of its quota."""
    quota: str
    fault: str


class IntensityView(View):
    """Everything that the command shows."""

    at: str
    zone: str
    held: tuple[Held, ...]
    expected: tuple[Expected, ...]
    forecast_by: str
    forecast_error: float | None
    """Mean absolute error over the first day ahead, as a share of the mean; null: not measured."""
    past: tuple[Past, ...]
    sources: tuple[SourceView, ...]
    warnings: tuple[str, ...]


def intensity(
    hours: Annotated[int, typer.Option(min=0, max=168, help="Hours ahead to show.")] = 24,
    since: Annotated[
        str | None, typer.Option(help="Show the past from there, and ask for it: 7d, a date, an ISO time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="End of the past, written like --since. Else now.")] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Ask nobody: only what this host knows already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False,
) -> None:
    """Carbon intensity of the grid: now, as forecast, and with --since as it was; sources and how they are doing."""
    clock = SystemClock()
    try:
        since_s, until_s = parse_period(since, until, local_now(clock))
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint="--since/--until") from error
    sources = cluster_grid(clock)
    try:
        if not kept:
            sources.refresh()
        period = (since_s, until_s or clock.wall_ns() / NS_PER_S) if since_s is not None else None
        if period and not kept:
            sources.fetch(_ns(period[0]), _ns(period[1]))
        view = intensity_view(sources, clock.wall_ns(), hours, period)
    finally:
        sources.close()
    if as_json:
        terminal.show_json(view)
    else:
        terminal.show(*intensity_grids(view))


def cluster_grid(clock: Clock) -> "Sources":
    """The grid that the settings mean; tests put another in its place."""
    from app.carbon.grid import open_grid
    from app.config import settings

    return open_grid(settings().grid, clock)


def intensity_view(sources: "Sources", now_ns: int, hours: int, period: tuple[float, float] | None) -> IntensityView:
    """What the grid knows at `now_ns`, some hours ahead, and of a period of the past in Unix seconds."""
    from app.engine.outlook import look_ahead

    average, now_s = sources.average(), now_ns / NS_PER_S
    earlier_ns = now_ns - _ns(28 * 24 * _HOUR_S)
    ahead = look_ahead(average, now_s, now_s + hours * _HOUR_S, sources.past_forecasts(earlier_ns, now_ns))
    named = (("average", average), ("marginal", sources.marginal()), ("market", sources.market()))
    return IntensityView(
        at=_instant(now_ns),
        zone=average.zone,
        held=tuple(_held(meaning, series.intensity_at(now_ns)) for meaning, series in named if series is not None),
        expected=_expected(ahead.outlook) if hours else (),
        forecast_by=ahead.model,
        forecast_error=ahead.error,
        past=tuple(map(_past, average.slots_between(*map(_ns, period)))) if period else (),
        sources=tuple(
            SourceView(
                meaning=status.meaning,
                source=status.label,
                known_until=_instant(status.newest_ns) if status.newest_ns else None,
                asked=_instant(status.asked_ns) if status.asked_ns else None,
                requests=status.requests,
                quota=status.quota,
                fault=status.fault,
            )
            for status in sources.sources()
        ),
        warnings=sources.warnings,
    )


def _expected(outlook: "Outlook") -> tuple[Expected, ...]:
    """Slot by slot."""
    begins = [outlook.start_s + i * outlook.slot_s for i in range(len(outlook.mean) + 1)]
    figures = zip(outlook.mean, outlook.low or outlook.mean, outlook.high or outlook.mean, strict=True)
    return tuple(
        Expected(
            start=_instant(_ns(begins[i])),
            end=_instant(_ns(begins[i + 1])),
            g_per_kwh=mean,
            low_g_per_kwh=low,
            high_g_per_kwh=high,
        )
        for i, (mean, low, high) in enumerate(figures)
    )


def intensity_grids(view: IntensityView) -> tuple[Grid, ...]:
    """Now, ahead, before, and the sources; instants in the time zone of this host, with their offset."""
    now = Grid(
        f"Grid {view.zone} at {_local(view.at)}",
        columns("meaning", ">gCO2e/kWh", "grade", "source"),
        tuple((held.meaning, f"{held.g_per_kwh:.1f}", held.grade, _source(held)) for held in view.held),
        notes=view.warnings,
    )
    grids = [now]
    if view.expected:
        error = "" if view.forecast_error is None else f", off by {view.forecast_error:.0%} over the first day so far"
        rows = tuple(
            (_local(slot.start), f"{slot.g_per_kwh:.1f}", f"{slot.low_g_per_kwh:.1f}", f"{slot.high_g_per_kwh:.1f}")
            for slot in view.expected
        )
        titles = columns("from", ">gCO2e/kWh", ">10th percentile", ">90th percentile")
        grids.append(Grid(f"Ahead: {view.forecast_by}{error}", titles, rows))
    if view.past:
        grids.append(Grid("Before", columns("from", ">gCO2e/kWh", ">at first", "grade", "source"), _past_rows(view)))
    if view.sources:
        titles = columns("meaning", "source", "known until", "asked", ">requests", "quota", "fault")
        grids.append(Grid("Sources, in order of fallback", titles, tuple(map(_source_row, view.sources))))
    return tuple(grids)


def _past_rows(view: IntensityView) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            _local(slot.start),
            f"{slot.g_per_kwh:.1f}",
            "" if slot.first_g_per_kwh is None else f"{slot.first_g_per_kwh:.1f}",
            slot.grade,
            slot.source,
        )
        for slot in view.past
    )


def _source_row(status: SourceView) -> tuple[str, ...]:
    known, asked = (_local(each) if each else "" for each in (status.known_until, status.asked))
    requests = str(status.requests) if status.quota else ""
    return status.meaning, status.source, known, asked, requests, status.quota, status.fault


def _held(meaning: str, held: "Intensity") -> Held:
    return Held(
        meaning=meaning,
        g_per_kwh=held.g_per_kwh,
        grade=str(held.grade),
        source=held.source,
        year=held.year,
    )


def _past(slot: "Slot") -> Past:
    return Past(
        start=_instant(slot.start_ns),
        end=_instant(slot.end_ns),
        g_per_kwh=slot.g_per_kwh,
        grade=str(slot.grade),
        source=slot.source,
        first_g_per_kwh=slot.first_g_per_kwh,
    )


def _source(held: Held) -> str:
    return f"{held.source}, {held.year}" if held.year else held.source


def _instant(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).isoformat().replace("+00:00", "Z")


def _local(instant: str) -> str:
    """With its offset: on the day that clocks go back, one hour is shown twice, and each is told from the other."""
    return datetime.fromisoformat(instant).astimezone().isoformat(sep=" ", timespec="minutes")


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
