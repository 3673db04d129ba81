"""Runner of text encoders: text in, pooled embeddings out.

Knows nothing of wires. Reads one directory in sentence-transformers or plain transformers layout (encoder_layout.py),
its tokenizer and its safetensors weights (encoder_network.py), and gives what sentence-transformers gives, except that
a text longer than the model's limit is refused instead of being cut silently. Importing this file imports torch.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn
from torch.nn.functional import normalize

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput, TooLarge
from app.models.runners.base import Array, Arrays, check_inputs, held_bytes
from app.models.runners.encoder_layout import EncoderLayout, read_layout
from app.models.runners.encoder_network import load_network

_CHUNK_ROWS = 32  # rows padded to one length at a time, sorted by length: little work is spent on padding


class EncoderRunner:
    """Input `text` BYTES [-1] (UTF-8), output `embedding` FP32 [-1, width]; weight: tokens."""

    batch = True

    def __init__(self, directory: Path, name: str, version: str, *, device: str = "cpu", max_rows: int = 256) -> None:
        """Load from `directory`. Raises InvalidInput for a layout that is not supported."""
        self.name, self.version, self.max_rows = name, version, max_rows
        self._layout = read_layout(directory)
        self.max_tokens = self._layout.max_tokens
        self._device = torch.device(device)
        self._module, width = load_network(directory, self._device)
        self.memory_bytes = held_bytes(self._module.state_dict().values())
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("text", Datatype.BYTES, (-1,)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("embedding", Datatype.FP32, (-1, width)),)
        # weight() sees each request of a batch, then run() all of them at once: a text is tokenised once.
        self._weighed: dict[bytes, list[int]] = {}

    def weight(self, inputs: Arrays) -> float:
        """Tokens of all texts."""
        return float(max(1, sum(map(len, self._tokens(inputs)))))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        tokens = self._tokens(inputs)
        self._weighed.clear()
        result = np.empty((len(tokens), self.outputs[0].shape[1]), dtype=np.float32)
        by_length = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        with torch.inference_mode():
            for start in range(0, len(by_length), _CHUNK_ROWS):
                chunk = by_length[start : start + _CHUNK_ROWS]
                result[chunk] = self._embed([tokens[row] for row in chunk]).cpu().numpy()
        return {"embedding": result}

    def _embed(self, ids: list[list[int]]) -> Tensor:
        return embed_tokens(self._module, self._layout, ids, self._device)

    def _tokens(self, inputs: Arrays) -> list[list[int]]:
        check_inputs(inputs, self.inputs, self.max_rows)
        texts = inputs["text"].tolist()
        decoded = [_decode(row, text) for row, text in enumerate(texts)]
        new = [row for row, text in enumerate(texts) if text not in self._weighed]
        encodings = self._tokenizer.encode_batch([decoded[row] for row in new])
        self._check_lengths(new, encodings)
        found = {texts[row]: encoding.ids for row, encoding in zip(new, encodings, strict=True)}
        if len(self._weighed) > self.max_rows:  # weighed and never run: their requests failed
            self._weighed = {text: ids for text in texts if (ids := self._weighed.get(text)) is not None}
        self._weighed |= found
        return [self._weighed[text] for text in texts]

    def _check_lengths(self, rows: list[int], encodings: list[Encoding]) -> None:
        for row, encoding in zip(rows, encodings, strict=True):
            if len(encoding.ids) > self.max_tokens:
                raise TooLarge(
                    f"text in row {row} has {len(encoding.ids)} tokens, at most {self.max_tokens} are read; "
                    "shorten it, or split it and send the parts as rows"
                )


def embed_tokens(module: nn.Module, layout: EncoderLayout, ids: list[list[int]], device: torch.device) -> Tensor:
    """Embeddings [rows, width] of rows of tokens; gradients pass."""
    lengths = torch.tensor([len(row) for row in ids])
    longest = int(lengths.max())
    tokens = torch.tensor([row + [layout.pad_token] * (longest - len(row)) for row in ids], device=device)
    mask = (torch.arange(longest) < lengths[:, None]).to(device)
    hidden: Tensor = module(tokens, None if int(lengths.min()) == longest else mask)
    pooled = _pool(layout, hidden, mask, lengths)
    return normalize(pooled, dim=1) if layout.normalised else pooled


def _pool(layout: EncoderLayout, hidden: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    match layout.pooling:
        case "cls":
            return hidden[:, 0]
        case "max":
            return hidden.masked_fill(~mask[:, :, None], -torch.inf).amax(1)
        case "mean":
            return (hidden * mask[:, :, None]).sum(1) / lengths[:, None].to(hidden.device)


def _decode(row: int, text: Any) -> str:
    if not isinstance(text, bytes):
        raise InvalidInput(f"text in row {row} must be bytes of UTF-8, got {type(text).__name__}")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"text in row {row} is not UTF-8 at byte {error.start} (0x{text[error.start]:02x}); encode it so"
        ) from error
