"""The accountant's desk of access: keys and rules of this host, quotas of the day from the books.

A thin shell: app/access/desk.py decides. Knows nothing of Ray.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from app.access.desk import AccessDesk
from app.access.quotas import TenantUse
from app.clock import SystemClock
from app.config import Settings

_EVERY_S = 1.0

_log = logging.getLogger(__name__)


def open_desk(config: Settings, used_by_tenant: Callable[[float], Mapping[str, tuple[int, int]]]) -> AccessDesk:
    """A desk that keeps itself up to date on a thread of its own; with access open nothing has to be kept."""

    def used_today(since_s: float) -> Mapping[str, TenantUse]:
        return {tenant: TenantUse(*use) for tenant, use in used_by_tenant(since_s).items()}

    desk = AccessDesk(config.access_directory, used_today, SystemClock())
    if config.access == "required":
        threading.Thread(target=_keep_up, args=(desk,), name="access", daemon=True).start()
    return desk


def _keep_up(desk: AccessDesk) -> None:
    while True:
        try:
            desk.keep_up()
        except Exception:
            _log.exception("the rules of access could not be looked at; they stay as they were")
        time.sleep(_EVERY_S)
