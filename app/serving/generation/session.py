"""One request for generated text, from the engine's yes to its receipt, whichever wire brought it.

Knows nothing of wires. What it took is charged when the engine works for it no more, whether it was answered or its
client left; so are its span and its points in the histograms.

    session = Session(parts, asked, prompts, texts, account, caller, carrier)
    session.begin()                                    # raises Busy, TooLarge, InvalidInput, Unavailable
    try:
        async for grown in session.pieces(): ...
        receipt = await session.finish(settle_s)
    finally:
        session.leave()                                # frees what still runs; nothing after `finish`
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.clock import Clock
from app.domain.account import Account
from app.domain.generation import Prompt
from app.errors import JoulekeeperError
from app.models.generation.engine import GenerationEngine
from app.serving.generation.governing import Governing
from app.serving.generation.hub import Hub
from app.serving.generation.running import Grown, Running, Texts
from app.serving.receipts import Receipt, phased_receipt_of
from app.serving.settling import settled
from app.serving.usage import Usage as Visits
from app.telemetry.generation import Asked, GenerationMeter, Served, request_attributes, response_attributes, span_name
from app.telemetry.tracing import Carrier, RequestSpan, request_span
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.metering.client import PhasedSlice
    from app.metering.step_client import StepClient

_LAST_STEP_S = 30.0
"""How long the engine may take to notice that nobody wants a request any more: a step lasts as long as it does."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the sessions of one loaded model share."""

    engine: GenerationEngine
    hub: Hub
    books: "StepClient"
    governing: Governing | None
    max_queued: int
    visits: Visits
    meter: GenerationMeter
    clock: Clock
    endings: "set[asyncio.Task[None]]"
    """Requests whose clients have left and whose last step is still to come."""


class Session:
    """For one event loop. Used once."""

    def __init__(
        self,
        parts: Parts,
        asked: Asked,
        prompts: Sequence[Prompt],
        texts: Sequence[Texts],
        prompt_tokens: int,
        account: Account,
        charge: Callable[[Receipt], None],
        carrier: Carrier = (),
    ) -> None:
        """`charge` is called once, with the receipt as it is at the end. `prompt_tokens`: of each prompt once."""
        self._parts, self._asked, self._prompts = parts, asked, prompts
        self._account, self._charge, self._carrier = account, charge, carrier
        self._running = Running(parts.engine, parts.hub, prompts, texts)
        self._served = Served(input_tokens=prompt_tokens)
        self.prompt_tokens = prompt_tokens
        self._work: PhasedSlice | None = None
        self._span: RequestSpan | None = None
        self._began_ns = parts.clock.monotonic_ns()
        self._is_leaving = self._is_over = False
        self._cached: list[int] = []

    def begin(self) -> None:
        """Hand it to the engine, which may refuse it."""
        parts = self._parts
        parts.visits.begin()
        self._span = request_span(span_name(self._asked), self._carrier).__enter__()
        try:
            if parts.engine.load.waiting >= parts.max_queued:
                # Most likely it is refused: whoever asks in vain shall not push receipts out of the ring.
                self._running.submit()
                self._note()
            else:
                self._note()
                self._running.submit()
        except Exception as error:
            self._leave_with(error)
            raise

    def _note(self) -> None:
        """Open its work on the books, before the engine's first step for it."""
        parts, prompt_ids = self._parts, [prompt.id for prompt in self._prompts]
        self._work = parts.books.begin(self._account, prompt_ids)
        for prompt_id in prompt_ids:
            if parts.governing:
                parts.governing.asked(prompt_id)

    @property
    def receipt_id(self) -> str:
        """Known from the beginning; empty with metering off."""
        return self._work.receipt_id if self._work else ""

    @property
    def trace(self) -> list[tuple[str, str]]:
        """Headers of the trace; empty while tracing is off."""
        return list(self._span.headers.items()) if self._span else []

    @property
    def completion_tokens(self) -> int:
        """Generated so far, all sequences together."""
        return sum(self._running.tokens)

    @property
    def cached_tokens(self) -> list[int]:
        """For each sequence, tokens of its prompt that came from the prefix cache."""
        return self._cached or self._running.cached_tokens

    @property
    def was_left(self) -> bool:
        """Whether it did not come to its end."""
        return self._is_leaving

    def told(self, receipt: Receipt) -> Receipt:
        """`receipt` with the numbers of tokens, as response parameters tell them."""
        return receipt | {"input_tokens": self.prompt_tokens, "output_tokens": self.completion_tokens}

    def receipt(self) -> Receipt:
        """What it used so far; all of it once it is finished."""
        return phased_receipt_of(self._work) if self._work else {}

    async def pieces(self) -> AsyncIterator[list[Grown]]:
        """What comes, until every sequence has come to its end; nothing in it: only time has passed."""
        try:
            while not self._running.is_finished:
                grown = await self._running.grown()
                if self._served.first_token_s is None and any(each.tokens for each in grown):
                    self._served.first_token_s = self._elapsed_s()
                yield grown
        except JoulekeeperError as error:
            self._leave_with(error)
            raise

    async def finish(self, settle_s: float = 0.0) -> Receipt:
        """Wait for the engine's last step for it, and for the settled receipt if that is wanted; the receipt."""
        duration_s = self._elapsed_s()
        await self._running.ended()
        if settle_s and self._work:
            await settled(self._work, settle_s)
        self._served.duration_s = duration_s
        return self._end()

    def leave(self) -> None:
        """Its client has left, or it is answered: free whatever it still holds."""
        self._leave_with(None)

    def _leave_with(self, error: Exception | None) -> None:
        if self._is_over or self._is_leaving or self._span is None:
            return
        self._is_leaving = True
        self._served.error_type = type(error).__name__ if error else "cancelled"
        self._served.duration_s = self._elapsed_s()
        self._running.cancel()
        if self._running.has_ended or self._work is None:
            self._end(error)
            return
        task = asyncio.get_running_loop().create_task(self._end_later(error))
        # The loop keeps weak references only.
        self._parts.endings.add(task)
        task.add_done_callback(self._parts.endings.discard)

    async def _end_later(self, error: Exception | None) -> None:
        try:
            async with asyncio.timeout(_LAST_STEP_S):
                await self._running.ended()
        except TimeoutError:
            pass  # what the engine still does for it is booked and told to nobody
        finally:
            self._end(error)

    def _end(self, error: Exception | None = None) -> Receipt:
        """All that is left to do, once."""
        self._is_over = True
        served, has_ended = self._served, self._running.has_ended
        self._cached = self._running.cached_tokens
        served.output_tokens, served.cached_tokens = self.completion_tokens, sum(self._cached)
        served.finish_reasons = tuple(finish or "error" for finish in self._running.finishes)
        self._running.close()
        if has_ended:
            # Where its work was opened after the engine's yes, the engine may have been done with it before that.
            for prompt in self._prompts:
                self._parts.books.ended(prompt.id)
        receipt = self.receipt()
        if "prefill_uj" in receipt:
            served.prefill_uj, served.decode_uj = int(receipt["prefill_uj"]), int(receipt["decode_uj"])
            receipt |= self._shares()
        self._charge(receipt)
        self._parts.visits.end()
        self._parts.meter.note(self._asked, served)
        self._close_span(receipt, error)
        return receipt

    def _shares(self) -> Receipt:
        told = self._work.energy() if self._work else None
        if told is None or self._work is None:
            return {}
        load_uj, warm_uj = self._work.shares(told)
        return {"load_share_uj": load_uj, "warm_share_uj": warm_uj}

    def _close_span(self, receipt: Receipt, error: Exception | None) -> None:
        span = self._span
        if span is None:
            return
        if span.is_recording:
            said = request_attributes(self._asked) | response_attributes(self._served)
            said |= {f"joulekeeper.{name}": value for name, value in receipt.items()}
            for name, value in said.items():
                span.set(name, value)
        span.__exit__(type(error) if error else None, error, None)

    def _elapsed_s(self) -> float:
        return (self._parts.clock.monotonic_ns() - self._began_ns) / NS_PER_S
