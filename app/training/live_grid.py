"""The cluster's grid in a process that plans: kept up to date by a thread for as long as it is needed.

Knows nothing of jobs or Ray. Nothing is asked before it is due, and what one process of the host was told the others
know, too.

    with live_grid(clock) as grid:
        grid.average()
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.carbon.grid import Grid, open_grid
from app.carbon.grid_settings import GridSettings
from app.clock import Clock
from app.config import settings

_REFRESH_EVERY_S = 1.0
"""A look at whether anything is due; the grid's own rules say when it is."""


@contextmanager
def live_grid(clock: Clock, of: GridSettings | None = None) -> Iterator[Grid]:
    """The cluster's grid, or that of another zone, asked now and then by a thread; the first answers are in before
    anything is planned."""
    grid = open_grid(of or settings().grid, clock)
    grid.refresh()
    ended = threading.Event()

    def refresh() -> None:
        while not ended.wait(_REFRESH_EVERY_S):
            grid.refresh()

    thread = threading.Thread(target=refresh, name="joulekeeper-grid", daemon=True)
    thread.start()
    try:
        yield grid
    finally:
        ended.set()
        thread.join(timeout=10)
        grid.close()
