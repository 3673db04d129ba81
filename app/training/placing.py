"""Decides in which zone a run's workers shall be, with its hours in one, and tells later what came of it.

A shell around app/policy/placement.py: zones come from the labels of nodes and from the file of places, their grids
from the sources named there. The choice is a record that `joulekeeper why RUN` shows; Ray gets a label selector.

    placed = place_run(job, storage, run, clock, rooms_by_zone(resources), tell)
    ScalingConfig(label_selector=placed.selector, ...)
    placed.ended(hours_of(books, run), now_s)

Raises InvalidInput where no zone may have it, naming each one's reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from app.carbon.grid import open_grid
from app.carbon.grid_settings import GridSettings
from app.clock import Clock
from app.config import Settings, settings
from app.domain.decision import Choice, Course, Fact, Saving
from app.engine.decision_files import directory_of, keep_choice
from app.engine.places import Places, grid_of_zone, read_places, selector_of, zone_view
from app.engine.views import HourEnergy
from app.errors import InvalidInput, JoulekeeperError
from app.metering.node_zones import Room
from app.policy.placement import Place, PlaceLimits, Placement, choose_place
from app.policy.shifting import Rate, Run, ShiftSettings
from app.training.job import TrainJob
from app.training.pace_keeper import earlier_pace
from app.training.place import PLACE_FILE, Chosen, Where
from app.training.run_files import RunFiles
from app.training.schedule import estimate, terms_of
from app.training.start import Start
from app.units import NS_PER_S, UJ_PER_KWH

_S_PER_H, _UNKNOWN_HOURS, _UNKNOWN_POWER_W = 3600.0, 1.0, 1000.0


@dataclass(frozen=True, slots=True)
class Placed:
    """A run and its zone."""

    run: str
    zone: str
    home: str
    selector: Mapping[str, str]
    """Of the nodes that its workers shall be on."""
    grid: GridSettings
    """Where the zone's intensity comes from."""
    pue: float
    moved_g: float
    record: int

    def ended(self, hours: tuple[HourEnergy, ...], places: Places, config: Settings, clock: Clock) -> Choice | None:
        """Keep what came of it: its energy by the grid of its zone, against the same at home. None: nothing metered."""
        energy_uj = sum(each.energy_uj for each in hours)
        if not energy_uj:
            return None
        grams = _priced(hours, self.grid, clock) * self.pue + self.moved_g
        home_pue = places.of(self.home).pue or config.pue
        at_home_g = _priced(hours, grid_of_zone(self.home, places, config.grid), clock) * home_pue
        choice = Choice(
            at_s=clock.wall_ns() / NS_PER_S,
            action="ended",
            reasons=(f"{energy_uj / 1e6:.6g} J used in {self.zone}",),
            subject=self.run,
            topic="place",
            about=self.record,
            realised=Saving(
                carbon_g=at_home_g - grams,
                share=(at_home_g - grams) / at_home_g if at_home_g else None,
                basis="measured",
                against=f"the same energy in {self.home}",
                note=f"{grams:.6g} g with the data that moved, {at_home_g:.6g} g at home",
            ),
        )
        keep_choice(directory_of(config.state_dir, self.run), choice)
        return choice


def place_run(
    job: TrainJob,
    storage: str,
    run: str,
    clock: Clock,
    rooms: Mapping[str, Room],
    tell: Callable[[str], None],
    config: Settings | None = None,
) -> Placed | None:
    """The zone of `run`; None: its job file does not ask for one. A run that was placed before stays where it is as
    long as its zone has room."""
    where = job.place
    if where is None:
        return None
    config = config or settings()
    places, files = read_places(config.places), RunFiles.open(storage, run)
    kept = files.read(PLACE_FILE)
    chosen = Chosen.model_validate_json(kept) if kept else None
    if chosen is None or not _has_room(job, rooms.get(chosen.zone), places.of(chosen.zone).grows):
        # Checkpoints lie where every node reads them: what a run that goes on would move is its data alone.
        home = where.home if chosen is None else chosen.zone
        chosen = _decided(job, storage, run, clock, rooms, _at_home(where, home), places, config, tell)
        files.write(PLACE_FILE, chosen.model_dump_json())
    home = where.home or config.zone
    room = rooms.get(chosen.zone)
    return Placed(
        run=run,
        zone=chosen.zone,
        home=home,
        selector=room.selector if room else selector_of(chosen.zone),
        grid=grid_of_zone(chosen.zone, places, config.grid),
        pue=places.of(chosen.zone).pue or config.pue,
        moved_g=0.0 if chosen.zone == home else _moved_g(chosen.moved_gb, (chosen.zone, home), places, config, clock),
        record=chosen.record,
    )


def _at_home(where: Where, home: str | None) -> Where:
    """As `where`, its data at `home`."""
    return where.model_copy(update={"home": home})


def _decided(
    job: TrainJob,
    storage: str,
    run: str,
    clock: Clock,
    rooms: Mapping[str, Room],
    where: Where,
    places: Places,
    config: Settings,
    tell: Callable[[str], None],
) -> Chosen:
    now_s, home = clock.wall_ns() / NS_PER_S, where.home or config.zone
    work, known_from, knows_power = _run_of(job, storage, now_s)
    candidates = sorted({*rooms, *(zone for zone, terms in places.zones.items() if terms.grows)})
    if not candidates:
        raise InvalidInput(
            "place: no node says which zone it is in; start nodes with --labels=joulekeeper.io/zone=ZONE, "
            "or remove `place` from the job file"
        )
    options = [
        Place(
            zone=zone,
            outlook=zone_view(zone, places, config.grid, clock, work.deadline_s).outlook,
            latency_ms=places.of(zone).latency_ms,
            free_workers=None if places.of(zone).grows or zone not in rooms else rooms[zone].workers,
            pue=places.of(zone).pue or config.pue,
            moved_gb=0.0 if zone == home else where.data_gb,
        )
        for zone in candidates
    ]
    limits = PlaceLimits(where.latency_ms, frozenset(where.zones) or None)
    start = job.start or Start(slack_hours=0)
    shifting = ShiftSettings(least_saving=start.least_saving)
    placement = choose_place(_fewest(work, job), options, now_s, home, limits, places.moving, shifting)
    record = keep_choice(
        directory_of(config.state_dir, run),
        choice_of(run, placement, options, now_s, home, known_from, knows_power=knows_power),
    )
    tell(f"{run}: placed in {placement.reasons[0]}")
    return Chosen(zone=placement.zone, moved_gb=0.0 if placement.zone == home else where.data_gb, record=record)


def choice_of(
    subject: str,
    placement: Placement,
    options: list[Place],
    now_s: float,
    home: str,
    known_from: tuple[str, ...],
    *,
    knows_power: bool,
) -> Choice:
    """The record of a placement. Grams of what has no known power are left out: shares are right all the same."""
    saved = None
    if placement.home_g:
        saved_g = placement.home_g - placement.expected_g
        saved = Saving(
            carbon_g=saved_g if knows_power else None,
            share=saved_g / placement.home_g,
            basis="forecast",
            against=f"running in {home}",
        )
    return Choice(
        at_s=now_s,
        action=f"place in {placement.zone}",
        reasons=placement.reasons if knows_power else (*placement.reasons, "its power is not known: grams are of 1 kW"),
        subject=subject,
        topic="place",
        facts=_facts(options, now_s, home, known_from),
        courses=_courses(placement, options, knows_power=knows_power),
        chosen=placement.zone,
        expected=saved,
    )


def _facts(options: list[Place], now_s: float, home: str, known_from: tuple[str, ...]) -> tuple[Fact, ...]:
    facts = [Fact(name="home", value=home, basis="set"), *(Fact(name="known from", value=each) for each in known_from)]
    for each in options:
        grid = round(each.outlook.at(now_s), 2)
        facts.append(Fact(name=f"grid of {each.zone} now", value=grid, unit="gCO2e/kWh", basis="forecast"))
        if each.latency_ms is not None:
            facts.append(Fact(name=f"latency to {each.zone}", value=each.latency_ms, unit="ms", basis="set"))
    return tuple(facts)


def _courses(placement: Placement, options: list[Place], *, knows_power: bool) -> tuple[Course, ...]:
    pue = {each.zone: each.pue for each in options}
    return tuple(
        Course(
            name=option.zone,
            carbon_g=option.expected_g if knows_power else None,
            energy_j=option.plan.kwh * 3.6e6 * pue[option.zone] if knows_power else None,
            finish_s=option.plan.finish_s,
            basis="forecast",
            note=f"{option.moved_g:.4g} g of it for moving its data" if option.moved_g else "",
        )
        for option in placement.options
    )


def _run_of(job: TrainJob, storage: str, now_s: float) -> tuple[Run, tuple[str, ...], bool]:
    """The run as it is planned, what is known of it, and whether its power is."""
    start = job.start or Start(slack_hours=0)
    try:
        known = estimate(job, start, earlier_pace(storage, job.name))
    except InvalidInput:
        most = job.workers.max
        said = (f"nobody has seen how long it takes: {_UNKNOWN_HOURS:g} h is assumed to compare zones",)
        rates = {most: Rate(1.0, _UNKNOWN_POWER_W)}
        return Run(rates, _UNKNOWN_HOURS, now_s + _UNKNOWN_HOURS * _S_PER_H), said, False
    hours = known.hours + known.setup_s / _S_PER_H
    deadline_s = terms_of(start, now_s, hours).deadline_s
    run = Run(known.rates, hours, deadline_s, start.interruptible, known.restart)
    return run, known.known_from, known.power_known


def _fewest(run: Run, job: TrainJob) -> Run:
    """The run as its group may be: a zone that has room for `workers.min` of them may have it."""
    if job.workers.min in run.rates or not job.workers.elastic:
        return run
    most = max(run.rates)
    whole, share = run.rates[most], job.workers.min / most
    return replace(run, rates={**run.rates, job.workers.min: Rate(whole.speed * share, whole.power_w * share)})


def _has_room(job: TrainJob, room: Room | None, grows: bool) -> bool:
    return grows or (room is not None and (room.workers is None or room.workers >= job.workers.min))


def _moved_g(moved_gb: float, ends: tuple[str, str], places: Places, config: Settings, clock: Clock) -> float:
    """Of moving data between two zones, at the mean of what their grids emit now."""
    if not moved_gb:
        return 0.0
    now_s = clock.wall_ns() / NS_PER_S
    views = [zone_view(zone, places, config.grid, clock, now_s + _S_PER_H).outlook.at(now_s) for zone in ends]
    return moved_gb * places.kwh_per_gb * sum(views) / len(views)


def _priced(hours: tuple[HourEnergy, ...], grid: GridSettings, clock: Clock) -> float:
    """Grams of energy by the hours in which it was used."""
    opened = open_grid(grid, clock)
    try:
        opened.refresh()
        series = opened.average()
        return sum(
            each.energy_uj
            / UJ_PER_KWH
            * series.mean_between(each.start_s * NS_PER_S, (each.start_s + each.width_s) * NS_PER_S).g_per_kwh
            for each in hours
        )
    finally:
        opened.close()


def reporting(
    placed: Placed | None, hours: Callable[[], tuple[HourEnergy, ...]], clock: Clock, tell: Callable[[str], None]
) -> None:
    """As `Placed.ended`, of a run that was placed; a record that cannot be kept costs a line, never the run."""
    if placed is None:
        return
    try:
        choice = placed.ended(hours(), read_places(settings().places), settings(), clock)
    except JoulekeeperError as error:
        tell(f"{placed.run}: what its place saved is not recorded: {error}")
        return
    if choice and choice.realised and choice.realised.share is not None:
        tell(f"{placed.run}: {choice.realised.share:.1%} less carbon in {placed.zone} than in {placed.home}")
