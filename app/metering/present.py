"""What a kWh emits at this hour, as the meter of a node knows it: told by the accountant, asked again when it may end.

Before the accountant has answered, and as long as it does not, the yearly figure of the zone or the last answer holds.
Knows nothing of Ray; whom to ask is an argument.

    present = PresentIntensity(g_per_kwh, ask)
    present.g_per_kwh                        # never waits
    present.renew(wall_ns)                   # asks if it is time; raises nothing
"""

import logging
from collections.abc import Callable

from app.engine.views import PresentPrice
from app.units import NS_PER_S

_log = logging.getLogger(__name__)

_ASK_EVERY_NS = 60 * NS_PER_S
"""What is told for the hour may be revised within it."""
_AGAIN_NS = NS_PER_S


class PresentIntensity:
    """Of one meter. `renew` is called by one thread, `g_per_kwh` read by any."""

    def __init__(self, g_per_kwh: float, ask: Callable[[], PresentPrice]) -> None:
        """`g_per_kwh`: PUE included, until somebody answers."""
        self.g_per_kwh, self._ask = g_per_kwh, ask
        self._due_ns = 0

    def renew(self, wall_ns: int) -> None:
        """Ask when the last answer has run out, every minute otherwise, every second while nobody answers."""
        if wall_ns < self._due_ns:
            return
        try:
            told = self._ask()
        except Exception as error:
            _log.debug("the intensity of this hour is not known, the last one holds: %s", error)
            self._due_ns = wall_ns + _AGAIN_NS
            return
        self.g_per_kwh = told.g_per_kwh
        self._due_ns = max(wall_ns + _AGAIN_NS, min(told.until_ns, wall_ns + _ASK_EVERY_NS))
