"""Where a job or a replica should run: the zone with the least expected carbon among those that may have it.

Pure: every zone comes in with its forecast, its room and how far it is, a choice with reasons goes out. Knows nothing
of Ray's labels, providers or networks. In each zone the run is planned as shifting.py plans it, so that time and place
are one decision; a replica is a run without slack, over the hours for which it is to be placed.

    here, there = Place("FRA", outlook, latency_ms=5), Place("DEU", other, latency_ms=20, moved_gb=40)
    choice = choose_place(run, [here, there], now_s, home="FRA", limits=PlaceLimits(latency_ms=50))
    choice.zone, choice.plan, choice.reasons, choice.options

What moves is counted: data sent to a zone, once, at the mean of the two grids. Staying wins unless moving saves
`least_saving`. Raises InvalidInput when no zone may have it, with every zone's reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from app.errors import InvalidInput
from app.policy.shifting import Outlook, Plan, Run, ShiftSettings, plan_run

_S_PER_GBIT = 8.0  # of a gigabyte over a gigabit per second


class PlacementSettings(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_saving: float = Field(default=0.02, ge=0, lt=1)
    """Share of the carbon at home that another zone must be expected to save, its data counted."""
    kwh_per_gb: float = Field(default=0.001, ge=0)
    """Of data that is moved between zones: what Cloud Carbon Footprint takes for large data centres' networks
    (methodology, "Networking", read 2026-11-22; other published figures reach 0.06)."""
    gbit_per_s: float = Field(default=1.0, gt=0)
    """At which data moves; the run begins when it has arrived."""


@dataclass(frozen=True, slots=True)
class Place:
    """A zone that might have it."""

    zone: str
    outlook: Outlook
    latency_ms: float | None = None
    """To those who call it. None: not known, which no limit lets pass."""
    free_workers: int | None = None
    """None: as many as anybody wants."""
    pue: float = 1.0
    moved_gb: float = 0.0
    """Data that is not there yet."""


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """What rules zones out. None: nothing does."""

    latency_ms: float | None = None
    zones: frozenset[str] | None = None
    """Where the data may lie."""


@dataclass(frozen=True, slots=True)
class Option:
    """A zone that may have it, and what that would emit."""

    zone: str
    plan: Plan
    expected_g: float
    """Of the run at the zone's PUE and of moving its data."""
    moved_g: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where, when, and why."""

    zone: str
    plan: Plan
    expected_g: float
    home_g: float | None
    """Of staying. None: home was not among the zones that may have it."""
    reasons: tuple[str, ...]
    options: tuple[Option, ...]
    """All that may have it, least carbon first: further replicas go to the next one as these fill up."""


def choose_place(
    run: Run,
    places: Sequence[Place],
    now_s: float,
    home: str | None = None,
    limits: PlaceLimits | None = None,
    settings: PlacementSettings | None = None,
    shifting: ShiftSettings | None = None,
) -> Placement:
    """The zone for `run`; `home`: where it and its data are. Raises InvalidInput naming why no zone may have it."""
    settings, limits = settings or PlacementSettings(), limits or PlaceLimits()
    refused = {place.zone: _refusal(run, place, limits) for place in places}
    if all(refused.values()):
        raise InvalidInput(f"no zone may have it: {'; '.join(f'{zone}: {why}' for zone, why in refused.items())}")
    at_home = next((place for place in places if place.zone == home), None)
    options = [
        _option(run, place, at_home, now_s, settings, shifting) for place in places if refused[place.zone] is None
    ]
    options.sort(key=lambda option: (option.plan.late, option.expected_g, option.zone != home))
    best, staying = options[0], next((option for option in options if option.zone == home), None)
    moves = staying is None or staying.plan.late or best.expected_g <= staying.expected_g * (1 - settings.least_saving)
    chosen = best if moves or staying is None else staying
    reasons = _reasons(chosen, best, staying, settings)
    reasons += tuple(f"not {zone}: {why}" for zone, why in refused.items() if why)
    home_g = None if staying is None else staying.expected_g
    return Placement(chosen.zone, chosen.plan, chosen.expected_g, home_g, reasons, tuple(options))


def _refusal(run: Run, place: Place, limits: PlaceLimits) -> str | None:
    needed = min(run.rates)
    if limits.zones is not None and place.zone not in limits.zones:
        return f"its data may only lie in {', '.join(sorted(limits.zones))}"
    if limits.latency_ms is not None and (place.latency_ms is None or place.latency_ms > limits.latency_ms):
        far = "not known" if place.latency_ms is None else f"{place.latency_ms:g} ms"
        return f"latency is {far}, at most {limits.latency_ms:g} ms are allowed"
    if place.free_workers is not None and place.free_workers < needed:
        return f"{place.free_workers} workers are free, {needed} are needed"
    return None


def _option(
    run: Run,
    place: Place,
    home: Place | None,
    now_s: float,
    settings: PlacementSettings,
    shifting: ShiftSettings | None,
) -> Option:
    free = place.free_workers
    fitting = {count: rate for count, rate in run.rates.items() if free is None or count <= free}
    moved = home is None or place.zone != home.zone
    run = replace(
        run,
        rates=fitting,
        workers=0 if moved or run.workers not in fitting else run.workers,
        begun=run.begun or run.workers > 0,
    )
    arrives_s = now_s + place.moved_gb * _S_PER_GBIT / settings.gbit_per_s
    plan = plan_run(run, place.outlook, arrives_s, shifting)
    grids = [place.outlook.at(now_s), (home or place).outlook.at(now_s)]
    moved_g = place.moved_gb * settings.kwh_per_gb * sum(grids) / 2
    return Option(place.zone, plan, plan.expected_g * place.pue + moved_g, moved_g)


def _reasons(chosen: Option, best: Option, staying: Option | None, settings: PlacementSettings) -> tuple[str, ...]:
    said = f"{chosen.zone}: {chosen.expected_g:.4g} g expected"
    if chosen.moved_g:
        said += f", {chosen.moved_g:.3g} g of them for moving its data"
    if staying is None:
        return (said,)
    if chosen is staying and best is not staying:
        return (
            f"{said}; {best.zone} would save {1 - best.expected_g / staying.expected_g:.1%}, less than "
            f"{settings.least_saving:.1%}: it stays",
        )
    if chosen is staying:
        return (f"{said}, the least of all",)
    if staying.plan.late and not chosen.plan.late:
        return (f"{said}; in {staying.zone} it would end too late",)
    return (f"{said} instead of {staying.expected_g:.4g} g in {staying.zone}",)
