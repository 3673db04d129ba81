"""A run's place in the queue of its cluster: says what it wants, hears whether it may begin.

A shell around queueing.py. Entries lie where board.py keeps its keys; what is free is asked of Ray.

    queue = LiveQueue("digits-1", needs, board, cluster_resources, clock, submitted_s)
    queue.may_begin(look)                             # while it waits, again and again
    queue.holds(look); queue.leave()
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from app.clock import Clock
from app.training.planner import Look
from app.training.queueing import Entry, QueueTurn, parsed, turns_of
from app.units import NS_PER_S

_EVERY_S = 2.0
_KEPT_PIECES = 24


class QueueBoard(Protocol):
    """What is used of board.py."""

    def enter_queue(self, run: str, entry: str) -> None: ...
    def leave_queue(self, run: str) -> None: ...
    def queue(self) -> list[str]: ...


class LiveQueue:
    """Of one run."""

    def __init__(
        self,
        run: str,
        needs: Mapping[str, float],
        board: QueueBoard,
        resources: Callable[[], tuple[Mapping[str, float], Mapping[str, float]]],
        clock: Clock,
        submitted_s: float,
    ) -> None:
        """`needs`: what its workers take together, by Ray's names; of CPUs and GPUs the GPUs are the scarce ones.
        `resources`: what is free on the cluster and what it has."""
        self._run, self._board, self._resources, self._clock = run, board, resources, clock
        self._resource = "GPU" if needs.get("GPU") else "CPU"
        self._amount, self._submitted_s = needs.get(self._resource, 0.0), submitted_s
        self._looked_s, self._told_s, self._turn = float("-inf"), float("-inf"), QueueTurn(run, False, 0.0, "")

    def may_begin(self, look: Look) -> bool:
        """Whether it is its turn. Looks every two seconds; a plan that has it wait is told to the others, too."""
        now_s = self._now_s()
        ready = look.plan.workers_at(now_s) > 0
        if not self._amount:
            return ready
        if now_s - self._looked_s >= _EVERY_S:
            self._looked_s = now_s
            self._enter(look, now_s, ready=ready, holds=False)
            entries = parsed(self._board.queue(), now_s)
            self._turn = turns_of(entries, *self._resources(), now_s).get(self._run, self._turn)
        return ready and self._turn.may_begin

    @property
    def reason(self) -> str:
        """Of the newest turn."""
        return self._turn.reason

    def holds(self, look: Look) -> None:
        """It has workers, or is about to; told every two seconds."""
        now_s = self._now_s()
        if self._amount and now_s - self._told_s >= _EVERY_S:
            self._told_s = now_s
            self._enter(look, now_s, ready=True, holds=True)

    def leave(self) -> None:
        """It wants none for now."""
        self._told_s = self._looked_s = float("-inf")
        self._board.leave_queue(self._run)

    def _enter(self, look: Look, now_s: float, *, ready: bool, holds: bool) -> None:
        left_s = look.inputs.hours_left * 3600
        pieces = tuple((max(each.start_s, now_s), each.end_s) for each in look.plan.pieces if each.end_s > now_s)
        entry = Entry(
            run=self._run,
            heard_s=now_s,
            since_s=self._submitted_s,
            resource=self._resource,
            amount=self._amount,
            latest_s=look.inputs.deadline_s - left_s,
            ready=ready,
            holds=holds,
            pieces=pieces[:_KEPT_PIECES],
        )
        self._board.enter_queue(self._run, entry.model_dump_json())

    def _now_s(self) -> float:
        return self._clock.wall_ns() / NS_PER_S


def cluster_resources() -> tuple[dict[str, float], dict[str, float]]:
    """What nobody holds on the cluster that this process has joined, and what it has."""
    import ray

    return dict(ray.available_resources()), dict(ray.cluster_resources())
