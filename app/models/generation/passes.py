"""From planned rows to the tensors of one pass.

Knows nothing of models or schedulers. Importing this file imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from app.models.generation.attention import AttentionPass, TextsPass
from app.models.generation.paged_attention import PagedPass
from app.models.generation.paging import Row
from app.models.generation.shelves import Shelves
from app.models.generation.stores import Pages


@dataclass(frozen=True, slots=True)
class PassInput:
    """What the model is called with."""

    tokens: Tensor
    positions: Tensor
    attention: AttentionPass
    emitting: Tensor
    """Rows of the pass whose logits are wanted."""


class Layout:
    """Lays passes out over one cache."""

    def __init__(self, pages: Pages, *, shelved: bool) -> None:
        """`shelved`: running sequences are kept in one piece beside their pages, as suits a CPU."""
        self._pages, self._device = pages, pages.stores[0].keys.device
        self._shelves = Shelves(pages) if shelved else None

    def of(self, rows: Sequence[Row]) -> PassInput:
        """The pass of `rows`."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        emitting: list[int] = []
        for row in rows:
            start, stop = row.context, row.context + len(row.tokens)
            tokens += row.tokens
            positions += range(start, stop)
            slots += self._pages.slots(row.pages, start, stop)
            if row.emits:
                emitting.append(len(tokens) - 1)
        places = self._tensor(slots)
        attention = self._shelves.of(rows, places) if self._shelves else PagedPass(self._pages, rows, places)
        return PassInput(self._tensor(tokens), self._tensor(positions), attention, self._tensor(emitting))

    def of_texts(self, texts: Sequence[Sequence[int]]) -> PassInput:
        """A pass over whole texts that keeps nothing and emits nothing."""
        lengths = [len(text) for text in texts]
        return PassInput(
            self._tensor([token for text in texts for token in text]),
            self._tensor([position for length in lengths for position in range(length)]),
            TextsPass(lengths),
            self._tensor([]),
        )

    def forget(self, prompt_id: str) -> None:
        """A sequence has ended."""
        if self._shelves:
            self._shelves.forget(prompt_id)

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
