"""The scenarios of accuracy.py: what every device draws, who works when, and the true energy of each piece of work.

Knows nothing of who measures. Time is nanoseconds from the start of the plan, power milliwatts; everything follows from
the seed. Work never begins or ends on a tick of the counter but by chance.

    scene = scenes(seed=1, span_s=30)[0]
    scene.phases       # (from, mW): what the stand-in is told
    scene.windows      # what is measured; their `energy_uj` only the judge sees
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
FLOOR_MW = 60_000
PJ_PER_UJ = 1_000_000  # 1 mW during 1 ns is 1 pJ

Phases = list[tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """A piece of work of one process on one device."""

    id: str
    process: str
    lane: int
    start_ns: int
    end_ns: int
    energy_uj: float
    """The truth. Shared power is divided by what each owner adds to it; the floor goes along."""
    weight: float = 1.0

    @property
    def length_ms(self) -> float:
        return (self.end_ns - self.start_ns) / NS_PER_MS


@dataclass
class Scene:
    """One device through one run."""

    name: str
    phases: Phases
    windows: list[Window]
    shares_percent: dict[str, int] = field(default_factory=dict)
    """By process: the utilisation that NVML tells; empty: it names no process."""
    faults_ns: tuple[int, int] | None = None
    """From, until: reading the counter fails."""
    reset_ns: int | None = None
    knowable: bool = True
    """False where the device does not tell what an attributor would have to know."""


def energy_uj(phases: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> float:
    """Integral of piecewise constant power over [start_ns, end_ns); 0 before the first phase."""
    edges = [*phases, (max(end_ns, phases[-1][0]), 0)]
    total = 0
    for (begin, power_mw), (finish, _) in pairwise(edges):
        total += power_mw * max(0, min(finish, end_ns) - max(begin, start_ns))
    return total / PJ_PER_UJ


class _Alone:
    """A device that one process has for itself, built from left to right."""

    def __init__(self, name: str, dice: random.Random, span_ns: int) -> None:
        self.name, self.dice, self.span_ns = name, dice, span_ns
        self.now_ns = 0
        self.phases: Phases = [(0, FLOOR_MW)]
        self.cuts: list[tuple[int, int]] = []

    @property
    def goes_on(self) -> bool:
        """Room is left for one more piece and the rest after it."""
        return self.now_ns < self.span_ns - 3 * NS_PER_S

    def rest(self, low_ms: float, high_ms: float) -> None:
        """Idle; the floor drifts by up to 3 W."""
        self.phases.append((self.now_ns, FLOOR_MW + self.dice.randint(-3_000, 3_000)))
        self.now_ns += round(self.dice.uniform(low_ms, high_ms) * NS_PER_MS)

    def work(self, low_ms: float, high_ms: float, steps: int = 1) -> None:
        """One piece of work in up to `steps` phases of 150 to 650 W."""
        length_ns = round(self.dice.uniform(low_ms, high_ms) * NS_PER_MS)
        inner = sorted(self.dice.uniform(0.15, 0.85) for _ in range(self.dice.randint(1, steps) - 1))
        for part in [0.0, *inner]:
            self.phases.append((self.now_ns + round(part * length_ns), self.dice.randint(150_000, 650_000)))
        self.cuts.append((self.now_ns, self.now_ns + length_ns))
        self.now_ns += length_ns

    def mark(self, length_ms: float) -> None:
        """A window over whatever the device draws."""
        self.cuts.append((self.now_ns, self.now_ns + round(length_ms * NS_PER_MS)))
        self.now_ns += round(length_ms * NS_PER_MS)

    def scene(self) -> Scene:
        if len(self.phases) > 1:
            self.phases.append((self.now_ns, FLOOR_MW))
        windows = [
            Window(f"{self.name}/{n}", self.name, 0, start, end, energy_uj(self.phases, start, end))
            for n, (start, end) in enumerate(self.cuts)
        ]
        return Scene(self.name, self.phases, windows)


def _idle(name: str, dice: random.Random, span_ns: int) -> Scene:
    device = _Alone(name, dice, span_ns)
    device.now_ns = NS_PER_S
    while device.goes_on:
        device.mark(dice.uniform(500, 2_000))
        device.now_ns += round(dice.uniform(200, 900) * NS_PER_MS)
    return device.scene()


def _isolated(low_ms: float, high_ms: float, gap_ms: float, steps: int) -> Callable[[str, random.Random, int], Scene]:
    def build(name: str, dice: random.Random, span_ns: int) -> Scene:
        device = _Alone(name, dice, span_ns)
        device.rest(800, 1_200)
        while device.goes_on:
            device.work(low_ms, high_ms, steps)
            device.rest(gap_ms / 2, gap_ms * 1.5)
        return device.scene()

    return build


def _back_to_back(low_ms: float, high_ms: float, steps: int) -> Callable[[str, random.Random, int], Scene]:
    """Trains of four to eight requests without a gap, each with a power of its own."""

    def build(name: str, dice: random.Random, span_ns: int) -> Scene:
        device = _Alone(name, dice, span_ns)
        device.rest(800, 1_200)
        while device.goes_on:
            for _ in range(dice.randint(4, 8)):
                if device.goes_on:
                    device.work(low_ms, high_ms, steps)
            device.rest(300, 600)
        return device.scene()

    return build


def _failed_read(name: str, dice: random.Random, span_ns: int) -> Scene:
    """Reading fails for half a second, in the middle of the run and over the end of a window."""
    scene = _isolated(500, 2_000, 500, 2)(name, dice, span_ns)
    hit = min(scene.windows, key=lambda window: abs(window.end_ns - span_ns // 2))
    scene.faults_ns = (hit.end_ns - 250 * NS_PER_MS, hit.end_ns + 250 * NS_PER_MS)
    return scene


def _reset(name: str, dice: random.Random, span_ns: int) -> Scene:
    """The counter begins again between two windows: a driver is reloaded while nobody works."""
    scene = _isolated(500, 2_000, 500, 2)(name, dice, span_ns)
    index = min(range(1, len(scene.windows)), key=lambda n: abs(scene.windows[n].start_ns - span_ns // 2))
    scene.reset_ns = (scene.windows[index - 1].end_ns + scene.windows[index].start_ns) // 2
    return scene


Span = tuple[int, int, str, int, float, float]
"""start_ns, end_ns, process, lane, added mW, weight."""


def _shared(name: str, spans: Sequence[Span]) -> tuple[Phases, list[Window]]:
    """Power that several owners add to, and the truth of each: P x own addition / all additions, at every instant."""
    edges = sorted({0, *(edge for span in spans for edge in span[:2])})
    phases: Phases = []
    truth = [0.0] * len(spans)
    for begin, finish in pairwise([*edges, edges[-1] + 1]):
        there = [n for n, span in enumerate(spans) if span[0] <= begin < span[1]]
        added = sum(spans[n][4] for n in there)
        power_mw = round(FLOOR_MW + added)
        phases.append((begin, power_mw))
        for n in there:
            truth[n] += power_mw * (finish - begin) * spans[n][4] / added / PJ_PER_UJ
    windows = [
        Window(f"{name}/{n}", process, lane, start, end, truth[n], weight)
        for n, (start, end, process, lane, _, weight) in enumerate(spans)
    ]
    return phases, windows


def _steady_spans(
    dice: random.Random,
    span_ns: int,
    process: str,
    lane: int,
    lengths_ms: tuple,
    gaps_ms: tuple,
    mw: float,
    weight: float,
) -> list[Span]:
    spans, now_ns = [], round(dice.uniform(900, 1_500) * NS_PER_MS)
    while now_ns < span_ns - 3 * NS_PER_S:
        end_ns = now_ns + round(dice.uniform(*lengths_ms) * NS_PER_MS)
        spans.append((now_ns, end_ns, process, lane, mw, weight))
        now_ns = end_ns + round(dice.uniform(*gaps_ms) * NS_PER_MS)
    return spans


def _two_jobs(told: bool) -> Callable[[str, random.Random, int], Scene]:
    """Two processes on one device: one adds 270 W in long steps, the other 90 W in shorter ones."""

    def build(name: str, dice: random.Random, span_ns: int) -> Scene:
        heavy, light = f"{name} heavy", f"{name} light"
        spans = _steady_spans(dice, span_ns, heavy, 0, (1_000, 2_000), (50, 400), 270_000, 1)
        spans += _steady_spans(dice, span_ns, light, 1, (500, 1_200), (50, 700), 90_000, 1)
        phases, windows = _shared(name, spans)
        shares = {heavy: 60, light: 20} if told else {}
        return Scene(name, phases, windows, shares, knowable=told)

    return build


def _batch(name: str, dice: random.Random, span_ns: int) -> Scene:
    """Requests of one process that overlap, as in continuous batching; each adds 40 W per row, its weight."""
    spans: list[Span] = []
    for lane, rows in enumerate((1, 2, 4)):
        spans += _steady_spans(dice, span_ns, name, lane, (500, 2_000), (100, 500), 40_000.0 * rows, rows)
    phases, windows = _shared(name, spans)
    return Scene(name, phases, windows)


BUILDERS: dict[str, Callable[[str, random.Random, int], Scene]] = {
    "idle floor": _idle,
    "load steps": _isolated(1_000, 2_000, 700, 4),
    "requests 0.5-2 s": _isolated(500, 2_000, 350, 2),
    "requests 20-500 ms": _isolated(20, 500, 250, 1),
    "back to back 0.5-2 s": _back_to_back(500, 2_000, 2),
    "back to back 20-500 ms": _back_to_back(20, 500, 1),
    "batch, overlapping": _batch,
    "two jobs": _two_jobs(told=True),
    "two jobs, use untold": _two_jobs(told=False),
    "failed read": _failed_read,
    "counter reset": _reset,
}


def scenes(seed: int, span_s: float) -> list[Scene]:
    """One device per scenario, all of the same span."""
    span_ns = round(span_s * NS_PER_S)
    return [build(name, random.Random(f"{seed}/{name}"), span_ns) for name, build in BUILDERS.items()]


def scenes_of_truth(phases_of: Sequence[Phases], span_ns: tuple[int, int], tolerance: float = 0.1) -> list[Scene]:
    """Scenes of a foreign truth file: every step above a device's floor is a request of the device's one process.

    The floor is the lowest power of the device; power within `tolerance` above it is idle. Steps shorter than 20 ms
    belong to the request before them. A device that is never idle is measured step by step.
    """
    return [_of_truth(f"device {n}", phases, span_ns, tolerance) for n, phases in enumerate(phases_of)]


def _of_truth(name: str, phases: Phases, span_ns: tuple[int, int], tolerance: float) -> Scene:
    first_ns, last_ns = span_ns
    floor_mw = min(power_mw for _, power_mw in phases) * (1 + tolerance)
    cuts: list[list[int]] = []
    for (begin, power_mw), (finish, _) in pairwise([*phases, (last_ns, 0)]):
        begin, finish = max(begin, first_ns), min(finish, last_ns)
        if finish <= begin or power_mw <= floor_mw:
            continue
        if cuts and cuts[-1][1] == begin and finish - begin < 20 * NS_PER_MS:
            cuts[-1][1] = finish
        else:
            cuts.append([begin, finish])
    windows = [
        Window(f"{name}/{n}", name, 0, start, end, energy_uj(phases, start, end)) for n, (start, end) in enumerate(cuts)
    ]
    return Scene(name, phases, windows)
