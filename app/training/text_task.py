"""Learning from texts: a language model that predicts the next token.

Knows nothing of steps or energy. The first worker trains the tokenizer on the texts that are learned from, each turns
its part of them into tokens, and all hold the whole stream; rows are the starts of packed windows (windows.py). A
window may reach over the end of a text into the next: the end token between them says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from app.models.blueprint import LanguageModel
from app.training.causal import TOKENIZER_FILE, open_causal
from app.training.compressors import compressed_bits_per_byte
from app.training.fabric import Group
from app.training.held_out import Score, score_stream, tokens_at
from app.training.job import TrainJob
from app.training.parts import PARQUET, DataSource
from app.training.task import RowNumbers
from app.training.texts import Texts, load_texts
from app.training.tokenizer import Stream, bytes_of_tokens, encode, train_tokenizer
from app.training.windows import PackedWindows, scoring_windows

_PART_WINDOWS = 32
"""Windows of the held-out text that are scored after every epoch but the last, which scores all of it."""


class TextTask:
    """`Task` of next-token prediction."""

    def __init__(self, job: TrainJob, model: LanguageModel, group: Group, checkpoint: Path | None) -> None:
        self._group, self._context, self._step_rows = group, model.context, job.step_rows
        texts = open_texts_of(job.data)
        self.card = texts.card
        self._origin = open_causal(model, checkpoint)
        tokenizer = self._origin.tokenizer or _trained(texts, self._origin.vocabulary, group)
        self.files: Mapping[str, str] = {**self._origin.files, TOKENIZER_FILE: tokenizer.to_str()}
        end = self._origin.end
        self.stream = _encode_together(tokenizer, texts.train, group, end)
        """All that is learned from, as tokens."""
        self._windows = PackedWindows(len(self.stream), model.context, job.seed)
        self._held_out = encode(tokenizer, texts.held_out, end)
        self._held_out_bytes = texts.held_out_bytes
        self._sizes = bytes_of_tokens(tokenizer, end)
        self.epoch_steps = job.epoch_steps or -(-self._windows.per_pass // job.step_rows)

    def build(self) -> nn.Module:
        return self._origin.build()

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[RowNumbers]:
        """Starts of windows, in their endless order."""
        for step in range(epoch * self.epoch_steps + first_step, (epoch + 1) * self.epoch_steps):
            yield self._windows.starts(step * self._step_rows, self._step_rows)

    def loss(self, module: nn.Module, rows: RowNumbers) -> Tensor:
        tokens = tokens_at(self.stream, rows[:, None] + np.arange(self._context + 1), self._group.device)
        logits = module(input_ids=tokens[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    def evaluate(self, module: nn.Module, *, whole: bool) -> dict[str, float]:
        """Loss in nats per token and bits per byte; of the whole also what gzip and zstd need."""
        windows = scoring_windows(len(self._held_out), self._context)
        windows = windows if whole else windows.part(_PART_WINDOWS)
        group = self._group
        mine = score_stream(
            module,
            self._held_out,
            windows,
            self._sizes,
            device=group.device,
            rank=group.rank,
            world=group.world,
        )
        score = sum(group.gather(mine), Score())
        metrics = {"loss": score.loss, "bits_per_byte": score.bits_per_byte}
        return metrics | (compressed_bits_per_byte(self._held_out_bytes) if whole else {})


def open_texts_of(data: DataSource) -> Texts:
    """The texts that a job names: those that ship with the product, or a prepared data set, read as it is used."""
    if not data.source.startswith(PARQUET):
        return load_texts(data.source, test_share=data.test_share, seed=data.seed)
    from app.training.parquet_texts import open_texts

    return open_texts(data.source.removeprefix(PARQUET), test_share=data.test_share, seed=data.seed)


def _trained(texts: Texts, vocabulary: int, group: Group) -> Tokenizer:
    """A new tokenizer, which the first worker trains."""
    trained = train_tokenizer(texts.train, vocabulary).to_str() if group.rank == 0 else ""
    return Tokenizer.from_str(group.gather(trained)[0])


def _encode_together(tokenizer: Tokenizer, texts: Sequence[str], group: Group, end: int) -> Stream:
    """The stream of all texts, of which every worker encodes a part."""
    mine = np.array_split(np.arange(len(texts)), group.world)[group.rank]
    parts = group.gather(encode(tokenizer, [texts[place] for place in mine], end))
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
