"""Errors against the truth, and whether the bars are met. Pure: outcomes in, rows and verdicts out.

An error is |measured - true| / true. What a tool could not measure counts as an error of 1. Windows at whose begin or
end the machine woke our own process or Zeus's more than `MAX_LATE_NS` late are left out for everybody, with those
beside them.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from scenarios import NS_PER_MS, Scene, Window, energy_uj
from side_by_side import OURS, TOOLS, Outcome

TOTAL_BAR = 0.001
LONG_MS, LONG_MEDIAN_BAR, LONG_P99_BAR = 500, 0.02, 0.05
SHORT_OF_BOUND_BAR = 1.5
MAX_LATE_NS = 5 * NS_PER_MS
SHORT_BINS_MS = (20, 50, 100, 200, 500)
_NEAR_NS = 200 * NS_PER_MS  # two readings at 10 Hz
_PUNCTUAL = (OURS, "zeus")


@dataclass(frozen=True)
class Spread:
    """Errors of one tool in one row."""

    median: float
    p99: float
    worst: float
    failed: int

    @classmethod
    def of(cls, errors: Sequence[float], failed: int = 0) -> "Spread":
        ordered = sorted(errors)
        return cls(statistics.median(ordered), ordered[math.ceil(0.99 * len(ordered)) - 1], ordered[-1], failed)


def true_total_uj(scene: Scene, span_ns: tuple[int, int]) -> float:
    return energy_uj(scene.phases, *span_ns)


def total_errors(outcome: Outcome, device: int) -> dict[str, float]:
    """Relative error of the device's total by tool, each against the truth of the interval that it says it measured."""
    scene, books = outcome.scenes[device], outcome.books[device]
    true_uj = true_total_uj(scene, outcome.total_span_ns(device))
    ours_true_uj = true_total_uj(scene, books.run_ns)
    errors = {OURS: abs(books.run_uj - ours_true_uj) / ours_true_uj}
    for tool in TOOLS[1:]:
        energy = outcome.records[tool][f"total/{device}"]["energy"]
        errors[tool] = 1.0 if energy is None else abs(energy - true_uj) / true_uj
    return errors


def sum_errors_uj(outcome: Outcome, device: int) -> tuple[int, int]:
    """Postings against the counter's movement, and receipts against what was posted to requests; both must be 0."""
    books, scene = outcome.books[device], outcome.scenes[device]
    receipts = sum(outcome.records[OURS][window.id]["energy"] or 0 for window in scene.windows)
    return books.posted_uj - books.movement_uj, receipts - books.work_uj


def punctual(outcome: Outcome, window: Window) -> bool:
    return all(max(outcome.records[tool][window.id]["late_ns"]) <= MAX_LATE_NS for tool in _PUNCTUAL)


def kept(outcome: Outcome, scene: Scene) -> list[Window]:
    """Windows that were measured when they should, and so were those that touch them."""
    late = [window for window in scene.windows if not punctual(outcome, window)]
    return [
        window
        for window in scene.windows
        if not any(
            other.start_ns - _NEAR_NS < window.end_ns and window.start_ns < other.end_ns + _NEAR_NS for other in late
        )
    ]


def error_of(record: dict, window: Window) -> float:
    return 1.0 if record["energy"] is None else abs(record["energy"] - window.energy_uj) / window.energy_uj


def spreads(outcome: Outcome, windows: Sequence[Window]) -> dict[str, Spread]:
    """By tool; a tool that does not measure windows is left out."""
    found = {}
    for tool in TOOLS:
        records = [outcome.records[tool][w.id] for w in windows if w.id in outcome.records[tool]]
        if len(records) == len(windows):
            errors = [error_of(record, window) for record, window in zip(records, windows, strict=True)]
            found[tool] = Spread.of(errors, sum(record["energy"] is None for record in records))
    return found


def pooled(outcome: Outcome, long: bool) -> list[Window]:
    """Requests of `LONG_MS` and more, or the shorter ones, where the device tells what attribution must know."""
    return [
        window
        for scene in outcome.scenes
        if scene.knowable
        for window in kept(outcome, scene)
        if (window.length_ms >= LONG_MS) == long
    ]


def tick_bound(outcome: Outcome, window: Window) -> float:
    """What a counter that moves every tick can tell of a window: one tick at its edges, over its length."""
    return outcome.tick_ms / window.length_ms


def short_rows(outcome: Outcome) -> list[dict]:
    """Requests shorter than LONG_MS by length: errors beside the bound of the tick."""
    rows = []
    short = pooled(outcome, long=False)
    for low, high in pairwise(SHORT_BINS_MS):
        windows = [window for window in short if low <= window.length_ms < high]
        if windows:
            ratios = [error_of(outcome.records[OURS][w.id], w) / tick_bound(outcome, w) for w in windows]
            rows.append(
                {
                    "bin": f"{low}-{high} ms",
                    "count": len(windows),
                    "bound": statistics.median(tick_bound(outcome, window) for window in windows),
                    "spreads": spreads(outcome, windows),
                    "of_bound_p99": Spread.of(ratios).p99,
                }
            )
    return rows


def lateness_ms(outcome: Outcome) -> dict[str, tuple[float, float]]:
    """Median and p99 of how late a tool was called, by tool."""
    found = {}
    for tool in TOOLS:
        late = sorted(late / NS_PER_MS for record in outcome.records[tool].values() for late in record["late_ns"])
        if late:
            found[tool] = (statistics.median(late), late[math.ceil(0.99 * len(late)) - 1])
    return found


Verdict = tuple[str, str, str, bool]
"""What, measured, bar, met."""


def verdicts(outcome: Outcome) -> list[Verdict]:
    """Every bar on accuracy."""
    found: list[Verdict] = []
    devices = range(len(outcome.scenes))
    totals = [total_errors(outcome, device) for device in devices]
    worst = max(errors[OURS] for errors in totals)
    found.append(("total energy, worst device", f"{worst:.4%}", f"<= {TOTAL_BAR:.1%}", worst <= TOTAL_BAR))
    beaten = [outcome.scenes[n].name for n in devices if totals[n][OURS] > min(totals[n].values())]
    found.append(("total energy, smallest in every row", _but(beaten), "all rows", not beaten))
    beaten = []
    for scene in outcome.scenes:
        found_spreads = spreads(outcome, kept(outcome, scene)) if kept(outcome, scene) else {}
        for figure in ("median", "p99"):
            values = {tool: getattr(spread, figure) for tool, spread in found_spreads.items()}
            if values and values[OURS] > min(values.values()):
                beaten.append(f"{scene.name} ({figure})")
    found.append(("attribution, smallest in every row", _but(beaten), "all rows", not beaten))
    if long := pooled(outcome, long=True):
        spread = spreads(outcome, long)[OURS]
        met = spread.median <= LONG_MEDIAN_BAR, spread.p99 <= LONG_P99_BAR
        what = f"requests of {LONG_MS} ms and more ({len(long)})"
        found.append((f"{what}: median", f"{spread.median:.2%}", f"<= {LONG_MEDIAN_BAR:.0%}", met[0]))
        found.append((f"{what}: p99", f"{spread.p99:.2%}", f"<= {LONG_P99_BAR:.0%}", met[1]))
    for row in short_rows(outcome):
        ratio = row["of_bound_p99"]
        what = f"requests of {row['bin']} ({row['count']}): p99 of error over tick bound"
        found.append((what, f"{ratio:.2f} x", f"<= {SHORT_OF_BOUND_BAR} x", ratio <= SHORT_OF_BOUND_BAR))
    sums = [error for device in devices for error in sum_errors_uj(outcome, device)]
    off = max(map(abs, sums))
    found.append(("sum error: postings, receipts", f"{off} uJ", "0 uJ", off == 0))
    return found


def _but(beaten: Sequence[str]) -> str:
    return f"but {', '.join(beaten)}" if beaten else "all rows"
