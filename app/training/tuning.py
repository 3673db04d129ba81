"""Which batch size and power limit train a job at least cost: windows of its own training, measured one by one.

Knows nothing of Ray or of models: the work, the meter and the limits are arguments. The search is in
app/policy/power_search.py. Windows teach nobody: they are run before the job, on a quiet node, since energy is that of
the devices, whoever uses them. Where limits cannot be set batch sizes alone are searched, and it says so.

    found = tune(settings, goal, work, meter, limits, clock, window_s=5.0, tell=print)
    found.best.setting, found.first.cost / found.best.cost

Raises InvalidInput when nothing could be measured, SensorUnusable when the devices cannot be read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.clock import Clock
from app.errors import InvalidInput, SensorUnusable
from app.policy.power_search import PowerSearch, PowerSetting, SearchGoal, Window
from app.units import NS_PER_S

_SETTLE_SHARE = 0.2  # of a window, trained before it: clocks follow a limit within a second
_LIMIT_STEPS = 8


class Work(Protocol):
    """The training of one job, with any batch size."""

    def begin(self, batch_size: int) -> None:
        """Start anew. Raises MemoryError where the batch does not fit; the next `begin` may be smaller."""

    def step(self) -> int:
        """One optimiser step; returns its samples. Raises MemoryError like `begin`."""

    def finish(self) -> None:
        """Wait for what steps left queued on a device."""


class EnergyMeter(Protocol):
    """The devices that the training uses."""

    def energy_uj(self) -> int:
        """Sum of their counters: only differences mean something. Raises SensorUnusable."""


class Limits(Protocol):
    """The power limits of the devices (`PowerLimits` of the sensors)."""

    lowest_mw: int
    highest_mw: int
    refusal: str

    @property
    def found_mw(self) -> int: ...
    def set(self, limit_mw: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a search found."""

    windows: Sequence[Window]
    """In order; the first is the job as it is."""
    best: Window
    settings: int
    """How many a sweep would have measured."""

    @property
    def first(self) -> Window:
        """The job as it is."""
        return self.windows[0]

    @property
    def saving(self) -> float:
        """Share of the cost that the best saves over the job as it is."""
        return 1 - self.best.cost / self.first.cost


def settings_of(batch_sizes: Sequence[int], limits: Limits | None) -> list[PowerSetting]:
    """Every batch size with every limit, those of the job as it is first: `batch_sizes[0]` at the limit found."""
    if limits is None or limits.refusal:
        return [PowerSetting(size, limits.found_mw if limits else 1) for size in batch_sizes]
    lowest, highest, found = limits.lowest_mw, limits.highest_mw, limits.found_mw
    ladder = [lowest + round((highest - lowest) * step / _LIMIT_STEPS / 1000) * 1000 for step in range(_LIMIT_STEPS)]
    limits_mw = list(dict.fromkeys([found, *ladder, highest]))
    return [PowerSetting(size, limit_mw) for size in batch_sizes for limit_mw in limits_mw]


def tune(
    settings: Sequence[PowerSetting],
    goal: SearchGoal,
    work: Work,
    meter: EnergyMeter,
    limits: Limits | None,
    clock: Clock,
    *,
    window_s: float,
    tell: Callable[[str], None],
) -> Tuning:
    """Search `settings` (`settings_of`), each window at least `window_s` seconds of steps after some to settle."""
    if limits is None and goal.eta < 1:
        raise InvalidInput(
            f"eta = {goal.eta:g} weighs time by the highest power limit, and there is none here; use 1, energy alone"
        )
    search = PowerSearch(settings, goal)
    settable = limits if limits is not None and not limits.refusal else None
    if settable is None:
        tell(f"batch sizes alone are searched: {limits.refusal if limits else 'there is no power limit to set here'}")
    while (setting := search.next()) is not None:
        try:
            samples, seconds, energy_uj = _window(setting, work, meter, settable, clock, window_s)
        except MemoryError:
            search.fail(setting)
            tell(f"batch {setting.batch_size}: does not fit into memory")
            continue
        tell(line(search.observe(setting, samples, seconds, energy_uj), settable is not None))
    return Tuning(search.windows, search.best(), len(settings))


def line(window: Window, with_limit: bool) -> str:
    """One window for people."""
    limit = f", {window.setting.limit_mw / 1000:g} W" if with_limit else ""
    return (
        f"batch {window.setting.batch_size}{limit}: {window.energy_uj_per_sample / 1000:.4g} mJ and "
        f"{window.seconds_per_sample * 1000:.4g} ms a sample, {window.power_mw / 1000:.3g} W"
    )


def _window(
    setting: PowerSetting, work: Work, meter: EnergyMeter, limits: Limits | None, clock: Clock, window_s: float
) -> tuple[int, float, int]:
    """Samples, seconds and microjoules of one window."""
    if limits is not None:
        limits.set(setting.limit_mw)
    work.begin(setting.batch_size)
    _steps(work, clock, window_s * _SETTLE_SHARE)
    before_uj, begun_ns = meter.energy_uj(), clock.monotonic_ns()
    samples = _steps(work, clock, window_s)
    energy_uj, ended_ns = meter.energy_uj() - before_uj, clock.monotonic_ns()
    if energy_uj < 0:
        raise SensorUnusable("a device's energy counter began again while it was measured; start the search again")
    return samples, (ended_ns - begun_ns) / NS_PER_S, energy_uj


def _steps(work: Work, clock: Clock, at_least_s: float) -> int:
    """Steps for so long, one at least; their samples."""
    end_ns = clock.monotonic_ns() + round(at_least_s * NS_PER_S)
    samples = work.step()
    while clock.monotonic_ns() < end_ns:
        samples += work.step()
    work.finish()
    return samples
