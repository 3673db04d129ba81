"""Where the work of a model is done: on the event loop while it is short, else on the model's one thread.

Knows nothing of requests or energy. A hop to a thread and back costs about a tenth of a millisecond, more than all the
work of a small model; work of milliseconds on the loop would keep health checks and everybody else waiting. So the
lane is told how long the work of a request took, wherever it ran, and decides for the next one.

    lane = Lane()
    if lane.enter():                     # short work, and nobody else is at it
        try: result = step()
        finally: lane.leave(took_ns)
    else:
        result = await lane.hop(step)    # in its turn, never two at a time
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

SHORT_NS = 1_000_000
"""Usual work per request below which it is done on the loop, 1 ms."""
LONG_NS = 2 * SHORT_NS
"""From here on it goes back to the thread: apart, so that a model in between does not change with every request."""
_BLOCKING_NS = 100 * SHORT_NS  # on the loop once is enough
_UP, _DOWN = 2.0, 2.0**-0.25
"""Steps of what is usual, by a request that took more and one that took less. They balance where one request in five
takes more: who is put aside by the scheduler now and then is no longer than he was, and a mean would say so."""
_PATIENCE_S = 2 * SHORT_NS / 1e9  # a turn of short work is over by then
_FIRST_TRIAL, _LAST_TRIAL = 32, 8192


class Lane:
    """One model's. `enter` and `hop` are for one event loop.

    On the loop the time by the clock counts: it is what others wait. On the thread that would be the wait for the
    interpreter's lock and for a CPU as well, and a model once sent there would never come back; there CPU time counts.
    Work that sleeps uses none, so each return to the loop that soon proves wrong makes the next one rarer.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._turn = threading.Lock()
        self._usual_ns = float(LONG_NS)
        self._trial = self._until_trial = _FIRST_TRIAL
        self._short_for = 0  # requests since work came to the loop
        self.is_short = False
        """Whether work is done on the loop at present."""

    def note(self, took_ns: int) -> None:
        """The work of a request took so long: by the clock if it was done on the loop, else in CPU time."""
        usual_ns = self._usual_ns
        usual_ns = min(took_ns, usual_ns * _UP) if took_ns > usual_ns else max(took_ns, usual_ns * _DOWN)
        self._usual_ns = usual_ns
        if not self.is_short:
            self._until_trial -= 1
            self.is_short, self._short_for = usual_ns < SHORT_NS and self._until_trial <= 0, 0
        elif usual_ns >= LONG_NS or took_ns >= _BLOCKING_NS:
            self._give_up_loop()
        else:
            self._short_for += 1

    def _give_up_loop(self) -> None:
        proved_right = self._short_for > _LAST_TRIAL
        self.is_short = False
        self._usual_ns = max(self._usual_ns, LONG_NS)
        self._until_trial = _FIRST_TRIAL if proved_right else self._trial
        self._trial = min(2 * self._until_trial, _LAST_TRIAL)

    def begin_at(self, took_ns: int) -> None:
        """What a first request is expected to take, as found while warming up."""
        self._usual_ns = took_ns
        self.is_short = took_ns < SHORT_NS

    def enter(self) -> bool:
        """Whether to work on the loop, now; a True must be followed by `leave`.

        Short work that is being done on the thread is waited for: going there as well, because somebody is there,
        a busy model would stay there.
        """
        return self.is_short and self._turn.acquire(timeout=_PATIENCE_S)

    def leave(self, took_ns: int) -> None:
        """Work on the loop is over; it took so long."""
        self._turn.release()
        self.note(took_ns)

    async def hop(self, step: Callable[..., Result], *arguments: object, requests: int = 0) -> Result:
        """Run `step`, the work of so many requests, on the thread, after all that came before.

        Given up while it waits, it never runs; given up later, it runs to its end and the next waits for that.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, requests, step, arguments)

    def close(self) -> None:
        """Take no more work; safe to call twice."""
        self._thread.shutdown(wait=False)

    def _take(self, requests: int, step: Callable[..., Result], arguments: tuple[object, ...]) -> Result:
        with self._turn:
            began_ns = time.thread_time_ns()
            try:
                return step(*arguments)
            finally:
                used_ns = time.thread_time_ns() - began_ns
                # what several take together says nothing of one alone, unless it is short even so
                if requests == 1 or (requests and used_ns < SHORT_NS):
                    self.note(used_ns)
