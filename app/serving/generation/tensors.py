"""Generated text as tensors: `prompt` in, `text` and why each ended out, one element for each sequence.

Knows nothing of engines or wires. Raises InvalidInput.
"""

from collections.abc import Callable, Sequence

from app.domain.generation import Sampling
from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput
from app.protocol.messages import InferRequest, InferResponse, Parameter
from app.protocol.sampling import MAX_SEQUENCES, ModelLimits
from app.protocol.tensors import bytes_array
from app.serving.generation.sampling import SamplingParameters

INPUTS = (TensorSpec("prompt", Datatype.BYTES, (-1,)),)
OUTPUTS = (TensorSpec("text", Datatype.BYTES, (-1,)), TensorSpec("finish_reason", Datatype.BYTES, (-1,)))

TokensAndSampling = tuple[Sequence[int], Sampling]


def texts_of(request: InferRequest) -> list[str]:
    """The prompts of a request."""
    prompts = request.inputs["prompt"].reshape(-1).tolist()
    if not 1 <= len(prompts) <= MAX_SEQUENCES:
        raise InvalidInput(f"prompt must have 1 to {MAX_SEQUENCES} elements, got {len(prompts)}; send several requests")
    return [_text(raw) for raw in prompts]


def read_prompts(
    request: InferRequest, encode: Callable[[str], Sequence[int]], limits: ModelLimits
) -> list[TokensAndSampling]:
    """Tokens and sampling of each prompt of a request."""
    parameters = SamplingParameters.read(request.parameters)
    tokens = [encode(text) for text in texts_of(request)]
    return [(each, parameters.sampling(limits, len(each))) for each in tokens]


def response_of(
    request: InferRequest, texts: Sequence[str], finishes: Sequence[str], told: dict[str, Parameter]
) -> InferResponse:
    """The answer, or a part of it, with the outputs that were asked for."""
    outputs = {
        name: bytes_array([text.encode() for text in values], (len(values),))
        for name, values in (("text", texts), ("finish_reason", finishes))
    }
    return InferResponse(request.id, {name: outputs[name] for name in request.outputs or outputs}, told)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"prompt must be UTF-8: {error.reason} at byte {error.start}; send text") from error
