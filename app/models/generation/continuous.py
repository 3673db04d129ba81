"""The engine on transformers' continuous batching: one thread that computes one pass after the other.

Knows nothing of text, wires or energy. A step takes every sequence that generates and as many prompt tokens as fit;
sequences come and go between steps. What fails in a step fails for the sequences in it, and the others go on; when
several steps in a row fail the engine is out of order and says so to whoever submits. Importing this file imports torch
and transformers.

    engine = ContinuousEngine(Network.load(directory, device, options), listener, options)
    engine.submit(Prompt("a", (1, 5, 9), Sampling(max_tokens=32)))
    engine.close()
"""

import logging
import threading
from collections.abc import Callable, Sequence

import torch

from app.clock import Clock, SystemClock
from app.domain.generation import Ending, Prompt, Step, Token, Work
from app.errors import Unavailable
from app.models.generation.admission import check_prompt, check_text
from app.models.generation.embedding import EmbeddingJob
from app.models.generation.engine import EngineLoad, Geometry, Listener
from app.models.generation.network import Network
from app.models.generation.options import EngineOptions
from app.models.generation.paging import Pager, Row
from app.models.generation.passes import Layout
from app.models.generation.pending import Change, Pending
from app.models.generation.sampling import Drawer, choose

logger = logging.getLogger(__name__)

_CPU_PREFILL_TOKENS = 256
_ACCELERATOR_PREFILL_TOKENS = 2048
_FAULTS_IN_A_ROW = 3


class _Sequence:
    """A prompt that takes part in steps."""

    __slots__ = ("drawer", "left")

    def __init__(self, prompt: Prompt, context_tokens: int) -> None:
        self.drawer = Drawer(prompt.sampling)
        self.left = min(prompt.sampling.max_tokens, context_tokens - len(prompt.tokens))
        """Tokens that it may still give."""


class ContinuousEngine:
    """A generation engine (engine.py) with one thread of its own."""

    def __init__(
        self, network: Network, listener: Listener, options: EngineOptions, clock: Clock | None = None
    ) -> None:
        """Set the cache aside and start. Raises InvalidInput where the model or the memory does not allow it."""
        self._network, self._listener, self._clock = network, listener, clock or SystemClock()
        self._context_tokens = min(options.context_tokens or network.max_context, network.max_context)
        sizes = network.cache_sizes(options, self._context_tokens)
        cpu = network.device.type == "cpu"
        self._prefill_tokens = options.prefill_tokens or (_CPU_PREFILL_TOKENS if cpu else _ACCELERATOR_PREFILL_TOKENS)
        self._pager = Pager(network.config, network.dtype, network.device, sizes, self._prefill_tokens)
        self._layout = Layout(self._pager.pages(), shelved=cpu)
        self._pending = Pending(options.max_sequences, options.max_queued, self._clock)
        self._running: dict[str, _Sequence] = {}
        self._faults, self._is_broken, self._free_share = 0, False, 1.0
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)
        self._thread.start()

    @property
    def load(self) -> EngineLoad:
        running, waiting = self._pending.counts()
        return EngineLoad(running, waiting, self._free_share)

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def vocabulary(self) -> int:
        return self._network.vocabulary

    @property
    def geometry(self) -> Geometry:
        return self._network.geometry

    def submit(self, prompt: Prompt) -> None:
        check_prompt(prompt, self._context_tokens, self.vocabulary)
        self._pending.put(prompt)

    def cancel(self, prompt_id: str) -> None:
        self._pending.cancel(prompt_id)

    def limit(self, max_sequences: int) -> None:
        self._pending.limit(max_sequences)

    def embed(self, prompt_id: str, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        for text in texts:
            check_text(text, self._context_tokens, self.vocabulary)
        job = EmbeddingJob(prompt_id, texts)
        self._pending.put_embedding(job)
        return job.result()

    def close(self) -> None:
        self._pending.close("the engine was closed")
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # The engine's thread

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while (change := self._pending.take()) is not None:
                    self._turn(change)
        except Exception as error:
            logger.exception("the engine's thread failed")
            self._give_up(f"{type(error).__name__}: {error}")
        for prompt_id in self._pending.drain():
            self._pending.left(prompt_id)
            ending: Ending = "failed" if self._is_broken else "cancelled"
            self._tell(self._listener.ended, prompt_id, ending, self._pending.why_closed)

    def _give_up(self, why: str) -> None:
        self._is_broken = True
        self._pending.close(f"the engine is out of order: {why}")

    def _turn(self, change: Change) -> None:
        for prompt_id in change.cancelled:
            self._leave(prompt_id, "cancelled")
        for prompt in change.admitted:
            self._running[prompt.id] = _Sequence(prompt, self._context_tokens)
            self._pager.add(prompt.id, prompt.tokens)
        if change.embedding is not None:
            self._embed(change.embedding)
        if self._running:
            self._guarded_step()

    def _guarded_step(self) -> None:
        rows: list[Row] = []
        try:
            rows = self._pager.plan()
            self._step(rows)
            self._faults = 0
        except Exception as error:
            logger.exception("a step of the engine failed")
            self._faults += 1
            # Without rows the plan itself failed: nobody is known to be sound.
            for prompt_id in [row.prompt_id for row in rows] or list(self._running):
                self._leave(prompt_id, "failed", f"{type(error).__name__}: {error}", keep=False)
            if self._faults >= _FAULTS_IN_A_ROW:
                self._give_up(f"{_FAULTS_IN_A_ROW} steps in a row failed: {error}")

    def _step(self, rows: list[Row]) -> None:
        started_ns = self._clock.monotonic_ns()
        emitting = [row for row in rows if row.emits]
        logits = self._network.logits(self._layout.of(rows))
        chosen = choose(logits, [self._running[row.prompt_id].drawer for row in emitting])
        by_prompt = dict(zip((row.prompt_id for row in emitting), chosen, strict=True))
        self._pager.advance([token.id if (token := by_prompt.get(row.prompt_id)) else None for row in rows])
        self._free_share = self._pager.free_share
        ended_ns = self._clock.monotonic_ns()
        self._tell(self._listener.stepped, Step(started_ns, ended_ns, tuple(map(_work, rows))))
        for prompt_id, token in by_prompt.items():
            self._deliver(prompt_id, token)

    def _deliver(self, prompt_id: str, token: Token | None) -> None:
        if token is None:
            self._leave(prompt_id, "failed", "the model gave no numbers (NaN) for the next token", keep=False)
        elif token.id in self._network.end_tokens:
            self._leave(prompt_id, "stop")
        else:
            self._tell(self._listener.tokens, prompt_id, (token,))
            sequence = self._running[prompt_id]
            sequence.left -= 1
            if not sequence.left:
                self._leave(prompt_id, "length")

    def _leave(self, prompt_id: str, ending: Ending, reason: str = "", *, keep: bool = True) -> None:
        """End a prompt, whether it ran or waited."""
        if self._running.pop(prompt_id, None) is not None:
            self._pager.drop(prompt_id, keep=keep)
            self._layout.forget(prompt_id)
            self._free_share = self._pager.free_share
        self._pending.left(prompt_id)
        self._tell(self._listener.ended, prompt_id, ending, reason)

    def _embed(self, job: EmbeddingJob) -> None:
        try:
            started_ns = self._clock.monotonic_ns()
            texts = job.next(self._prefill_tokens)
            vectors = self._network.embed(self._layout.of_texts(texts), [len(text) for text in texts]).tolist()
            work = Work(job.prompt_id, sum(map(len, texts)), 0, 0, 0)
            self._tell(self._listener.stepped, Step(started_ns, self._clock.monotonic_ns(), (work,)))
            job.add(vectors)
        except Exception as error:
            logger.exception("an embedding failed")
            job.fail(Unavailable(f"the embedding failed: {type(error).__name__}: {error}"))

    def _tell(self, hear: Callable[..., None], *news: object) -> None:
        try:
            hear(*news)
        except Exception:
            logger.exception("the listener of the engine failed; the engine goes on")


def _work(row: Row) -> Work:
    count = len(row.tokens)
    prefill, decode = (0, count) if row.decodes else (count, 0)
    return Work(row.prompt_id, prefill, decode, row.context, row.cached)
