"""What happens to a request between the wire's two ends: at once and in one go, or in stages.

Knows nothing of wires, spans or loading. Short work is done at once on the event loop, longer work on the model's
thread (lane.py). In stages go requests that may be joined with others (batcher.py), answered from what is kept
(response_cache.py) or settled before they are answered: their inputs must be known before, and time passes in between.

    pipeline = open_pipeline(args, runner, lane, client, counts)
    encoded, receipt = await pipeline.answer(decode, encode, account, settle_s=0.0, size_bytes=len(body))
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from app.clock import SystemClock
from app.domain.account import Account
from app.errors import InvalidInput
from app.policy.batching import BatchLimits, BatchObjective, Governor, batch_grid
from app.policy.governed import Governed
from app.protocol.messages import InferRequest, InferResponse, select_outputs
from app.protocol.model_statistics import ModelCounts
from app.serving.args import Batching, ModelArgs
from app.serving.batcher import Batcher
from app.serving.joining import kind_of, rows_of
from app.serving.kept_answers import KeptAnswers
from app.serving.lane import Lane
from app.serving.metered_runner import Arrays, Ask, Done, MeteredRunner, energy_uj_of
from app.serving.receipts import Receipt
from app.serving.response_cache import ResponseCache
from app.serving.settling import settled

if TYPE_CHECKING:
    from app.metering.client import WorkClient
    from app.models.runners.base import Runner

Encoded = TypeVar("Encoded")
Result = TypeVar("Result")
Decode = Callable[[], InferRequest]
Encode = Callable[[InferResponse], Encoded]

_SMALL_BYTES = 65_536
"""Requests and outputs up to this are read and written on the event loop."""


class Pipeline:
    """One loaded model version. Used from one event loop; `lane` is where its runner runs."""

    def __init__(
        self,
        runner: MeteredRunner,
        lane: Lane,
        client: "WorkClient",
        batcher: Batcher[Ask, Done] | None = None,
        always_batch: bool = False,
        kept: KeptAnswers | None = None,
    ) -> None:
        """Without `always_batch`, work short enough for the event loop is done at once in spite of a batcher."""
        self._runner, self._lane, self._client = runner, lane, client
        self._batcher, self._always_batch, self._kept = batcher, always_batch, kept
        self._codec = ThreadPoolExecutor(1, thread_name_prefix="codec")

    async def answer(
        self, decode: Decode, encode: Encode[Encoded], account: Account, settle_s: float, size_bytes: int
    ) -> tuple[Encoded, Receipt]:
        """Decode, run and encode one request of `size_bytes`; raises whatever these raise."""
        is_small = size_bytes <= _SMALL_BYTES
        if settle_s or self._kept or self._joins:
            return await self._in_stages(decode, encode, account, settle_s, is_small)
        if is_small and self._lane.enter():
            began_ns = time.perf_counter_ns()
            try:
                return self._at_once(self._runner.run_briefly, decode, encode, account)
            finally:
                self._lane.leave(time.perf_counter_ns() - began_ns)
        return await self._lane.hop(self._at_once, self._runner.run, decode, encode, account, requests=int(is_small))

    def close(self) -> None:
        """Take no more requests; those that wait are refused."""
        if self._batcher:
            self._batcher.close()
        self._lane.close()
        self._codec.shutdown(wait=False)

    @property
    def governed(self) -> Governed | None:
        """What the governor of its batches found; None: none runs."""
        return self._batcher.governed if self._batcher else None

    @property
    def _joins(self) -> bool:
        return self._batcher is not None and (self._always_batch or not self._lane.is_short)

    def _at_once(
        self, run: Callable[[Ask, int | None], Done], decode: Decode, encode: Encode[Encoded], account: Account
    ) -> tuple[Encoded, Receipt]:
        mark = self._client.mark()  # reading the request is work for it
        request = decode()
        done = run(Ask(request.inputs, account), mark)
        receipt = done.work.receipt()
        return encode(_response(request, done, receipt)), receipt

    async def _in_stages(
        self, decode: Decode, encode: Encode[Encoded], account: Account, settle_s: float, is_small: bool
    ) -> tuple[Encoded, Receipt]:
        mark = self._client.mark() if self._kept else None
        request = await self._code(is_small, decode)
        ask = Ask(request.inputs, account)
        if self._kept:
            key = await self._code(is_small, self._kept.key_of, ask, request.outputs)
            found = self._kept.find(key, account, mark)
            done, told = found or (self._kept.keep(key, await self._infer(ask)), {})
        else:
            done, told = await self._infer(ask), {}
        if settle_s:
            await settled(done.work, settle_s)
        receipt = done.work.receipt() | told
        response = _response(request, done, receipt)
        return await self._code(_size_bytes(response.outputs) <= _SMALL_BYTES, encode, response), receipt

    async def _infer(self, ask: Ask) -> Done:
        if self._batcher and self._joins:
            return await self._batcher.submit(ask, kind_of(ask.inputs), rows_of(ask.inputs))
        if self._lane.enter():
            began_ns = time.perf_counter_ns()
            try:
                return self._runner.run(ask)
            finally:
                self._lane.leave(time.perf_counter_ns() - began_ns)
        return await self._lane.hop(self._runner.run, ask, requests=1)

    async def _code(self, here: bool, step: Callable[..., Result], *arguments: object) -> Result:
        """Read or write something `here`, on the event loop, or beside it."""
        if here:
            return step(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._codec, step, *arguments)


def _response(request: InferRequest, done: Done, receipt: Receipt) -> InferResponse:
    return InferResponse(request.id, select_outputs(request, done.outputs), receipt, done.weight)


def _size_bytes(outputs: Arrays) -> int:
    return sum(array.nbytes for array in outputs.values())


def open_pipeline(args: ModelArgs, runner: "Runner", lane: Lane, client: "WorkClient", counts: ModelCounts) -> Pipeline:
    """The pipeline that `args` ask for. Raises InvalidInput if requests are to be joined and the runner cannot."""
    if args.batching and not runner.batch:
        raise InvalidInput(
            f"batching is asked for, but requests to {args.name} cannot be joined: its runner says `batch = False`; "
            "remove `batching`"
        )
    metered = MeteredRunner(runner, client, counts)
    batcher = _open_batcher(args.batching or Batching(), metered, lane) if runner.batch else None
    kept = None
    if args.cache:
        max_bytes = round(args.cache.max_mb * 1_000_000)
        kept = KeptAnswers(ResponseCache(max_bytes, args.cache.ttl_s, SystemClock()), client, counts)
    return Pipeline(metered, lane, client, batcher, always_batch=args.batching is not None, kept=kept)


def _open_batcher(wanted: Batching, metered: MeteredRunner, lane: Lane) -> Batcher[Ask, Done]:
    max_rows = min(wanted.max_rows, metered.runner.max_rows)
    governor = None
    if wanted.objective_p95_ms is not None:
        latency_s = wanted.objective_p95_ms / 1000
        governor = Governor(BatchObjective(latency_s=latency_s), batch_grid(max_rows, latency_s))
    fixed = BatchLimits(max_rows, wanted.max_wait_ms / 1000)
    return Batcher(lane, metered.run_together, fixed, wanted.max_queued, governor, energy_uj_of)
