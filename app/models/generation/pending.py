"""What waits for an engine: the bounded queue, who takes part, who is to leave. Safe for any thread.

Knows nothing of models or steps. The engine's thread takes changes from it between steps; everybody else only adds.
Raises Busy while the queue is full, Unavailable once closed, InvalidInput for a prompt whose id is taken.
"""

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice

from app.clock import Clock
from app.domain.generation import Prompt
from app.errors import Busy, InvalidInput, Unavailable
from app.models.generation.embedding import EmbeddingJob
from app.units import NS_PER_S

_SMOOTHING = 0.2
_MAX_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen before the next step."""

    cancelled: tuple[str, ...]
    admitted: tuple[Prompt, ...]
    embedding: EmbeddingJob | None


class Pending:
    """The queue of one engine."""

    def __init__(self, max_sequences: int, max_queued: int, clock: Clock) -> None:
        self._max_sequences, self._max_queued, self._clock = max_sequences, max_queued, clock
        self._changed = threading.Condition()
        self._waiting: dict[str, Prompt] = {}
        self._running: set[str] = set()
        self._cancelled: list[str] = []
        self._embeddings: deque[EmbeddingJob] = deque()
        self._between_endings_s = 1.0
        self._last_ending_ns = 0
        self.why_closed = ""

    def counts(self) -> tuple[int, int]:
        """Prompts that run and that wait."""
        with self._changed:
            return len(self._running), len(self._waiting)

    def put(self, prompt: Prompt) -> None:
        """Queue a prompt."""
        with self._changed:
            self._check_open()
            if prompt.id in self._waiting or prompt.id in self._running:
                raise InvalidInput(f"prompt id {prompt.id!r} is in use; give every prompt an id of its own")
            free = max(0, self._max_sequences - len(self._running))
            if len(self._waiting) >= self._max_queued + free:
                self._refuse()
            self._waiting[prompt.id] = prompt
            self._changed.notify()

    def put_embedding(self, job: EmbeddingJob) -> None:
        """Queue texts to be embedded; no more jobs wait than prompts may."""
        with self._changed:
            self._check_open()
            if len(self._embeddings) > self._max_queued:
                self._refuse()
            self._embeddings.append(job)
            self._changed.notify()

    def cancel(self, prompt_id: str) -> None:
        """A prompt is to leave; nothing happens if it is not there."""
        with self._changed:
            if prompt_id in self._waiting or prompt_id in self._running:
                self._cancelled.append(prompt_id)
                self._changed.notify()

    def limit(self, max_sequences: int) -> None:
        """How many may run at once, >= 1."""
        if max_sequences < 1:
            raise InvalidInput(f"max_sequences must be >= 1, got {max_sequences}")
        with self._changed:
            self._max_sequences = max_sequences
            self._changed.notify()

    def close(self, why: str) -> None:
        """Nothing is taken any more; the first reason stays."""
        with self._changed:
            self.why_closed = self.why_closed or why
            self._changed.notify()

    # The engine's thread

    def take(self) -> Change | None:
        """What is to change; waits until something runs or changes. None once closed."""
        with self._changed:
            self._changed.wait_for(self._has_work)
            if self.why_closed:
                return None
            # A prompt may have ended since it was cancelled: it ends once.
            cancelled = tuple(
                prompt_id
                for prompt_id in dict.fromkeys(self._cancelled)
                if self._waiting.pop(prompt_id, None) or prompt_id in self._running
            )
            self._cancelled.clear()
            places = max(0, self._max_sequences - len(self._running.difference(cancelled)))
            admitted = tuple(islice(self._waiting.values(), places))
            for prompt in admitted:
                del self._waiting[prompt.id]
                self._running.add(prompt.id)
            return Change(cancelled, admitted, self._next_embedding())

    def left(self, prompt_id: str) -> None:
        """A prompt has ended."""
        with self._changed:
            self._running.discard(prompt_id)
            now_ns = self._clock.monotonic_ns()
            if self._last_ending_ns:
                between_s = (now_ns - self._last_ending_ns) / NS_PER_S
                self._between_endings_s += _SMOOTHING * (between_s - self._between_endings_s)
            self._last_ending_ns = now_ns

    def drain(self) -> list[str]:
        """Everything that was accepted and has not ended, once closed; embeddings fail."""
        with self._changed:
            for job in self._embeddings:
                job.fail(Unavailable(self.why_closed))
            self._embeddings.clear()
            left = [*self._running, *self._waiting]
            self._waiting.clear()
            return left

    def _has_work(self) -> bool:
        return bool(self.why_closed or self._cancelled or self._running or self._embeddings or self._admissible())

    def _admissible(self) -> bool:
        return bool(self._waiting) and len(self._running) < self._max_sequences

    def _next_embedding(self) -> EmbeddingJob | None:
        while self._embeddings and self._embeddings[0].is_done:
            self._embeddings.popleft()
        return self._embeddings[0] if self._embeddings else None

    def _check_open(self) -> None:
        if self.why_closed:
            raise Unavailable(f"nothing can be generated: {self.why_closed}")

    def _refuse(self) -> None:
        retry_s = min(_MAX_RETRY_S, max(0.1, self._between_endings_s))
        raise Busy(
            f"{len(self._running)} sequences run and {len(self._waiting)} wait, at most {self._max_queued} may; come "
            f"again in {retry_s:.1f} s",
            retry_s,
        )
