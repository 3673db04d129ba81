"""How well a language model predicts text that it has not learned from: nats per token, bits per byte.

Knows nothing of jobs or Ray. Bits per byte charge the model for every token, the ends of texts included, and divide by
the bytes of the texts alone, so that models with different tokenizers compare, with one another and with compressors.

    score = score_stream(module, stream, windows, bytes_of_tokens(tokenizer), device=device)
    score.loss, score.bits_per_byte
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.training.tokenizer import Stream
from app.training.windows import ScoringWindows

_BATCH_TOKENS = 8192  # of logits at a time


@dataclass(frozen=True, slots=True)
class Score:
    """Of some tokens of a stream."""

    nats: float = 0.0
    tokens: int = 0
    text_bytes: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.text_bytes + other.text_bytes)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits that a perfect arithmetic coder would write for a byte of text."""
        return self.nats / math.log(2) / self.text_bytes


def score_stream(
    module: nn.Module,
    stream: Stream,
    windows: ScoringWindows,
    sizes: npt.NDArray[np.int64],
    *,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> Score:
    """The score of the tokens that `windows` count, of which worker `rank` of `world` takes its part.

    `sizes` are the bytes of each token. Puts `module` into evaluation mode.
    """
    module.eval()
    total, rows = Score(), max(1, _BATCH_TOKENS // windows.context)
    starts, fresh = windows.starts[rank::world], windows.fresh[rank::world]
    reach = np.arange(windows.context + 1)
    for first in range(0, -(-len(windows.starts) // world), rows):
        places = starts[first : first + rows, None] + reach
        if not len(places):
            # Where the module is divided among workers each must call it as often: with nothing left, for nothing.
            next_token_nats(module, tokens_at(stream, windows.starts[:1, None] + reach, device))
            continue
        counted = places[:, 1:] >= fresh[first : first + rows, None]
        nats = next_token_nats(module, tokens_at(stream, places, device)).cpu().numpy()
        scored = stream[places[:, 1:]][counted]
        total += Score(float(nats[counted].sum(dtype=np.float64)), len(scored), int(sizes[scored].sum()))
    return total


def tokens_at(stream: Stream, places: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Tokens at `places` of the stream, INT64, same shape."""
    return torch.from_numpy(stream[places].astype(np.int64)).to(device)


@torch.no_grad()
def next_token_nats(module: nn.Module, tokens: Tensor) -> Tensor:
    """Nats of every token but the first of [rows, length] tokens: FP32 [rows, length - 1]."""
    logits = module(input_ids=tokens[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none")
