"""Runner of text encoders in sentence-transformers layout: text in, L2-normalised mean-pooled embeddings out.

Knows nothing of wires. Reads `modules.json`, the pooling configuration, the tokenizer and safetensors
weights of one directory, and gives what sentence-transformers gives, except that a text longer than the
model's limit is refused instead of being cut silently. Supports BERT with mean pooling; everything else is
refused at load. Importing this file imports torch, and neither transformers nor sentence-transformers (see
bert.py).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from app.domain.tensor import Datatype, TensorSpec
from app.errors import InvalidInput, TooLarge
from app.models.bert import Bert, BertConfig
from app.models.runners.base import Array, Arrays, check_inputs

_CHUNK_ROWS = 32  # rows padded to one length at a time, sorted by length: little work is spent on padding


class EncoderRunner:
    """Input `text` BYTES [-1] (UTF-8), output `embedding` FP32 [-1, width]; weight: tokens."""

    def __init__(self, directory: Path, name: str, version: str, *, device: str = "cpu", max_rows: int = 256) -> None:
        """Load from `directory`. Raises InvalidInput for a layout that is not supported."""
        self.name, self.version, self.max_rows = name, version, max_rows
        self.normalised = _check_modules(directory)
        self.max_tokens = int(_read_json(directory / "sentence_bert_config.json")["max_seq_length"])
        self._device = torch.device(device)
        self._module, width = _load_bert(directory, self._device)
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.inputs: tuple[TensorSpec, ...] = (TensorSpec("text", Datatype.BYTES, (-1,)),)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("embedding", Datatype.FP32, (-1, width)),)
        # weight() and run() see the same array one after the other: tokenise it once.
        self._last: tuple[Array | None, list[Encoding]] = (None, [])

    def weight(self, inputs: Arrays) -> float:
        """Tokens of all texts."""
        return float(max(1, sum(len(encoding.ids) for encoding in self._encode(inputs))))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        encodings = self._encode(inputs)
        result = np.empty((len(encodings), self.outputs[0].shape[1]), dtype=np.float32)
        by_length = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
        with torch.inference_mode():
            for start in range(0, len(by_length), _CHUNK_ROWS):
                chunk = by_length[start : start + _CHUNK_ROWS]
                result[chunk] = self._embed([encodings[i].ids for i in chunk]).cpu().numpy()
        return {"embedding": result}

    def _embed(self, ids: list[list[int]]) -> Tensor:
        lengths = torch.tensor([len(row) for row in ids])
        longest = int(lengths.max())
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self._device)
        mask = (torch.arange(longest) < lengths[:, None]).to(self._device)
        hidden: Tensor = self._module(tokens, None if int(lengths.min()) == longest else mask)
        pooled = (hidden * mask[:, :, None]).sum(1) / lengths[:, None].to(self._device)
        return normalize(pooled, dim=1) if self.normalised else pooled

    def _encode(self, inputs: Arrays) -> list[Encoding]:
        texts = inputs.get("text")
        if texts is None or self._last[0] is not texts:
            check_inputs(inputs, self.inputs, self.max_rows)
            encodings = self._tokenizer.encode_batch([_decode(row, text) for row, text in enumerate(inputs["text"])])
            self._check_lengths(encodings)
            self._last = (texts, encodings)
        return self._last[1]

    def _check_lengths(self, encodings: list[Encoding]) -> None:
        for row, encoding in enumerate(encodings):
            if len(encoding.ids) > self.max_tokens:
                raise TooLarge(
                    f"text in row {row} has {len(encoding.ids)} tokens, at most {self.max_tokens} are read; "
                    "shorten it, or split it and send the parts as rows"
                )


def _decode(row: int, text: Any) -> str:
    if not isinstance(text, bytes):
        raise InvalidInput(f"text in row {row} must be bytes of UTF-8, got {type(text).__name__}")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"text in row {row} is not UTF-8 at byte {error.start} (0x{text[error.start]:02x}); encode it so"
        ) from error


def _load_bert(directory: Path, device: torch.device) -> tuple[Bert, int]:
    try:
        config = BertConfig.model_validate(_read_json(directory / "config.json"))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise InvalidInput(f"{directory / 'config.json'} is not a BERT encoder this runner knows: {faults}") from error
    with torch.device("meta"):
        module = Bert(config)
    weights = load_file(directory / "model.safetensors", device=str(device))
    wanted = module.state_dict().keys()
    missing = sorted(wanted - weights.keys())
    if missing:
        raise InvalidInput(f"{directory / 'model.safetensors'} lacks {missing[0]} and {len(missing) - 1} more tensors")
    module.load_state_dict({name: weights[name] for name in wanted}, assign=True)
    return module.eval().requires_grad_(False), config.hidden_size


def _check_modules(directory: Path) -> bool:
    """Whether embeddings are normalised. Raises InvalidInput for a pipeline other than BERT and mean."""
    modules = _read_json(directory / "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InvalidInput(
            f"{directory / 'modules.json'} is {kinds}; this runner knows Transformer, Pooling, Normalize"
        )
    pooling = _read_json(directory / modules[1]["path"] / "config.json")
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode") and value is True]
    if modes != ["pooling_mode_mean_tokens"]:
        raise InvalidInput(f"{directory / modules[1]['path']} pools by {modes}; this runner knows the mean of tokens")
    return kinds[-1] == "Normalize"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}; is this a sentence-transformers model?") from error
