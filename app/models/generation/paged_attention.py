"""Attention on an accelerator: sequences that generate go together, in groups of similar length, from their pages.

Knows nothing of schedulers or models. Written with torch's own operators, so that it runs wherever torch does; a CPU is
better served by shelves.py. Importing this file imports torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from app.models.generation.attention import attend_sequence
from app.models.generation.paging import Row
from app.models.generation.stores import Pages, Store

_EMPTY_PAGE = 0
"""A page that the cache never gives away: what a shorter sequence of a group reads instead of pages of its own."""
_GROUP_WASTE = 2.0
"""Pages that a group reads over those that its shortest sequence needs, at most: more groups read less for nothing, but
each costs a few calls in every layer."""
_SMALL_GROUP_PAGES = 8
"""Up to so many pages for a sequence a group is not cut."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Sequences of which the pass has one token each, padded to the same number of pages."""

    start: int
    stop: int
    pages: Tensor
    """[sequences x width], row by row."""
    hidden: Tensor
    """[sequences, 1, 1, tokens]: 0 where a token of the sequence is, minus infinity elsewhere."""

    def attend(self, store: Store, query: Tensor, scale: float) -> Tensor:
        """`query` [sequences, heads, width] -> the same. Heads that share keys go as queries of one head."""
        count, heads, width = query.shape
        keys, values = (
            pages.index_select(0, self.pages).view(count, -1, *pages.shape[2:]).transpose(1, 2)
            for pages in (store.keys, store.values)
        )
        query = query.reshape(count, keys.shape[1], -1, width)
        result = scaled_dot_product_attention(query, keys, values, attn_mask=self.hidden, scale=scale)
        return result.reshape(count, heads, width)


@dataclass(frozen=True, slots=True)
class _Span:
    """One sequence of which the pass has several tokens."""

    start: int
    stop: int
    tokens: int
    """Of the sequence, these included."""
    pages: Tensor


class PagedPass:
    """One pass: first the rows of one token by number of pages, then the others, as the pager plans them."""

    def __init__(self, pages: Pages, rows: Sequence[Row], slots: Tensor) -> None:
        self._pages, self._slots = pages, slots
        singles = sum(len(row.tokens) == 1 for row in rows)
        cuts = _cuts([len(row.pages) for row in rows[:singles]])
        self._groups = [self._group(rows, start, stop) for start, stop in cuts]
        self._spans = list(self._of_spans(rows[singles:], singles))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As AttentionPass has it."""
        store = self._pages.stores[layer]
        store.write(self._slots, key, value)
        results = [
            group.attend(store, query[0, :, group.start : group.stop].transpose(0, 1), scale) for group in self._groups
        ]
        for span in self._spans:
            known = store.read(span.pages, span.tokens)
            results.append(attend_sequence(query[0, :, span.start : span.stop], *known, scale))
        return torch.cat(results)[None]

    def _group(self, rows: Sequence[Row], start: int, stop: int) -> _Group:
        members, device, dtype = rows[start:stop], self._slots.device, self._pages.stores[0].keys.dtype
        width = len(members[-1].pages)
        pages = [page for row in members for page in (*row.pages, *([_EMPTY_PAGE] * (width - len(row.pages))))]
        lengths = torch.tensor([row.context + 1 for row in members], device=device)
        beyond = torch.arange(width * self._pages.page_tokens, device=device) >= lengths[:, None]
        hidden = torch.zeros(beyond.shape, dtype=dtype, device=device).masked_fill_(beyond, -torch.inf)
        return _Group(start, stop, torch.tensor(pages, device=device), hidden[:, None, None, :])

    def _of_spans(self, rows: Sequence[Row], start: int) -> Iterator[_Span]:
        for row in rows:
            stop = start + len(row.tokens)
            pages = torch.tensor(row.pages, device=self._slots.device)
            yield _Span(start, stop, row.context + len(row.tokens), pages)
            start = stop


def _cuts(widths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where to cut sequences of `widths`, ascending, into groups."""
    start = 0
    for place, width in enumerate(widths):
        if width > max(_SMALL_GROUP_PAGES, _GROUP_WASTE * widths[start]):
            yield start, place
            start = place
    if widths:
        yield start, len(widths)
