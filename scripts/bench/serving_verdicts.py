"""The bars of the serving benchmark and its tables, over the rounds of a run.

A ratio is the median of the rounds' ratios: both sides of each were measured within seconds of one another. Knows
nothing of how the figures came to be.

    rounds = [{"sides": {"joulekeeper": {"cells": {"noop": {"1": {...}}}}}, "torch_loop": {"8": rows a second}}]
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

OURS, BARE, LITSERVE, FASTAPI = "joulekeeper", "ray-same-flags", "litserve", "fastapi"
BARE_BAR, LITSERVE_BAR, FASTAPI_BAR = 0.9, 3.0, 0.75
PEER_BAR, LOOP_BAR, LOOP_CLIENTS = 1.0, 0.9, 64
BINARY_BAR = 2.0
ADDED_P50_BAR_MS, ADDED_P50_CLIENTS = 0.5, 1
LIGHT = ("noop", "mlp")


class Verdict(NamedTuple):
    """One bar."""

    what: str
    measured: float
    bar: str
    met: bool


class Figures:
    """The rounds of one run."""

    def __init__(self, rounds: Sequence[dict], sides: Sequence[str], workloads: Sequence[str]) -> None:
        self._rounds, self.sides, self.workloads = rounds, sides, workloads

    def clients(self) -> list[int]:
        found = {int(c) for round_ in self._rounds for side in round_["sides"].values() for c in _clients(side)}
        return sorted(found)

    def median(self, side: str, workload: str, clients: int, value: str = "requests_per_s") -> float | None:
        """None where it was not measured."""
        found = [cell[value] for round_ in self._rounds if (cell := _cell(round_, side, workload, clients))]
        return statistics.median(found) if found else None

    def idle(self, side: str) -> float | None:
        found = [share for round_ in self._rounds if (share := round_.get("idle_share", {}).get(side)) is not None]
        return statistics.median(found) if found else None

    def paired(
        self, of: tuple[str, str], to: tuple[str, str], clients: int, how: Callable[[dict, dict], float]
    ) -> float | None:
        """Median over the rounds that have both: (side, workload) `of` and `to`."""
        pairs = [(_cell(r, *of, clients), _cell(r, *to, clients)) for r in self._rounds]
        found = [how(one, other) for one, other in pairs if one and other]
        return statistics.median(found) if found else None

    def loop_ratio(self) -> float | None:
        """Our minilm over the bare torch loop at its best batch."""
        found = [
            cell["requests_per_s"] / max(round_["torch_loop"].values())
            for round_ in self._rounds
            if round_["torch_loop"] and (cell := _cell(round_, OURS, "minilm", LOOP_CLIENTS))
        ]
        return statistics.median(found) if found else None


def verdicts(figures: Figures) -> list[Verdict]:
    """Every bar for which there are figures."""
    return [*_light(figures), *_minilm(figures), *_binary(figures), *_added(figures)]


def _light(figures: Figures) -> Iterator[Verdict]:
    bars = {BARE: BARE_BAR, LITSERVE: LITSERVE_BAR, FASTAPI: FASTAPI_BAR}
    for workload in LIGHT:
        for peer, bar in bars.items():
            for clients in figures.clients():
                ratio = figures.paired((OURS, workload), (peer, workload), clients, _rates)
                yield from _at_least(f"{workload}, c={clients}, over {peer}", ratio, bar)


def _minilm(figures: Figures) -> Iterator[Verdict]:
    for clients in figures.clients():
        ratios = {
            peer: ratio
            for peer in figures.sides
            if peer != OURS and (ratio := figures.paired((OURS, "minilm"), (peer, "minilm"), clients, _rates))
        }
        if ratios:
            best = min(ratios, key=lambda peer: ratios[peer])
            yield from _at_least(f"minilm, c={clients}, over the best peer ({best})", ratios[best], PEER_BAR)
    yield from _at_least(f"minilm, c={LOOP_CLIENTS}, over a bare torch loop", figures.loop_ratio(), LOOP_BAR)


def _binary(figures: Figures) -> Iterator[Verdict]:
    for clients in figures.clients():
        ratio = figures.paired((OURS, "tensor-binary"), (OURS, "tensor-json"), clients, _rates)
        yield from _at_least(f"1 MiB, c={clients}, binary over JSON", ratio, BINARY_BAR)


def _added(figures: Figures) -> Iterator[Verdict]:
    for workload in (*LIGHT, "minilm"):
        added = figures.paired(
            (OURS, workload), (BARE, workload), ADDED_P50_CLIENTS, lambda ours, bare: ours["p50_ms"] - bare["p50_ms"]
        )
        if added is not None:
            what = f"{workload}, c={ADDED_P50_CLIENTS}, p50 added to {BARE}, ms"
            yield Verdict(what, added, f"<= {ADDED_P50_BAR_MS}", added <= ADDED_P50_BAR_MS)


def _at_least(what: str, ratio: float | None, bar: float) -> Iterator[Verdict]:
    if ratio is not None:
        yield Verdict(what, ratio, f">= {bar}", ratio >= bar)


def _rates(one: dict, other: dict) -> float:
    return float(one["requests_per_s"] / other["requests_per_s"])


def _cell(round_: dict, side: str, workload: str, clients: int) -> dict | None:
    return round_["sides"].get(side, {}).get("cells", {}).get(workload, {}).get(str(clients))


def _clients(side: dict) -> Iterator[str]:
    for cells in side["cells"].values():
        yield from cells


def print_tables(figures: Figures) -> None:
    """Requests a second and p50 by side and number of clients; then the bars."""
    for workload in figures.workloads:
        rows = {
            side: [_printed(figures, side, workload, clients) for clients in figures.clients()]
            for side in figures.sides
        }
        rows = {side: cells for side, cells in rows.items() if "".join(cells).strip()}
        if rows:
            heads = [f"{f'c={c}: 1/s':>11} {'p50 ms':>8} {'CPU us':>8}" for c in figures.clients()]
            print("\n".join([f"\n{workload:15}" + "".join(heads), *(f"{s:15}" + "".join(c) for s, c in rows.items())]))
    idle = {side: figures.idle(side) for side in figures.sides}
    print("\nCPU of a side that nobody asks, parts of a core: ", end="")
    print(", ".join(f"{side} {share:.2f}" for side, share in idle.items() if share is not None))
    for verdict in verdicts(figures):
        print(f"{verdict.what}: {verdict.measured:.2f} (bar {verdict.bar}) {'met' if verdict.met else 'MISSED'}")


def _printed(figures: Figures, side: str, workload: str, clients: int) -> str:
    rate = figures.median(side, workload, clients)
    if rate is None:
        return " " * 29
    p50_ms = figures.median(side, workload, clients, "p50_ms")
    return f"{rate:11.0f} {p50_ms:8.2f} {figures.median(side, workload, clients, 'side_cpu_us'):8.0f}"
