"""Power of the servers while a job ran, and what it makes of E = P x t.

Two figures that come by different ways are set side by side: power sampled about once a second, averaged
and multiplied by the duration; and the energy that the ledger booked for the same time from the devices'
counters. `PowerWatch` asks for a status in a thread; everything else is arithmetic. Knows nothing of jobs.

    with PowerWatch(books.status, clock) as watch:
        ...
    rows = servers(watch.samples, start_ns, end_ns, lag_ns)
"""

import itertools
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.clock import Clock
from app.engine.views import Status
from app.errors import JoulekeeperError
from app.units import NS_PER_S, energy_of_power

_PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class PowerSample:
    """All servers at one instant."""

    at_ns: int
    power_mw: Mapping[str, int]
    """By node, over its devices."""
    booked_uj: Mapping[str, int]
    """By node: on the books so far, which lags behind by the time a meter takes to settle."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server over the time of a job."""

    node: str
    mean_power_mw: float
    seconds: float
    product_uj: int
    """Mean power times seconds."""
    booked_uj: int
    """What the ledger booked for the same time."""

    @property
    def difference(self) -> float:
        """Product against booked, as a share of booked; 0 when nothing was booked."""
        return self.product_uj / self.booked_uj - 1 if self.booked_uj else 0.0


class PowerWatch:
    """Samples a status about once a second between enter and exit. A status that fails is a sample less."""

    def __init__(self, status: Callable[[], Status], clock: Clock) -> None:
        self._status, self._clock = status, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="joulekeeper-power", daemon=True)
        self.samples: list[PowerSample] = []
        self.trouble = ""
        """Why the last status failed, if one did."""

    def __enter__(self) -> "PowerWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.samples.append(sample_of(self._status(), self._clock.monotonic_ns()))
            except JoulekeeperError as error:
                self.trouble = str(error)
            self._stop.wait(_PERIOD_S)


def sample_of(status: Status, at_ns: int) -> PowerSample:
    """The sample in a status; devices that do not tell their power count 0."""
    power_mw: dict[str, int] = defaultdict(int)
    booked_uj: dict[str, int] = defaultdict(int)
    for device in status.devices:
        power_mw[device.node] += device.power_mw or 0
        booked_uj[device.node] += device.energy_uj
    return PowerSample(at_ns, dict(power_mw), dict(booked_uj))


def servers(samples: Sequence[PowerSample], start_ns: int, end_ns: int, lag_ns: int) -> list[ServerRow]:
    """One row per server over [start_ns, end_ns), by name; empty unless two samples lie in it.

    The books at an instant tell of `lag_ns` before, so booked energy is read that much later.
    """
    inside = [sample for sample in samples if start_ns <= sample.at_ns <= end_ns]
    if len(inside) < 2:
        return []
    nodes = sorted({node for sample in inside for node in sample.power_mw})
    return [_row(node, inside, samples, (start_ns, end_ns), lag_ns) for node in nodes]


def _row(
    node: str, inside: Sequence[PowerSample], samples: Sequence[PowerSample], span_ns: tuple[int, int], lag_ns: int
) -> ServerRow:
    start_ns, end_ns = span_ns
    mean_mw = _mean_power(node, inside)
    booked = _booked_at(node, samples, end_ns + lag_ns) - _booked_at(node, samples, start_ns + lag_ns)
    duration_ns = end_ns - start_ns
    return ServerRow(node, mean_mw, duration_ns / NS_PER_S, energy_of_power(mean_mw, duration_ns), round(booked))


def _mean_power(node: str, samples: Sequence[PowerSample]) -> float:
    """Mean over time, by trapezoids."""
    area = 0.0
    for before, after in itertools.pairwise(samples):
        heights = before.power_mw.get(node, 0) + after.power_mw.get(node, 0)
        area += heights / 2 * (after.at_ns - before.at_ns)
    return area / (samples[-1].at_ns - samples[0].at_ns)


def _booked_at(node: str, samples: Sequence[PowerSample], at_ns: int) -> float:
    """Booked energy at an instant: between two samples on the line through them, outside the nearest one."""
    place = bisect_left([sample.at_ns for sample in samples], at_ns)
    after = samples[min(place, len(samples) - 1)]
    before = samples[max(place - 1, 0)]
    low, high = before.booked_uj.get(node, 0), after.booked_uj.get(node, 0)
    span = after.at_ns - before.at_ns
    return low + (high - low) * min(1.0, max(0.0, (at_ns - before.at_ns) / span)) if span else float(low)
