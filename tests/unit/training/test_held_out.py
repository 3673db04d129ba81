"""Bits per byte: worked by hand for a model that knows nothing, and compressors beside it."""

import gzip
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.training.compressors import compressed_bits_per_byte
from app.training.held_out import Score, score_stream
from app.training.windows import scoring_windows


class Uniform(nn.Module):
    """Holds every token for equally likely."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, self.vocabulary))


STREAM = np.array([0, 1, 2, 1, 2, 2, 0, 1, 1, 0], dtype=np.int32)
SIZES = np.array([0, 3, 5])  # the end of a text, a token of 3 bytes, one of 5


def test_a_model_that_knows_nothing_pays_log_vocabulary_for_every_token_and_ends_are_no_bytes() -> None:
    score = score_stream(Uniform(8), STREAM, scoring_windows(10, 4), SIZES, device=torch.device("cpu"))
    assert (score.tokens, score.text_bytes) == (9, 4 * 3 + 3 * 5)
    assert score.loss == pytest.approx(math.log(8))
    assert score.bits_per_byte == pytest.approx(9 * 3 / 27)  # 9 tokens of 3 bits over 27 bytes


def test_workers_together_score_what_one_scores() -> None:
    windows = scoring_windows(10, 4)
    parts = [
        score_stream(Uniform(8), STREAM, windows, SIZES, device=torch.device("cpu"), rank=rank, world=3)
        for rank in range(3)
    ]
    assert sum(parts, Score()).tokens == 9


def test_compressors_see_the_whole_text_as_one_piece() -> None:
    text = b"import os\n" * 1000
    found = compressed_bits_per_byte(text)
    assert found["gzip_9"] == 8 * len(gzip.compress(text, 9, mtime=0)) / 10_000
    assert 0 < found["zstd_19"] < found["gzip_9"] < 1
