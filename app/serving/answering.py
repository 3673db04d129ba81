"""What the doors of the Open Inference Protocol need of a model, whatever it does between decoding and encoding."""

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from app.protocol.messages import InferRequest, InferResponse, ModelSignature
from app.serving.args import ServedArgs
from app.serving.receipts import Receipt
from app.telemetry.tracing import Carrier

Encoded = TypeVar("Encoded")


class Answered(NamedTuple, Generic[Encoded]):
    """A response as its door encoded it, and what its headers must say."""

    encoded: Encoded
    receipt: Receipt
    trace: list[tuple[str, str]]
    """Trace context; empty while tracing is off."""


class AnsweringModel(Protocol):
    """One model version: `MeteredModel`, or `GenerationModel` of a language model."""

    @property
    def args(self) -> ServedArgs: ...
    @property
    def label(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    @property
    def signature(self) -> ModelSignature: ...
    def check_version(self, version: str) -> None: ...
    async def answer(
        self,
        decode: Callable[[], InferRequest],
        encode: Callable[[InferResponse], Encoded],
        carrier: Carrier = (),
        settle_s: float = 0.0,
        tenant: str | None = None,
        size_bytes: int = 0,
    ) -> Answered[Encoded]: ...
