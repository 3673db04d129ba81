"""Learning from texts: a language model that predicts the next token.

Knows nothing of steps or energy. The first worker trains the tokenizer on the texts that are learned from, each turns
its part of them into tokens, and all hold the whole stream; rows are the starts of packed windows (windows.py). A
window may reach over the end of a text into the next: the end token between them says so.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from app.models.blueprint import Llama
from app.training.compressors import compressed_bits_per_byte
from app.training.fabric import Fabric
from app.training.held_out import Score, score_stream, tokens_at
from app.training.job import TrainJob
from app.training.task import RowNumbers
from app.training.texts import Texts, load_texts
from app.training.tokenizer import Stream, bytes_of_tokens, encode, train_tokenizer
from app.training.windows import PackedWindows, scoring_windows

TOKENIZER_FILE = "tokenizer.json"
_PART_WINDOWS = 32
"""Windows of the held-out text that are scored after every epoch but the last, which scores all of it."""


class TextTask:
    """`Task` of next-token prediction."""

    def __init__(self, job: TrainJob, model: Llama, fabric: Fabric, checkpoint: Path | None) -> None:
        self._fabric, self._batch_size, self._context = fabric, job.batch_size, model.context
        texts = load_texts(job.data.source, test_share=job.data.test_share, seed=job.data.seed)
        tokenizer = _tokenizer(texts, model.vocabulary, fabric, checkpoint)
        self.files: Mapping[str, str] = {TOKENIZER_FILE: tokenizer.to_str()}
        self._stream = _encode_together(tokenizer, texts.train, fabric)
        self._windows = PackedWindows(len(self._stream), model.context, job.seed)
        self._held_out = encode(tokenizer, texts.held_out)
        self._held_out_bytes = texts.held_out_bytes
        self._sizes = bytes_of_tokens(tokenizer)
        self.epoch_steps = job.epoch_steps or -(-self._windows.per_pass // (fabric.world * job.batch_size))

    def batches(self, epoch: int) -> Iterator[RowNumbers]:
        """The workers take turns in the endless order of windows."""
        for step in range(epoch * self.epoch_steps, (epoch + 1) * self.epoch_steps):
            turn = step * self._fabric.world + self._fabric.rank
            yield self._windows.starts(turn * self._batch_size, self._batch_size)

    def loss(self, module: nn.Module, rows: RowNumbers) -> Tensor:
        tokens = tokens_at(self._stream, rows[:, None] + np.arange(self._context + 1), self._fabric.device)
        logits = module(input_ids=tokens[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    def evaluate(self, module: nn.Module, *, whole: bool) -> dict[str, float]:
        """Loss in nats per token and bits per byte; of the whole also what gzip and zstd need."""
        windows = scoring_windows(len(self._held_out), self._context)
        windows = windows if whole else windows.part(_PART_WINDOWS)
        fabric = self._fabric
        mine = score_stream(
            module,
            self._held_out,
            windows,
            self._sizes,
            device=fabric.device,
            rank=fabric.rank,
            world=fabric.world,
        )
        score = sum(fabric.gather(mine), Score())
        metrics = {"loss": score.loss, "bits_per_byte": score.bits_per_byte}
        return metrics | (compressed_bits_per_byte(self._held_out_bytes) if whole else {})


def _tokenizer(texts: Texts, vocabulary: int, fabric: Fabric, checkpoint: Path | None) -> Tokenizer:
    """The checkpoint's, else a new one, which the first worker trains."""
    if checkpoint is not None:
        return Tokenizer.from_file(str(checkpoint / TOKENIZER_FILE))
    trained = train_tokenizer(texts.train, vocabulary).to_str() if fabric.rank == 0 else ""
    return Tokenizer.from_str(fabric.gather(trained)[0])


def _encode_together(tokenizer: Tokenizer, texts: tuple[str, ...], fabric: Fabric) -> Stream:
    """The stream of all texts, of which every worker encodes a part."""
    mine = np.array_split(np.arange(len(texts)), fabric.world)[fabric.rank]
    parts = fabric.gather(encode(tokenizer, [texts[place] for place in mine]))
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
