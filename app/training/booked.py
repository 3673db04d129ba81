"""What the ledger charges to a run, asked now and then beside the work: only jobs with a budget need to know.

Never raises and never holds up a step: a ledger that does not answer leaves the last answer standing.

    booked = Booked("digits-1")
    booked.start(); ...; booked.latest(); ...; booked.stop()
"""

import logging
import threading

from app.errors import JoulekeeperError
from app.training.position import Spent

_ASK_EVERY_S = 1.0
_log = logging.getLogger(__name__)


class Booked:
    """The last answer of the ledger. `latest` may be called from any thread."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._ended = threading.Event()
        self._latest: Spent | None = None

    def start(self) -> None:
        """Begin to ask."""
        threading.Thread(target=self._ask, name="joulekeeper-booked", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()

    def latest(self) -> Spent | None:
        """Energy and carbon of all attempts, as settled and delivered; None as long as nobody has answered."""
        return self._latest

    def _ask(self) -> None:
        from app.metering.accountant import connect_books

        while not self._ended.wait(_ASK_EVERY_S):
            try:
                rows = connect_books().report(by="job").rows
            except JoulekeeperError as error:
                _log.debug("the ledger does not answer: %s", error)
                continue
            mine = [row for row in rows if row.group["job"] == self._run]
            self._latest = Spent(sum(row.energy_uj for row in mine), sum(row.carbon_ugco2e for row in mine))
