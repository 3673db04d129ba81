"""Keeps the purse of a process in step with the accountant: a thread that polls, every two seconds at most.

The purse itself is app/engine/purse.py and knows nothing of this.

    purse = open_purse("digits@1", "digits", args.spending, offered)     # None without rules
"""

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from app.clock import SystemClock
from app.config import settings
from app.engine.purse import Purse
from app.engine.spending_words import Offered, SpendingPoll, Told
from app.errors import InvalidInput, JoulekeeperError, Unavailable
from app.policy.spending import SpendingRules

_SLOWEST_S, _FASTEST_S, _PARTS = 2.0, 0.2, 1000
_TIMEOUT_S = 10.0
_log = logging.getLogger("ray.serve")
_feeds = itertools.count(1)

Ask = Callable[[SpendingPoll], Told]


def open_purse(who: str, model: str, rules: SpendingRules | None, offered: Sequence[Offered]) -> Purse | None:
    """The purse of this process, kept in step until it ends. `who` it is, for people."""
    if rules is None:
        return None
    purse = Purse(model, rules, offered, SystemClock())
    name = f"{who} on {settings().node}, pid {os.getpid()}.{next(_feeds)}"
    threading.Thread(target=_run, args=(purse, name, _Line().ask), name="spending", daemon=True).start()
    return purse


def step(purse: Purse, who: str, ask: Ask) -> float:
    """One poll; seconds until the next."""
    try:
        purse.renew(ask(purse.poll(who)))
    except InvalidInput as error:
        _log.error("the budget of %s cannot be kept: %s", purse.model, error)
    except JoulekeeperError as error:
        _log.debug("the accountant did not answer the purse of %s: %s", purse.model, error)
    return min(_SLOWEST_S, max(_FASTEST_S, purse.rules.period_s / _PARTS))


def _run(purse: Purse, who: str, ask: Ask) -> None:
    while True:
        try:
            wait_s = step(purse, who, ask)
        except Exception:
            _log.exception("what is left of a budget could not be asked for; what is known holds")
            wait_s = _SLOWEST_S
        time.sleep(wait_s)


class _Line:
    """The line to the accountant, made anew after a failure."""

    def __init__(self) -> None:
        self._books: Any = None

    def ask(self, poll: SpendingPoll) -> Told:
        """Raises InvalidInput, Unavailable."""
        from app.metering.accountant import connect_books

        try:
            self._books = self._books or connect_books(create=True)
            told: Told = self._books.spending(poll, _TIMEOUT_S)
            return told
        except ray.exceptions.RayError as error:
            self._books = None
            raise Unavailable(str(error)) from error
        except Unavailable:
            self._books = None
            raise
