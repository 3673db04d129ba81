"""The pages of the key-value cache as tensors, and how passes write to them.

Knows nothing of who holds which page. Importing this file imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Store:
    """Keys and values of one layer, [pages, tokens of a page, key-value heads, width of a head], and the same memory
    by token."""

    keys: Tensor
    values: Tensor
    keys_by_slot: Tensor
    values_by_slot: Tensor

    def write(self, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Put `key` and `value` [1, key-value heads, rows, width] at `slots` [rows]."""
        self.keys_by_slot.index_copy_(0, slots, key[0].transpose(0, 1))
        self.values_by_slot.index_copy_(0, slots, value[0].transpose(0, 1))

    def read(self, pages: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """The first `tokens` of a sequence on `pages`: keys and values [key-value heads, tokens, width]."""
        keys, values = (
            kept.index_select(0, pages).flatten(0, 1)[:tokens].transpose(0, 1) for kept in (self.keys, self.values)
        )
        return keys, values


@dataclass(frozen=True, slots=True)
class Pages:
    """All layers' stores, and how a token's place is reckoned."""

    stores: Sequence[Store]
    page_tokens: int
    stride: int
    """Slots from the first token of one page to the first of the next: the layers' pages lie between."""

    def slots(self, pages: Sequence[int], start: int, stop: int) -> list[int]:
        """Where the tokens [start, stop) of a sequence on `pages` are."""
        size = self.page_tokens
        return [pages[place // size] * self.stride + place % size for place in range(start, stop)]
