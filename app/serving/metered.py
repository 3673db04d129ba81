"""A loaded model whose every inference is a slice of work on the books.

Knows nothing of Serve, HTTP or gRPC: a door hands in how to decode its request and how to encode its response, and
cannot tell what is done in between (pipeline.py). A runner sees one call at a time, and a slice begins when work
begins, not while a request waits.

    model = MeteredModel(args, client, load_runner)
    await model.load()
    body, receipt, trace = await model.answer(decode, encode, carrier=request_headers)

`answer` raises JoulekeeperError and nothing else.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from app.clock import SystemClock
from app.errors import JoulekeeperError
from app.policy.governed import Governed
from app.protocol.messages import InferRequest, InferResponse, ModelSignature
from app.protocol.model_statistics import ModelCounts
from app.serving.answering import Answered
from app.serving.args import ModelArgs
from app.serving.booked_model import BookedModel
from app.serving.lane import Lane
from app.serving.pipeline import Pipeline, open_pipeline
from app.serving.receipts import Receipt
from app.serving.shadow import SHADOW_TENANT, ShadowSender
from app.serving.warm_up import load_warm
from app.telemetry.tracing import Carrier, RequestSpan, request_span

if TYPE_CHECKING:
    from app.metering.client import WorkClient
    from app.models.runners.base import Runner

Encoded = TypeVar("Encoded")

_log = logging.getLogger("ray.serve")


class MeteredModel(BookedModel[ModelArgs]):
    """One model version and the client of its meter. Used from one event loop."""

    def __init__(
        self,
        args: ModelArgs,
        client: "WorkClient",
        load_runner: Callable[[ModelArgs], "Runner"],
        counts: ModelCounts | None = None,
    ) -> None:
        super().__init__(args, client, SystemClock())
        self._counts = counts or ModelCounts()
        self._load_runner = load_runner
        self._pipeline: Pipeline | None = None
        self._signature: ModelSignature | None = None
        self._span_name = f"{args.name} infer"
        self.lane = Lane()
        """Where its work is done."""
        self.memory_bytes = 0
        """What the loaded model holds; 0 before it is loaded."""
        self.shadow: ShadowSender | None = None
        """Who sends copies of answered requests to other versions."""

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._pipeline is not None

    @property
    def governed(self) -> Governed | None:
        """See BookedModel."""
        return self._pipeline.governed if self._pipeline else None

    @property
    def signature(self) -> ModelSignature:
        """What the model takes and gives. Raises Unavailable before it is loaded."""
        if self._signature is None:
            raise self.unavailable()
        return self._signature

    async def load(self) -> None:
        """Load the runner and run it a few times; charged to `load` from the birth of this process."""
        work = self._client.begin_load(self.args.name, self.args.version)
        try:
            runner, run_ns = await self.lane.hop(load_warm, self.args, self._load_runner)
        finally:
            work.end()
        self.lane.begin_at(run_ns)
        self.memory_bytes = runner.memory_bytes
        pipeline = open_pipeline(self.args, runner, self.lane, self._client, self._counts)
        self._signature = ModelSignature.of(self.args.name, self.args.version, runner.inputs, runner.outputs)
        self._pipeline = pipeline

    async def answer(
        self,
        decode: Callable[[], InferRequest],
        encode: Callable[[InferResponse], Encoded],
        carrier: Carrier = (),
        settle_s: float = 0.0,
        tenant: str | None = None,
        size_bytes: int = 0,
    ) -> Answered[Encoded]:
        """Decode, run and encode one request.

        `carrier` holds the caller's trace context. For `settle_s` at most it waits for the settled receipt, and lets
        others run meanwhile. `tenant` is charged, None: the model's own. `size_bytes` of the request as it will be
        decoded tell whether reading it may keep the event loop. What fails inside the model is logged, and told by its
        type.
        """
        if self.shadow and tenant != SHADOW_TENANT:
            copied = self.shadow.copied(decode)
            answer = await self._answer(copied, encode, carrier, settle_s, tenant, size_bytes)
            self.shadow.offer(copied.inputs)
            return answer
        return await self._answer(decode, encode, carrier, settle_s, tenant, size_bytes)

    async def _answer(
        self,
        decode: Callable[[], InferRequest],
        encode: Callable[[InferResponse], Encoded],
        carrier: Carrier,
        settle_s: float,
        tenant: str | None,
        size_bytes: int,
    ) -> Answered[Encoded]:
        account = self.account_of(tenant or self.args.tenant)
        self.usage.begin()
        with request_span(self._span_name, carrier) as span:
            try:
                encoded, receipt = await self._loaded().answer(decode, encode, account, settle_s, size_bytes)
            except JoulekeeperError:
                raise
            except Exception as error:
                raise self._failed(error) from error
            finally:
                self.usage.end()
            if not span.is_recording:
                return Answered(encoded, receipt, [])
            self._describe(span, receipt)
        return Answered(encoded, receipt, list(span.headers.items()))

    def close(self) -> None:
        """Stop answering and leave the meter; safe to call twice."""
        if self._pipeline:
            self._pipeline.close()
            self._pipeline = None
        if self.shadow:
            self.shadow.close()
        self.lane.close()
        self._client.close()

    def _loaded(self) -> Pipeline:
        if self._pipeline is None:
            raise self.unavailable()
        return self._pipeline

    def _failed(self, error: Exception) -> JoulekeeperError:
        if self._pipeline is None:  # closed while it waited
            return self.unavailable()
        _log.error("%s failed", self.label, exc_info=error)
        return JoulekeeperError(f"{self.label} failed with {type(error).__name__}; the replica's log has the details")

    def _describe(self, span: RequestSpan, receipt: Receipt) -> None:
        span.set("joulekeeper.model", self.args.name)
        span.set("joulekeeper.version", self.args.version)
        for name, value in receipt.items():
            span.set(f"joulekeeper.{name}", value)
