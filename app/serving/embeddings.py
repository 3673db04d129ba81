"""/v1/embeddings of a model that takes texts and gives one vector for each: an encoder, or a class that does the same.

Knows nothing of what the model is: its signature says whether it can. Tokens are what it says its inputs weigh.
"""

import numpy as np

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.messages import InferRequest, InferResponse, ModelSignature
from app.protocol.openai_embeddings import EmbeddingRequest, build_embeddings
from app.protocol.openai_errors import WireFault
from app.protocol.openai_usage import Usage
from app.protocol.tensors import bytes_array
from app.serving.admission import Admission
from app.serving.metered import MeteredModel
from app.serving.openai_door import Call, Whole
from app.serving.receipts import as_headers
from app.serving.settling import settle_of_query


class Embedder:
    """The handler of one model's door."""

    def __init__(self, model: MeteredModel, admission: Admission) -> None:
        self._model, self._admission = model, admission

    async def __call__(self, call: Call) -> Whole:
        """Raises WireFault, InvalidInput for a model that gives no embeddings, and what the model raises."""
        request = EmbeddingRequest.parse(call.body)
        call.check_model(request.model, self._model.args)
        signature = self._model.signature
        text, vector = _tensors(signature)
        if any(isinstance(each, tuple) for each in request.inputs):
            raise WireFault(f"{signature.name} takes texts, not token ids", "input", "unsupported_value")
        texts = bytes_array([str(each).encode() for each in request.inputs], (len(request.inputs),))

        def encode(response: InferResponse) -> bytes:
            vectors = response.outputs[vector.name]
            request.check_dimensions(vectors.shape[1])
            usage = Usage(round(response.weight), receipt=response.parameters)
            return build_embeddings(request, request.model, vectors.astype(np.float32, copy=False), usage)

        answer, receipt, trace = await self._model.answer(
            lambda: InferRequest("", {text.name: texts}, (vector.name,)),
            encode,
            carrier=call.scope["headers"],
            settle_s=settle_of_query(call.scope.get("query_string", b"")),
            tenant=call.caller.tenant,
            size_bytes=len(call.body),
        )
        self._admission.charge(call.caller, receipt)
        return Whole(answer, [*as_headers(receipt), *((name.encode(), value.encode()) for name, value in trace)])


def _tensors(signature: ModelSignature) -> tuple[TensorSpec, TensorSpec]:
    """The input of texts and the output of vectors. Raises InvalidInput."""
    inputs, outputs = list(signature.inputs.values()), list(signature.outputs.values())
    vectors = [spec for spec in outputs if spec.datatype is Datatype.FP32 and len(spec.shape) == 2]
    if len(inputs) == 1 and inputs[0].datatype is Datatype.BYTES and len(inputs[0].shape) == 1 and len(vectors) == 1:
        return inputs[0], vectors[0]
    raise InvalidInput(f"{signature.name} gives no embeddings: it does not take one text and give one vector for each")
