"""A loaded language model whose every request is on the books, behind the doors of any model.

Knows nothing of Serve, HTTP or gRPC. To the Open Inference Protocol it takes `prompt` and gives `text`, one for each
element; the doors of app/serving hand in how to decode and encode (`answer`). Whoever wants text bit by bit takes a
session (session.py).

    model = GenerationModel(args, client, load, charge)
    await model.load()
    session = model.session(Asked("chat", ...), tokens, sampling_of, caller, carrier)

`answer` raises JoulekeeperError and nothing else.
"""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from app.access.gate import Caller
from app.clock import Clock, SystemClock
from app.domain.generation import Prompt
from app.policy.governed import Governed
from app.protocol.messages import InferRequest, InferResponse, ModelSignature
from app.protocol.model_statistics import ModelCounts
from app.protocol.sampling import ModelLimits
from app.serving.answering import Answered
from app.serving.booked_model import BookedModel
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.governing import EngineSteps, open_governing
from app.serving.generation.hub import Hub
from app.serving.generation.loading import fingerprint, limits_of, warm_up
from app.serving.generation.session import Parts, Session
from app.serving.generation.tensors import INPUTS, OUTPUTS, TokensAndSampling, read_prompts, response_of
from app.serving.receipts import Receipt
from app.telemetry.generation import Asked, GenerationMeter
from app.telemetry.tracing import Carrier

if TYPE_CHECKING:
    from app.metering.client import WorkClient
    from app.models.generation.engine import Listener
    from app.models.generation.load import Generator

Encoded = TypeVar("Encoded")
Result = TypeVar("Result")
Load = Callable[[GeneratorArgs, "Listener"], "Generator"]
Charge = Callable[[Caller, Receipt], None]

_log = logging.getLogger("ray.serve")

_LONG_TEXT_CHARS = 16_384
"""Texts longer than this are tokenized beside the event loop: it takes milliseconds."""
_TICK_S = 10.0
"""After so long without a token whoever waits for one looks up, and may tell its client that it is still there."""


class GenerationModel(BookedModel[GeneratorArgs]):
    """One model version and its engine. Used from one event loop."""

    def __init__(
        self,
        args: GeneratorArgs,
        client: "WorkClient",
        load: Load,
        charge: Charge,
        counts: ModelCounts,
        clock: Clock | None = None,
    ) -> None:
        """`charge` counts what a caller's request took, by its receipt."""
        self._clock = clock or SystemClock()
        super().__init__(args, client, self._clock)
        self.counts, self._load, self.charge = counts, load, charge
        self._signature = ModelSignature.of(args.name, args.version, INPUTS, OUTPUTS)
        self._codec = ThreadPoolExecutor(1, thread_name_prefix="codec")
        self._numbers = itertools.count()
        self._stem = uuid.uuid4().hex[:12]
        self._generator: Generator | None = None
        self._parts: Parts | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.fingerprint = ""

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._parts is not None

    @property
    def governed(self) -> Governed | None:
        """See BookedModel."""
        return self._parts.governing.governed() if self._parts and self._parts.governing else None

    @property
    def signature(self) -> ModelSignature:
        """What it takes and gives as tensors."""
        return self._signature

    @property
    def generator(self) -> "Generator":
        """Raises Unavailable before it is loaded, and once it is closed."""
        if self._generator is None or self._parts is None:
            raise self.unavailable()
        return self._generator

    @property
    def parts(self) -> Parts:
        """Raises Unavailable before it is loaded, and once it is closed."""
        if self._parts is None:
            raise self.unavailable()
        return self._parts

    @property
    def limits(self) -> ModelLimits:
        """What it allows, and how it generates where a request does not say."""
        return limits_of(self.args, self.generator)

    async def load(self) -> None:
        """Load weights and engine and generate a little; charged to `load` from the birth of this process."""
        work = self._client.begin_load(self.args.name, self.args.version)
        loop = asyncio.get_running_loop()
        hub = Hub(loop)
        try:
            began_ns = self._clock.monotonic_ns()
            generator = await loop.run_in_executor(self._codec, self._load, self.args, hub)
            loaded_ns = self._clock.monotonic_ns()
            await warm_up(generator, hub)
            took_ms = (loaded_ns - began_ns) / 1e6, (self._clock.monotonic_ns() - loaded_ns) / 1e6
            _log.info("%s: load %.0f ms, first tokens %.0f ms", self.label, *took_ms)
        finally:
            work.end()
        self._generator, self.fingerprint = generator, fingerprint(self.args, generator)
        self._parts = self._opened(generator, hub)
        self._ticking = loop.create_task(self._tick(hub))

    def _opened(self, generator: "Generator", hub: Hub) -> Parts:
        from app.metering.step_client import StepClient
        from app.policy.step_price import StepPrice

        engine = generator.engine
        books = StepClient(self._client, StepPrice(engine.geometry))
        governing = open_governing(self.args, engine.limit, lambda: engine.load.waiting)
        hub.steps = EngineSteps(books, self.counts, governing)
        meter, queued = GenerationMeter(), self.args.max_queued
        return Parts(engine, hub, books, governing, queued, self.usage, meter, self._clock, set())

    def session(
        self,
        asked: Asked,
        prompts: Sequence[TokensAndSampling],
        caller: Caller,
        carrier: Carrier = (),
        charges: bool = True,
    ) -> Session:
        """One request: tokens and sampling of each sequence. Without `charges` whoever gets the receipt charges it."""
        generator, stem = self.generator, self.new_id()
        wanted = [
            Prompt(f"{stem}/{index}", tuple(tokens), sampling) for index, (tokens, sampling) in enumerate(prompts)
        ]
        texts = [generator.tokenizer.text_stream(each.sampling.stop, each.tokens) for each in wanted]
        prompt_tokens = sum(len(tokens) for tokens in {id(tokens): tokens for tokens, _ in prompts}.values())

        def charge(receipt: Receipt) -> None:
            if charges or session.was_left:
                self.charge(caller, receipt)

        account = self.account_of(caller.tenant)
        session = Session(self.parts, asked, wanted, texts, prompt_tokens, account, charge, carrier)
        return session

    def new_id(self) -> str:
        """Of a request, unlike any other's of this engine."""
        return f"{self._stem}-{next(self._numbers)}"

    async def beside(self, chars: int, step: Callable[..., Result], *arguments: object) -> Result:
        """`step`, which reads a text of so many characters: here, or beside the event loop where it takes long."""
        if chars <= _LONG_TEXT_CHARS:
            return step(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._codec, step, *arguments)

    async def answer(
        self,
        decode: Callable[[], InferRequest],
        encode: Callable[[InferResponse], Encoded],
        carrier: Carrier = (),
        settle_s: float = 0.0,
        tenant: str | None = None,
        size_bytes: int = 0,
    ) -> Answered[Encoded]:
        """Decode one request of tensors, generate all of its texts, and encode them."""
        request = await self.beside(size_bytes, decode)
        session, count = await self.tensor_session(request, tenant, carrier, size_bytes)
        texts, finishes = [""] * count, [""] * count
        session.begin()
        try:
            async for grown in session.pieces():
                for each in grown:
                    texts[each.index] += each.text
                    finishes[each.index] = each.finish or ""
            receipt = await session.finish(settle_s)
        finally:
            session.leave()
        return Answered(encode(response_of(request, texts, finishes, session.told(receipt))), receipt, session.trace)

    async def tensor_session(
        self, request: InferRequest, tenant: str | None, carrier: Carrier, size_bytes: int, stream: bool = False
    ) -> tuple[Session, int]:
        """The session of a request of tensors, and how many sequences it has. Who gets its receipt charges it."""
        encode = self.generator.tokenizer.encode
        prompts = await self.beside(size_bytes, read_prompts, request, encode, self.limits)
        asked = Asked.of("text_completion", self.args.name, self.label, len(prompts), prompts[0][1], stream)
        return self.session(asked, prompts, Caller(tenant or self.args.tenant), carrier, False), len(prompts)

    def close(self) -> None:
        """Stop the engine and leave the meter; safe to call twice."""
        if self._ticking and not self._ticking.get_loop().is_closed():
            self._ticking.cancel()
        parts, self._parts = self._parts, None
        if parts:
            parts.engine.close()
            parts.meter.close()
        self._codec.shutdown(wait=False)
        self._client.close()

    async def _tick(self, hub: Hub) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            hub.wake_all()
