"""Who hears an engine's steps on its own thread: the books, and the governor that decides how many sequences run.

Knows nothing of text or wires. The governor is told the energy that steps are expected to have taken, as provisional
receipts have it: the settled figure comes seconds later, when the limit may have changed.

    hub.steps = EngineSteps(StepClient(client, StepPrice(engine.geometry)), counts, governing)
"""

import logging
from collections.abc import Callable

from app.clock import Clock, SystemClock
from app.domain.generation import Step
from app.metering.step_client import StepClient
from app.policy.concurrency import ConcurrencyGovernor, Explanation, TokenObjective, concurrency_grid
from app.policy.governed import Governed
from app.policy.steps_seen import TokenTimes
from app.protocol.model_statistics import ModelCounts
from app.serving.generation.args import GeneratorArgs
from app.units import NS_PER_MS

_log = logging.getLogger("ray.serve")

_LOOK_NS = 200 * NS_PER_MS
"""Between two things told to the governor: a meter reads ten times a second."""


class Governing:
    """The governor of one engine. Called on the engine's thread, `asked` and `explain` on any."""

    def __init__(
        self,
        governor: ConcurrencyGovernor,
        limit: Callable[[int], None],
        waiting: Callable[[], int],
        clock: Clock | None = None,
    ) -> None:
        """`limit` tells the engine how many may run, `waiting` how many prompts do not yet."""
        self._governor, self._limit, self._waiting = governor, limit, waiting
        self._clock = clock or SystemClock()
        self._times = TokenTimes()
        self._told_ns, self._told_uj = 0, 0.0
        self._in_force = governor.limit()
        limit(self._in_force)

    def explain(self) -> Explanation:
        """Why the limit is what it is."""
        return self._governor.explain()

    def governed(self) -> Governed:
        """The same in the words of every governor."""
        return self._governor.governed()

    def asked(self, prompt_id: str) -> None:
        """A prompt is about to be submitted."""
        self._times.asked(prompt_id, self._clock.monotonic_ns())

    def stepped(self, step: Step, expected_uj: float) -> None:
        """A step was made; all steps so far are expected to have taken so much. What it brought about comes next."""
        if step.start_ns - self._told_ns >= _LOOK_NS:
            self._look(step.start_ns, expected_uj)
        self._times.stepped(step)

    def tokens(self, prompt_id: str, count: int) -> None:
        """New tokens of a prompt."""
        self._times.came(prompt_id, count)

    def ended(self, prompt_id: str) -> None:
        """Nothing more comes of a prompt."""
        self._times.ended(prompt_id)

    def _look(self, now_ns: int, expected_uj: float) -> None:
        seen = self._times.take(round(expected_uj - self._told_uj), self._waiting())
        self._told_ns, self._told_uj = now_ns, expected_uj
        if seen is None:
            return
        self._governor.observe(seen)
        limit = self._governor.limit()
        if limit != self._in_force:
            self._in_force = limit
            self._limit(limit)
            _log.debug("sequences at once: %d; %s", limit, self._governor.explain().reason)


class EngineSteps:
    """`StepListener` (hub.py) of one engine."""

    def __init__(self, books: StepClient, counts: ModelCounts, governing: Governing | None = None) -> None:
        self.books, self._counts, self._governing = books, counts, governing

    def stepped(self, step: Step) -> None:
        self._counts.executions += 1
        self.books.stepped(step)
        if self._governing:
            self._governing.stepped(step, self.books.expected_uj)

    def tokens(self, prompt_id: str, count: int) -> None:
        self.books.tokens(prompt_id, count)
        if self._governing:
            self._governing.tokens(prompt_id, count)

    def ended(self, prompt_id: str) -> None:
        self.books.ended(prompt_id)
        if self._governing:
            self._governing.ended(prompt_id)


def open_governing(args: GeneratorArgs, limit: Callable[[int], None], waiting: Callable[[], int]) -> Governing | None:
    """What `args` ask for; None: `max_sequences` holds."""
    if args.inter_token_p90_ms is None:
        return None
    first_token_s = None if args.ttft_p95_ms is None else args.ttft_p95_ms / 1000
    objective = TokenObjective(gap_s=args.inter_token_p90_ms / 1000, first_token_s=first_token_s)
    return Governing(ConcurrencyGovernor(objective, concurrency_grid(args.max_sequences)), limit, waiting)
