"""What this worker is asked from outside: to stop, or to leave a checkpoint and go on.

Knows nothing of who asks or of what a checkpoint is. Any thread may ask; the training loop looks between steps and
agrees with the other workers on what to do (stops.py).

    OF_THIS_WORKER.ask_save("the group is about to grow")
    OF_THIS_WORKER.save_reason                        # "the group is about to grow", until saved() is called
"""

ASKED_FOR = "asked_for"
"""Among the metrics of a checkpoint: the reason that was given for it, empty for those that were due anyway."""


class Notices:
    """A reason to stop stays; a reason to save is done with once a checkpoint is left. The first reason counts."""

    def __init__(self) -> None:
        self._stop, self._save = "", ""
        self.hold_s = 0.0
        """How long to wait after the checkpoint that is asked for: the group is about to end, and what it did would be
        done again."""

    def ask_stop(self, reason: str) -> None:
        """The run shall end at the next step, a checkpoint left."""
        self._stop = self._stop or reason

    def ask_save(self, reason: str, hold_s: float = 0.0) -> None:
        """The run shall leave a checkpoint at the next step, wait for `hold_s` and go on."""
        self.hold_s = max(self.hold_s, hold_s)
        self._save = self._save or reason

    def saved(self) -> None:
        """A checkpoint was left."""
        self._save, self.hold_s = "", 0.0

    @property
    def stop_reason(self) -> str:
        """Empty: go on."""
        return self._stop

    @property
    def save_reason(self) -> str:
        """Empty: nothing is asked."""
        return self._save


OF_THIS_WORKER = Notices()
"""A process runs one worker of one run."""


def ask_save(reason: str, hold_s: float = 0.0) -> None:
    """To be run in a worker's process by who manages the group."""
    OF_THIS_WORKER.ask_save(reason, hold_s)
