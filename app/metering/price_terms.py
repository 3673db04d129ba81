"""The terms under which this cluster prices energy, from the settings: grid data, building, water, contracts, tariff.

Knows nothing of Ray. The accountant's process refreshes the grid's data; any other process on its host reads what that
one has written.

    terms = PriceTerms(settings(), SystemClock())
    terms.now()                              # of this moment: later ones may know more of the same hours
    terms.keep_fresh()                       # a thread of its own; in the accountant's process alone
"""

import logging
import threading

from app.carbon.coefficients import coefficients
from app.carbon.grid import Grid, open_grid
from app.carbon.pricing import Terms
from app.carbon.tariff import tariff_of
from app.carbon.water import water_of_zone
from app.clock import Clock
from app.config import Settings

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
"""The grid itself decides what is due: most looks cost nothing."""


class PriceTerms:
    """Opens the grid data of this host. Raises InvalidInput for settings that cannot be meant."""

    def __init__(self, config: Settings, clock: Clock) -> None:
        self._zone, self._pue = config.zone, config.pue
        self._tariff = tariff_of(config.tariff)
        table = coefficients(config.coefficients)
        self._water = water_of_zone(table, config.zone, wue_l_per_kwh=config.wue)
        self._grid = open_grid(config.grid, clock)
        self._stop = threading.Event()

    def now(self) -> Terms:
        """By what is known at this moment. Never blocks on a network, never raises."""
        grid = self._grid
        return Terms(self._zone, grid.average(), self._pue, grid.market(), self._water, self._tariff)

    @property
    def grid(self) -> Grid:
        """The series themselves, for who plans by them."""
        return self._grid

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know about the grid data, a sentence each."""
        return self._grid.warnings

    def refresh(self) -> bool:
        """Ask for the grid data that are due; True if anybody was asked. Waits for the network."""
        return self._grid.refresh()

    def keep_fresh(self) -> None:
        """Have the grid data fetched and revised as they come, in a thread of its own, until `close`."""
        threading.Thread(target=self._refresh_for_ever, name="grid", daemon=True).start()

    def _refresh_for_ever(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            try:
                self.refresh()
            except Exception:
                _log.exception("grid data could not be refreshed; it is tried again")

    def close(self) -> None:
        """Stop refreshing."""
        self._stop.set()
        self._grid.close()
