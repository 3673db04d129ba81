"""A client for code that does not own its process: measured blocks in a notebook, a task, a replica.

Where the process has opened a client for its own work, that one is lent. Elsewhere one is opened: what the process
does outside measured blocks stays charged as if it had none, and a while after the last block it is closed, so that a
worker that Ray keeps for later tasks does not hold a meter on its node.

    client = lent_client.borrow()
    piece = client.begin(account); ...; piece.end()
    lent_client.give_back(client)
"""

import logging
import os
import threading
from collections.abc import Callable

from app.clock import Clock, SystemClock
from app.domain.account import FOREIGN, SYSTEM
from app.metering.client import WorkClient, is_ray_worker
from app.metering.devices import visible_accelerators
from app.units import NS_PER_S

_log = logging.getLogger(__name__)
_UNUSED_NS = 5 * NS_PER_S


class Lender:
    """Lends the client of this process, and counts who has it. Safe from several threads."""

    def __init__(self, clock: Clock, open_client: Callable[[Callable[[], bool]], WorkClient]) -> None:
        self._clock, self._open_client = clock, open_client
        self.start_over()

    def start_over(self) -> None:
        """Know of no client, as in a forked child: lock, count and client are its parent's."""
        self._lock = threading.Lock()
        self._spare: WorkClient | None = None
        self._borrowers, self._given_back_ns = 0, 0

    def borrow(self) -> WorkClient:
        """The process's own client, else the spare one, opened if need be. Never raises what metering raises."""
        own = WorkClient.of_process()
        if own is not None:
            return own
        with self._lock:
            if self._spare is None:
                self._spare = self._open_client(self._let_go)
            self._borrowers += 1
            return self._spare

    def give_back(self, client: WorkClient) -> None:
        """Say that `client`, as `borrow` gave it, is not needed any more."""
        with self._lock:
            if client is self._spare:
                self._borrowers -= 1
                self._given_back_ns = self._clock.monotonic_ns()

    def _let_go(self) -> bool:
        """True when the spare client has been with nobody for a while; it is forgotten then."""
        with self._lock:
            rested_ns = self._clock.monotonic_ns() - self._given_back_ns
            if self._borrowers or rested_ns < _UNUSED_NS:
                return False
            self._spare = None
            return True


def _open_spare(unused: Callable[[], bool]) -> WorkClient:
    """A client that leaves this process's time outside slices where it was: Ray's, or foreign."""
    try:
        devices = visible_accelerators()
    except Exception as error:  # a driver in trouble is no reason to stop the work
        _log.warning("measured blocks hold no accelerator: %s", error)
        devices = []
    return WorkClient.open(SYSTEM if is_ray_worker() else FOREIGN, devices=devices, unused=unused)


_lender = Lender(SystemClock(), _open_spare)
os.register_at_fork(after_in_child=_lender.start_over)
borrow, give_back = _lender.borrow, _lender.give_back
