"""A loaded model whose every inference is a slice of work on the books.

Knows nothing of Serve, HTTP or gRPC: a door hands in how to decode its request and how to encode its response. One
thread does all of it - load, decode, run, encode - so that the event loop stays free for health checks, a runner sees
one call at a time, and a slice begins when work begins, not while a request waits.

    model = MeteredModel(args, client, load_runner)
    await model.load()
    body, headers = await model.answer(decode, encode, carrier=request_headers)

`answer` raises JoulekeeperError and nothing else.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from app.domain.account import request_account
from app.domain.tensor import Datatype, TensorSpec
from app.errors import JoulekeeperError, NotFound, Unavailable
from app.protocol.messages import InferRequest, InferResponse, ModelSignature, select_outputs
from app.protocol.tensors import bytes_array, dtype_of
from app.serving.args import ModelArgs
from app.serving.receipts import Receipt, as_metadata, receipt_of
from app.serving.settling import settled
from app.telemetry.tracing import Carrier, RequestSpan, request_span

if TYPE_CHECKING:
    from app.metering.client import OpenSlice, WorkClient
    from app.models.runners.base import Runner

Encoded = TypeVar("Encoded")
Result = TypeVar("Result")

_log = logging.getLogger("ray.serve")


class MeteredModel:
    """One model version and the client of its meter. Used from one event loop."""

    def __init__(self, args: ModelArgs, client: "WorkClient", load_runner: Callable[[ModelArgs], "Runner"]) -> None:
        self.args = args
        self._client = client
        self._load_runner = load_runner
        self._runner: Runner | None = None
        self._signature: ModelSignature | None = None
        self._account = request_account(args.tenant, args.name, args.version)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @property
    def label(self) -> str:
        """Name and version for people: `minilm@1`."""
        return f"{self.args.name}@{self.args.version}"

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._runner is not None

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
        """Load the runner and run it once; charged to `load` from the birth of this process."""
        work = self._client.begin_load(self.args.name, self.args.version)
        try:
            runner = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        finally:
            work.end()
        self._signature = ModelSignature.of(self.args.name, self.args.version, runner.inputs, runner.outputs)
        self._runner = runner

    async def answer(
        self,
        decode: Callable[[], InferRequest],
        encode: Callable[[InferResponse], Encoded],
        carrier: Carrier = (),
        settle_s: float = 0.0,
    ) -> tuple[Encoded, list[tuple[str, str]]]:
        """Decode, run and encode one request; returns with it the headers of its response, receipt and trace.

        `carrier` holds the caller's trace context. For `settle_s` at most it waits for the settled receipt, and lets
        others run meanwhile. What fails inside the model is logged, and told by its type.
        """
        with request_span(f"{self.args.name} infer", carrier) as span:
            if settle_s:
                request, outputs, work = await self._in_thread(self._infer, decode)
                await settled(work, settle_s)
                encoded, receipt = await self._in_thread(_encoded, encode, request, outputs, work)
            else:
                encoded, receipt = await self._in_thread(self._answer, decode, encode)
            if span.is_recording:
                self._describe(span, receipt)
        return encoded, [*as_metadata(receipt), *span.headers.items()]

    def close(self) -> None:
        """Stop answering and leave the meter; safe to call twice."""
        self._runner = None
        self._thread.shutdown(wait=False)
        self._client.close()

    async def _in_thread(self, step: Callable[..., Result], *arguments: object) -> Result:
        if self._runner is None:
            raise self._unavailable()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, step, *arguments)
        except JoulekeeperError:
            raise
        except Exception as error:
            _log.exception("%s failed", self.label)
            raise JoulekeeperError(
                f"{self.label} failed with {type(error).__name__}; the replica's log has the details"
            ) from error

    def _describe(self, span: RequestSpan, receipt: Receipt) -> None:
        span.set("joulekeeper.model", self.args.name)
        span.set("joulekeeper.version", self.args.version)
        for name, value in receipt.items():
            span.set(f"joulekeeper.{name}", value)

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"{self.label} is not loaded; try again in a moment")

    def _load(self) -> "Runner":
        runner = self._load_runner(self.args)
        _limit_threads(self.args.torch_threads)
        runner.run({spec.name: _sample(spec) for spec in runner.inputs})
        return runner

    def _answer(
        self, decode: Callable[[], InferRequest], encode: Callable[[InferResponse], Encoded]
    ) -> tuple[Encoded, Receipt]:
        return _encoded(encode, *self._infer(decode))

    def _infer(self, decode: Callable[[], InferRequest]) -> tuple[InferRequest, dict[str, np.ndarray], "OpenSlice"]:
        runner = self._runner
        if runner is None:
            raise self._unavailable()
        mark = self._client.mark()
        request = decode()
        # Reading the request is work for it; one that cannot be read has no receipt, and no slice.
        work = self._client.begin(self._account, weight=runner.weight(request.inputs), since=mark)
        try:
            outputs = runner.run(request.inputs)
        finally:
            work.end()
        return request, outputs, work


def _encoded(
    encode: Callable[[InferResponse], Encoded],
    request: InferRequest,
    outputs: dict[str, np.ndarray],
    work: "OpenSlice",
) -> tuple[Encoded, Receipt]:
    receipt = receipt_of(work)
    return encode(InferResponse(request.id, select_outputs(request, outputs), receipt)), receipt


def _limit_threads(count: int) -> None:
    # Only where the runner brought torch; it starts with OMP_NUM_THREADS, which Ray derives from num_cpus.
    if count and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _sample(spec: TensorSpec) -> np.ndarray:
    sizes = tuple(1 if size == -1 else size for size in spec.shape)
    if spec.datatype is Datatype.BYTES:
        return bytes_array([b"warm up"] * int(np.prod(sizes)), sizes)
    return np.zeros(sizes, dtype_of(spec.datatype))
