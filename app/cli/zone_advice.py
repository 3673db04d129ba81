"""Advice on the zone of a model or a job: what each zone's grid is expected to do, data movement counted.

Each zone's outlook is that of app/engine/places.py: its own sources where the file of places names any, else the yearly
table; the choice is that of app/policy/placement.py. Knows nothing of what runs where.

    advise_place(run, ZoneWish(home="FRA", zones=("DEU", "SWE"), moved_gb=40), clock)
"""

from dataclasses import dataclass

from app.carbon.zones import find_zone
from app.clock import Clock
from app.domain.decision import Fact
from app.engine.outlook import View
from app.policy.advice import RUN, Advice, unknown
from app.policy.advice_jobs import advise_zone
from app.policy.placement import Place, choose_place
from app.policy.shifting import Run
from app.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class ZoneWish:
    """Where it is, and where it could be."""

    home: str = "world"
    zones: tuple[str, ...] = ()
    moved_gb: float = 0.0
    """Data that is not there yet."""


def advise_place(run: Run | None, wish: ZoneWish, clock: Clock, refusal: str = "") -> Advice:
    """The zone with the least carbon for `run`; None: it is not known how long it takes, as `refusal` says.

    Raises InvalidInput for a zone that is not in the table.
    """
    from app.config import settings
    from app.engine.places import read_places, zone_view

    home = find_zone(wish.home).id
    if not wish.zones:
        return unknown("zone", home, "name the zones that it could run in: --zone SWE --zone FRA", of=RUN)
    if run is None:
        return unknown("zone", home, refusal, of=RUN)
    config = settings()
    places, now_s = read_places(config.places), clock.wall_ns() / NS_PER_S
    ids = list(dict.fromkeys([home, *(find_zone(zone).id for zone in wish.zones)]))
    views = {zone: zone_view(zone, places, config.grid, clock, run.deadline_s) for zone in ids}
    found = [
        Place(
            zone,
            view.outlook,
            pue=places.of(zone).pue or config.pue,
            moved_gb=0.0 if zone == home else wish.moved_gb,
        )
        for zone, view in views.items()
    ]
    placement = choose_place(run, found, now_s, home=home, settings=places.moving)
    advice = advise_zone(placement, home, "; ".join(f"{zone}: {view.model}" for zone, view in views.items()))
    return advice.model_copy(update={"facts": tuple(_fact(zone, view, now_s) for zone, view in views.items())})


def _fact(zone: str, view: View, now_s: float) -> Fact:
    return Fact(
        name=f"intensity of {zone}",
        value=view.outlook.at(now_s),
        unit="gCO2e/kWh",
        source=f"{view.source}, {view.grade}",
    )
