"""When a meter reads, commits, shows and leaves. Pure: instants come in as seconds of one clock, decisions go out.

rhythm = Rhythm(config, resident, now_s)
rhythm.see(working, now_s)
if rhythm.commit_is_due(has_rings, now_s): rhythm.tried(books.commit() succeeded, now_s)
if rhythm.leaves(now_s): ...
"""

import math

from app.config import Settings

IDLE_FLUSHES = 5
"""A batch costs more than the readings in it; with nobody at work none is waited for: so many times as seldom."""
RETRY_S = 5.0
"""From one try to write a journal that takes nothing to the next: a body of many readings is made for each."""
MAX_READINGS = 100_000
"""Readings that wait in memory for the journal, of all devices: about twenty minutes of eight at 10 Hz, 15 MB."""
SHOW_IDLE_S = 1.0
HOST_IDLE_S = 0.4
"""With nobody at work the host's energy is divided by CPU time, however often it is read."""


class Rhythm:
    """The decisions of one meter."""

    def __init__(self, config: Settings, resident: bool, now_s: float) -> None:
        self._config, self._resident = config, resident
        self._working, self._last_work_s = False, now_s
        self._committed_s = -math.inf  # the first batch, which holds the baseline, as soon as there is one
        self._failed_s = self._shown_s = self._host_read_s = -math.inf

    def see(self, working: bool, now_s: float) -> None:
        """Whether a process of ours is at work on the node."""
        self._working = working
        if working:
            self._last_work_s = now_s

    def may_read(self, waiting: int) -> bool:
        """False while memory is full of readings that the journal does not take: the counters count on."""
        return waiting < MAX_READINGS

    def host_is_due(self, now_s: float) -> bool:
        """Whether the host should be read with the accelerators; True is taken for done."""
        due = self._working or now_s - self._host_read_s >= HOST_IDLE_S
        if due:
            self._host_read_s = now_s
        return due

    def commit_is_due(self, has_rings: bool, now_s: float) -> bool:
        """Whether a batch should be written."""
        flush_s = self._config.flush_s * (1 if has_rings else IDLE_FLUSHES)
        return now_s - self._committed_s >= flush_s and now_s - self._failed_s >= RETRY_S

    def tried(self, wrote: bool, failed: bool, now_s: float) -> None:
        """A batch was written, there was nothing to write, or the journal failed."""
        if wrote:
            self._committed_s = now_s
        self._failed_s = now_s if failed else -math.inf

    def show_is_due(self, now_s: float) -> bool:
        """Whether the board should be written; True is taken for done."""
        due = self._working or now_s - self._shown_s >= SHOW_IDLE_S
        if due:
            self._shown_s = now_s
        return due

    def leaves(self, now_s: float) -> bool:
        """Whether work has been gone for the linger; a resident meter stays."""
        return not self._resident and not self._working and now_s - self._last_work_s > self._config.linger_s

    def period_s(self) -> float:
        """From one reading to the next."""
        config = self._config
        return 1 / (config.sample_hz if self._working else min(config.sample_hz, config.idle_sample_hz))
