"""Choosing tokens: many sequences with settings of their own, from one matrix of logits.

Knows nothing of models, caches or text. A drawn token is a function of the sequence's seed, of how many tokens it has
drawn, and of its own logits: one uniform number per token, put through the inverse of the cumulative distribution in
the order of token ids. What else is in the batch has no part in it. Order of the filters as in transformers:
temperature, then top_k, then top_p. Importing this file imports torch.

    drawers = [Drawer(Sampling(max_tokens=8, temperature=0)), Drawer(Sampling(max_tokens=8, seed=7, top_p=0.9))]
    choose(logits, drawers)                  # logits [2, vocabulary] -> a Token for each, None where there is no number
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from app.domain.generation import Sampling, Token


class Drawer:
    """The settings of one sequence and its random numbers."""

    __slots__ = ("_random", "sampling")

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = random.Random(sampling.seed) if sampling.temperature > 0 else None

    @property
    def is_greedy(self) -> bool:
        """Whether it takes the most likely token."""
        return self._random is None

    @property
    def is_filtered(self) -> bool:
        """Whether some tokens cannot be drawn."""
        return self.sampling.top_k > 0 or self.sampling.top_p < 1

    def uniform(self) -> float:
        """The next number in [0, 1) of a sequence that draws."""
        if self._random is None:
            raise RuntimeError("a greedy sequence draws no random numbers")
        return self._random.random()


def choose(logits: Tensor, drawers: Sequence[Drawer]) -> list[Token | None]:
    """A token for each row of `logits` [rows, vocabulary], float32; None for a row that holds no number (NaN)."""
    ids = logits.argmax(-1)
    drawn = [row for row, drawer in enumerate(drawers) if not drawer.is_greedy]
    if drawn:
        ids[_index(drawn, logits)] = _draw(logits, drawn, drawers)
    sound = torch.isfinite(logits.amax(-1)).tolist()
    told = _tell(logits, ids, drawers)
    return [told.get(row) or Token(token, None) if sound[row] else None for row, token in enumerate(ids.tolist())]


def _draw(logits: Tensor, rows: list[int], drawers: Sequence[Drawer]) -> Tensor:
    settings = [drawers[row].sampling for row in rows]
    temperatures = torch.tensor([each.temperature for each in settings], device=logits.device)
    weights = (logits[_index(rows, logits)] / temperatures[:, None]).softmax(-1)
    filtered = [place for place, row in enumerate(rows) if drawers[row].is_filtered]
    if filtered:
        chosen = _index(filtered, logits)
        weights[chosen] = _filter(weights[chosen], [settings[place] for place in filtered])
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    uniform = torch.tensor([drawers[row].uniform() for row in rows], device=logits.device, dtype=torch.float64)
    # Below the total whatever the rounding: the token found then has a weight.
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    found = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
    return found.clamp(max=logits.shape[-1] - 1)


def _filter(weights: Tensor, settings: Sequence[Sampling]) -> Tensor:
    """`weights` with zeros for what top_k and top_p leave out; the most likely token always stays."""
    size = weights.shape[-1]
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    top_k = torch.tensor([each.top_k or size for each in settings], device=weights.device)
    top_p = torch.tensor([each.top_p for each in settings], device=weights.device)
    ordered = ordered.masked_fill(torch.arange(size, device=weights.device) >= top_k[:, None], 0)
    share = ordered / ordered.sum(-1, keepdim=True)
    out = share.cumsum(-1) - share >= top_p[:, None]
    out[:, 0] = False
    return torch.zeros_like(weights).scatter(-1, order, ordered.masked_fill(out, 0))


def _tell(logits: Tensor, ids: Tensor, drawers: Sequence[Drawer]) -> dict[int, Token]:
    """Tokens of the rows that want logarithmic probabilities: of the model, before temperature and filters."""
    rows = [row for row, drawer in enumerate(drawers) if drawer.sampling.top_logprobs >= 0]
    if not rows:
        return {}
    chosen = _index(rows, logits)
    logprobs = logits[chosen].log_softmax(-1)
    own = logprobs.gather(-1, ids[chosen][:, None])[:, 0].tolist()
    wanted = min(max(drawers[row].sampling.top_logprobs for row in rows), logits.shape[-1])
    values, tokens = (each.tolist() for each in logprobs.topk(wanted, -1))
    return {
        row: Token(
            token,
            own[place],
            tuple(zip(tokens[place], values[place], strict=True))[: drawers[row].sampling.top_logprobs],
        )
        for place, (row, token) in enumerate(zip(rows, ids[chosen].tolist(), strict=True))
    }


def _index(rows: list[int], logits: Tensor) -> Tensor:
    return torch.tensor(rows, device=logits.device)
