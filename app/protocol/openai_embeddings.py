"""/v1/embeddings: the request, and the answer in numbers or in base64 of them.

Knows nothing of models: how wide its vectors are comes in as an argument. Raises WireFault.

    request = EmbeddingRequest.parse(body)
    request.check_dimensions(384)
    body = build_embeddings(request, "minilm", vectors, Usage(prompt_tokens=12))
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from app.protocol.openai_errors import WireFault
from app.protocol.openai_fields import read_fields, shown
from app.protocol.openai_prompts import PromptInput, read_prompts
from app.protocol.openai_usage import Usage

MAX_INPUTS = 2048
"""Texts of one request at most; OpenAI's own bound."""
FORMATS = ("float", "base64")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts, or tokens, to be made vectors."""

    model: str
    inputs: tuple[PromptInput, ...]
    as_base64: bool
    """Of little-endian 32-bit floats, as OpenAI's Python client asks for it; else numbers."""
    dimensions: int | None
    """Width asked for; None: the model's own."""
    user: str | None

    @classmethod
    def parse(cls, body: bytes | bytearray | memoryview) -> "EmbeddingRequest":
        """The request in a body of /v1/embeddings."""
        fields = read_fields(body)
        model = fields.required_text("model")
        inputs = read_prompts(fields, "input", MAX_INPUTS)
        if "" in inputs:
            raise WireFault("input must not hold an empty string", "input", "empty_string")
        encoding = fields.text("encoding_format") or "float"
        if encoding not in FORMATS:
            raise WireFault(
                f"encoding_format must be one of {', '.join(FORMATS)}, got {shown(encoding)}",
                "encoding_format",
                "invalid_value",
            )
        dimensions, user = fields.whole("dimensions", 1), fields.text("user")
        return cls(model=model, inputs=inputs, as_base64=encoding == "base64", dimensions=dimensions, user=user)

    def check_dimensions(self, width: int) -> None:
        """Refuse any width but the model's."""
        if self.dimensions not in (None, width):
            raise WireFault(
                f"the model's vectors have {width} dimensions, got {self.dimensions}; leave `dimensions` out",
                "dimensions",
                "unsupported_value",
            )


def build_embeddings(request: EmbeddingRequest, model: str, vectors: np.ndarray, usage: Usage) -> bytes:
    """The answer; `vectors` are [inputs, width], one row an input."""
    rows = np.ascontiguousarray(vectors, "<f4")
    data: list[dict[str, Any]] = [
        {"object": "embedding", "index": index, "embedding": _base64(row) if request.as_base64 else row}
        for index, row in enumerate(rows)
    ]
    answer = {"object": "list", "data": data, "model": model, "usage": usage.described_of_input()}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _base64(row: np.ndarray) -> str:
    return base64.b64encode(row.tobytes()).decode()
