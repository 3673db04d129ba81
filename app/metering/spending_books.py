"""The accountant's desk of budgets: figures from its books, forecasts from the cluster's grid.

A thin shell: app/engine/spending_desk.py decides. Knows nothing of Ray.
"""

from app.carbon.grid import Grid
from app.clock import SystemClock
from app.config import Settings
from app.engine.cluster_books import ClusterBooks
from app.engine.outlook import View, look_ahead
from app.engine.spending_desk import SpendingDesk
from app.units import NS_PER_S

_PAST_NS = 28 * 86_400 * NS_PER_S
_ON_ITS_WAY_S = 1.0
"""From a meter's batch to the books."""


def open_spending(config: Settings, books: ClusterBooks, grid: Grid) -> SpendingDesk:
    """A desk for this cluster."""

    def look(now_s: float, until_s: float) -> View:
        now_ns = round(now_s * NS_PER_S)
        past = grid.past_forecasts(now_ns - _PAST_NS, now_ns)
        return look_ahead(grid.average(), now_s, max(until_s, now_s + 1), past)

    unsettled_s = config.settle_lag_s + config.flush_s + _ON_ITS_WAY_S
    return SpendingDesk(config.state_dir, books.used_by_model, look, SystemClock(), unsettled_s, config.pue)
