"""How a driver of ours comes to a cluster and its books.

Knows nothing of jobs. Metering that is down costs figures, never the work.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import ray

from app.config import settings
from app.errors import JoulekeeperError
from app.metering.auth_mode import take_over_auth_mode

if TYPE_CHECKING:
    from app.metering.accountant import BooksClient


def join_cluster() -> None:
    """Join the cluster that RAY_ADDRESS names, or start one that ends with this process."""
    if not ray.is_initialized():
        take_over_auth_mode()
        ray.init(log_to_driver=True)


def open_books(tell: Callable[[str], None]) -> "BooksClient | None":
    """The accountant, started if need be; None when metering is off or there is none."""
    if not settings().metering:
        return None
    from app.metering.accountant import connect_books

    try:
        return connect_books(create=True)
    except JoulekeeperError as error:
        tell(f"no ledger for this run: {error}")
        return None
