"""`watch`: the live picture of the cluster, redrawn in place on a terminal, printed again elsewhere.

Knows nothing of meters; it asks the books for a status at intervals.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import typer
from rich.console import Console, Group
from rich.live import Live

from app.cli import cluster, terminal
from app.cli.grid import Grid, rich_table
from app.cli.rendering import account_flow, status_grids
from app.clock import Clock, SystemClock
from app.engine.views import Status
from app.errors import Unavailable
from app.units import NS_PER_S


class StatusSource(Protocol):
    """The part of the books that this command needs."""

    def status(self) -> Status:
        """The live picture. Raises Unavailable."""


@dataclass(slots=True)
class Watcher:
    """Looks at the books and remembers the last look, so that energy becomes power."""

    source: StatusSource
    clock: Clock
    _last: Status | None = field(default=None, init=False)
    _last_ns: int = field(default=0, init=False)

    def look(self) -> tuple[Status, dict[str, float] | None]:
        """The status now, and power by account since the last look. Raises Unavailable."""
        status, now_ns = self.source.status(), self.clock.monotonic_ns()
        flow = None
        if self._last is not None and now_ns > self._last_ns:
            flow = account_flow(self._last, status, now_ns - self._last_ns)
        self._last, self._last_ns = status, now_ns
        return status, flow


def watch(
    once: Annotated[bool, typer.Option("--once", help="One picture, then end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Nodes, devices, power and accounts, live. Ends with Ctrl-C."""
    clock = SystemClock()
    watcher = Watcher(cluster.books(), clock)
    if once:
        _show(watcher, as_json)
        return
    try:
        if terminal.is_rich() and not as_json:
            _redraw(watcher, interval)
        else:
            for _ in _ticks(interval, clock):
                _show(watcher, as_json)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _show(watcher: Watcher, as_json: bool) -> None:
    status, flow = watcher.look()
    if as_json:
        terminal.show_json(status, indent=None)
    else:
        terminal.show(*status_grids(status, flow))


def _redraw(watcher: Watcher, interval_s: float) -> None:
    with Live(console=Console(), screen=False, auto_refresh=False) as live:
        for _ in _ticks(interval_s, watcher.clock):
            live.update(Group(*map(rich_table, _picture(watcher))), refresh=True)


def _picture(watcher: Watcher) -> tuple[Grid, ...]:
    """Tables to draw; a cluster that does not answer for a moment is said, not died of."""
    try:
        return status_grids(*watcher.look())
    except Unavailable as error:
        return (Grid("No answer", (), (), notes=(str(error),)),)


def _ticks(interval_s: float, clock: Clock) -> Iterator[None]:
    """Now, and every `interval_s` after; a late tick is not made up for."""
    while True:
        begun_ns = clock.monotonic_ns()
        yield
        spent_s = (clock.monotonic_ns() - begun_ns) / NS_PER_S
        time.sleep(max(0.0, interval_s - spent_s))
