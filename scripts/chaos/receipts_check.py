"""Whether every request that was answered has a receipt: each id is asked for, as its client would.

A node that is busy restarting gets a bounded time; NotFound is final.
"""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from app.errors import JoulekeeperError, NotFound
from app.metering.accountant import BooksClient
from scripts.chaos.load import Answered

_PATIENCE_S = 60.0
_CLIENTS = 8


@dataclass(slots=True)
class ReceiptsCheck:
    """What became of the answered requests."""

    answered: int = 0
    settled: int = 0
    provisional: int = 0
    lost: list[str] = field(default_factory=list)
    """Ids with what was said of them."""
    without_energy: list[tuple[str, int]] = field(default_factory=list)
    """Settled at 0 uJ: node, and when the answer came (monotonic ns)."""
    retries: Counter[str] = field(default_factory=Counter)
    energy_uj: int = 0


def check_receipts(books: BooksClient, answered: Sequence[Answered]) -> ReceiptsCheck:
    """Ask for every receipt."""
    found = ReceiptsCheck(answered=len(answered))
    with ThreadPoolExecutor(_CLIENTS) as clients:
        for _ in clients.map(lambda one: _check(books, one, found), answered):
            pass
    return found


def _check(books: BooksClient, one: Answered, found: ReceiptsCheck) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            receipt = books.receipt(one.receipt_id, settle_timeout_s=10)
        except NotFound as error:
            found.lost.append(str(error))
            return
        except JoulekeeperError as error:
            found.retries[type(error).__name__] += 1
            if time.monotonic() > deadline:
                found.lost.append(f"{one.receipt_id}: {error}")
                return
            time.sleep(0.5)
            continue
        found.settled += not receipt.provisional
        found.provisional += receipt.provisional
        if not receipt.provisional and not receipt.energy_uj:
            found.without_energy.append((receipt.node, one.at_ns))
        found.energy_uj += receipt.energy_uj
        return
