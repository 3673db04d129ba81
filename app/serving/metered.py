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
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from app.clock import SystemClock
from app.domain.account import Account, request_account
from app.errors import JoulekeeperError, NotFound, Unavailable
from app.protocol.messages import InferRequest, InferResponse, ModelSignature
from app.protocol.model_statistics import ModelCounts
from app.serving.answering import Answered
from app.serving.args import ModelArgs
from app.serving.lane import Lane
from app.serving.pipeline import Pipeline, open_pipeline
from app.serving.receipts import Receipt
from app.serving.shadow import SHADOW_TENANT, ShadowSender
from app.serving.usage import Usage
from app.serving.warm_up import load_warm
from app.telemetry.tracing import Carrier, RequestSpan, request_span

if TYPE_CHECKING:
    from app.metering.client import WorkClient
    from app.models.runners.base import Runner

Encoded = TypeVar("Encoded")

_log = logging.getLogger("ray.serve")

_TENANTS = 1024  # whose accounts are kept ready


class MeteredModel:
    """One model version and the client of its meter. Used from one event loop."""

    def __init__(
        self,
        args: ModelArgs,
        client: "WorkClient",
        load_runner: Callable[[ModelArgs], "Runner"],
        counts: ModelCounts | None = None,
    ) -> None:
        self.args = args
        self._counts = counts or ModelCounts()
        self._client = client
        self._load_runner = load_runner
        self._pipeline: Pipeline | None = None
        self._signature: ModelSignature | None = None
        # Lets one tenant's requests have one account object: the ring knows it again without looking it up.
        self._account_of = lru_cache(_TENANTS)(self._new_account)
        self._span_name = f"{args.name} infer"
        self.lane = Lane()
        """Where its work is done."""
        self.usage = Usage(SystemClock())
        """When it was asked."""
        self.memory_bytes = 0
        """What the loaded model holds; 0 before it is loaded."""
        self.shadow: ShadowSender | None = None
        """Who sends copies of answered requests to other versions."""

    @property
    def label(self) -> str:
        """Name and version for people: `minilm@1`."""
        return f"{self.args.name}@{self.args.version}"

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._pipeline is not None

    @property
    def signature(self) -> ModelSignature:
        """What the model takes and gives. Raises Unavailable before it is loaded."""
        if self._signature is None:
            raise self._unavailable()
        return self._signature

    def check_version(self, version: str) -> None:
        """Raises NotFound unless `version` is the one served; an empty one stands for it."""
        if version not in ("", self.args.version):
            raise NotFound(f"{self.args.name} has no version {version!r} here; {self.args.version} is served")

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
        account = self._account_of(tenant or self.args.tenant)
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

    def stats(self) -> dict[str, float]:
        """When it was asked (`Usage.stats`), and what its process was charged for the load and for staying warm."""
        charged = self._client.charged
        return self.usage.stats() | {"load_uj": float(charged.load_uj), "warm_uj": float(charged.warm_uj)}

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
            raise self._unavailable()
        return self._pipeline

    def _new_account(self, tenant: str) -> Account:
        return request_account(tenant, self.args.name, self.args.version)

    def _failed(self, error: Exception) -> JoulekeeperError:
        if self._pipeline is None:  # closed while it waited
            return self._unavailable()
        _log.error("%s failed", self.label, exc_info=error)
        return JoulekeeperError(f"{self.label} failed with {type(error).__name__}; the replica's log has the details")

    def _describe(self, span: RequestSpan, receipt: Receipt) -> None:
        span.set("joulekeeper.model", self.args.name)
        span.set("joulekeeper.version", self.args.version)
        for name, value in receipt.items():
            span.set(f"joulekeeper.{name}", value)

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"{self.label} is not loaded; try again in a moment")
