"""/v1/embeddings of a language model: the mean of its own last hidden states, computed between the steps of its engine.

Knows nothing of HTTP beyond what app/serving/openai_door.py hands in and takes back. On the books it is prefill.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from app.protocol.openai_embeddings import EmbeddingRequest, build_embeddings
from app.protocol.openai_prompts import PromptInput, check_vocabulary
from app.protocol.openai_usage import Usage
from app.serving.generation.model import GenerationModel
from app.serving.openai_door import Call, Whole
from app.serving.receipts import Receipt, as_headers, phased_receipt_of
from app.serving.settling import settle_of_query, settled
from app.telemetry.generation import Asked, Served, request_attributes, response_attributes, span_name
from app.telemetry.tracing import request_span
from app.units import NS_PER_S


class Embedding:
    """The handler of `embeddings`."""

    def __init__(self, model: GenerationModel) -> None:
        self._model = model

    async def __call__(self, call: Call) -> Whole:
        """Raises WireFault, and what the engine raises."""
        model = self._model
        request = await model.beside(len(call.body), EmbeddingRequest.parse, call.body)
        call.check_model(request.model, model.args)
        check_vocabulary(request.inputs, "input", model.parts.engine.vocabulary)
        request.check_dimensions(model.parts.engine.geometry.hidden)
        tokens = await model.beside(len(call.body), self._tokens, request.inputs)
        asked = Asked("embeddings", request.model, model.label)
        vectors, receipt, trace = await self._embed(call, asked, tokens)
        model.charge(call.caller, receipt)
        body = build_embeddings(request, model.label, vectors, Usage(sum(map(len, tokens)), receipt=receipt))
        return Whole(body, [*as_headers(receipt), *((name.encode(), value.encode()) for name, value in trace)])

    def _tokens(self, inputs: Sequence[PromptInput]) -> list[Sequence[int]]:
        encode = self._model.generator.tokenizer.encode
        return [encode(each) if isinstance(each, str) else each for each in inputs]

    async def _embed(
        self, call: Call, asked: Asked, texts: Sequence[Sequence[int]]
    ) -> tuple[np.ndarray, Receipt, list[tuple[str, str]]]:
        """The vectors, the receipt, and headers of the trace."""
        parts, prompt_id = self._model.parts, self._model.new_id()
        settle_s = settle_of_query(call.scope.get("query_string", b""))
        work = parts.books.begin(self._model.account_of(call.caller.tenant), [prompt_id])

        def compute() -> list[list[float]]:
            try:
                return parts.engine.embed(prompt_id, texts)
            finally:  # also where its client has left meanwhile
                parts.books.ended(prompt_id)

        began_ns, served = parts.clock.monotonic_ns(), Served(input_tokens=sum(map(len, texts)))
        parts.visits.begin()
        try:
            with request_span(span_name(asked), call.scope["headers"]) as span:
                vectors = await asyncio.to_thread(compute)
                if settle_s:
                    await settled(work, settle_s)
                receipt = phased_receipt_of(work)
                for name, value in (request_attributes(asked) | response_attributes(served)).items():
                    span.set(name, value)
            return np.asarray(vectors, np.float32), receipt, list(span.headers.items())
        except BaseException as error:
            served.error_type = "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
            raise
        finally:
            parts.visits.end()
            served.duration_s = (parts.clock.monotonic_ns() - began_ns) / NS_PER_S
            parts.meter.note(asked, served)
