"""The seam into transformers' models: their attention layers call what one pass of the engine brings along.

Knows nothing of caches or schedulers. It stands in transformers' table of attention functions under NAME, so that any
of its models whose layers attend to everything before them can run it. The library's own paged attention without a
flash kernel lets every token look at the keys of every sequence and masks out the strangers: its cost grows with the
square of the number of sequences. Importing this file imports torch and transformers.

    model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME)
    model.base_model(input_ids=tokens, position_ids=positions, use_cache=False, attention_pass=...)
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "joulekeeper"


class AttentionPass(Protocol):
    """What the layers of one pass share: the sequences in it, and where their keys and values are."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """`query` [1, heads, rows, width], `key` and `value` with key-value heads -> [1, rows, heads, width]."""


def attend_sequence(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Attention of the last rows of one sequence over all of it.

    `query` [heads, rows, width], `keys` and `values` [key-value heads, tokens, width] -> [rows, heads, width].
    """
    heads, rows, width = query.shape
    shared, tokens = heads // keys.shape[0], keys.shape[1]
    if rows == 1:
        # Heads that share keys go as queries of one head, which copies nothing.
        query = query.reshape(-1, shared, width)
        result = scaled_dot_product_attention(query[None], keys[None], values[None], scale=scale)
        return result.reshape(1, heads, width)
    if shared > 1:
        keys, values = keys.repeat_interleave(shared, 0), values.repeat_interleave(shared, 0)
    mask = None
    if tokens > rows:
        mask = torch.ones(rows, tokens, dtype=torch.bool, device=query.device).tril_(tokens - rows)
    result = scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask, is_causal=mask is None, scale=scale
    )
    return result[0].transpose(0, 1)


class TextsPass:
    """Whole texts side by side, of which nothing is kept."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        queries, keys, values = (torch.split(each[0], self.lengths, 1) for each in (query, key, value))
        parts = zip(queries, keys, values, strict=True)
        return torch.cat([attend_sequence(*part, scale) for part in parts])[None]


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    attention_pass: AttentionPass,
    **_: Any,
) -> tuple[Tensor, None]:
    """The signature that transformers' models call."""
    layer: Any = module.layer_idx
    return attention_pass.attend(layer, query, key, value, scaling), None


AttentionInterface.register(NAME, _attention)
