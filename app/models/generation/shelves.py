"""Attention on a CPU: every running sequence has its keys and values in one piece, beside the pages.

Knows nothing of schedulers or models. A CPU reads memory slowly and starts operators quickly, an accelerator the other
way round (paged_attention.py). Gathering pages in every step moves everything several times; here a sequence is
gathered once, when it comes with a cached prefix, and grows in place. At 64 sequences of 230 tokens a step then takes
0.4 of the CPU time (docs/generation/engine.md). The tokens that run are in memory twice. Importing this file imports
torch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from app.models.generation.attention import attend_sequence
from app.models.generation.paging import Row
from app.models.generation.stores import Pages

_SPARE_TOKENS = 64
_GROWTH = 1.5


class _Shelf:
    """Keys and values of one sequence: [layers, 2, key-value heads, room, width]."""

    __slots__ = ("kept", "tokens")

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept
        self.tokens = 0

    @property
    def room(self) -> int:
        return self.kept.shape[3]


class Shelves:
    """The shelves of the sequences that run."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._shelves: dict[str, _Shelf] = {}

    def of(self, rows: Sequence[Row], slots: Tensor) -> "ShelfPass":
        """The pass of `rows`, whose keys and values go to `slots` as well."""
        parts = []
        for row in rows:
            shelf = self._shelf(row)
            shelf.tokens = row.context + len(row.tokens)
            parts.append((shelf.kept[:, :, :, : shelf.tokens], len(row.tokens)))
        return ShelfPass(self._pages, parts, slots)

    def forget(self, prompt_id: str) -> None:
        """A sequence has ended."""
        self._shelves.pop(prompt_id, None)

    def _shelf(self, row: Row) -> _Shelf:
        """With the sequence's context on it and room for its new tokens."""
        wanted = row.context + len(row.tokens)
        shelf = self._shelves.get(row.prompt_id)
        if shelf is not None and shelf.tokens == row.context:
            if shelf.room < wanted:
                shelf = self._shelves[row.prompt_id] = self._moved(shelf, wanted)
            return shelf
        shelf = self._shelves[row.prompt_id] = _Shelf(self._room(wanted))
        if row.context:
            pages = torch.tensor(row.pages)
            for layer, store in enumerate(self._pages.stores):
                for place, known in enumerate(store.read(pages, row.context)):
                    shelf.kept[layer, place, :, : row.context] = known
        return shelf

    def _moved(self, shelf: _Shelf, wanted: int) -> _Shelf:
        larger = _Shelf(self._room(wanted))
        larger.kept[:, :, :, : shelf.tokens] = shelf.kept[:, :, :, : shelf.tokens]
        larger.tokens = shelf.tokens
        return larger

    def _room(self, tokens: int) -> Tensor:
        keys = self._pages.stores[0].keys
        room = int(_GROWTH * tokens) + _SPARE_TOKENS
        return torch.empty(len(self._pages.stores), 2, keys.shape[2], room, keys.shape[3], dtype=keys.dtype)


class ShelfPass:
    """One pass over sequences whose keys and values lie in one piece each."""

    def __init__(self, pages: Pages, parts: Sequence[tuple[Tensor, int]], slots: Tensor) -> None:
        """`parts`: of each sequence the shelf up to its last new token, and how many are new."""
        self._pages, self._parts, self._slots = pages, parts, slots

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As AttentionPass has it."""
        self._pages.stores[layer].write(self._slots, key, value)
        results, start = [], 0
        for kept, count in self._parts:
            stop = start + count
            keys, values = kept[layer]
            keys[:, -count:] = key[0, :, start:stop]
            values[:, -count:] = value[0, :, start:stop]
            results.append(attend_sequence(query[0, :, start:stop], keys, values, scale))
            start = stop
        return torch.cat(results)[None]
