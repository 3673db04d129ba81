"""The seam to transformers' continuous batching: which tokens of which sequence the next pass computes, and on which
pages their keys and values lie.

Knows nothing of text, sampling, threads or passes. This is the one file that touches the library's internals (version
pinned in pyproject.toml): its paged cache with shared prefixes, its scheduler (sequences that generate come first, then
prompts in the order they came, cut to what the step may compute) and its way out when the cache is full (the youngest
sequence gives its pages back and is computed again later). Ours is what it lacks: cached prefixes leave one by one, the
longest unused first, where the library forgets all of them at once. Importing this file imports torch and transformers.

    pager.add("a", [1, 5, 9])
    rows = pager.plan()                     # Row("a", tokens=(1, 5, 9), context=0, ...)
    pager.advance([42])                     # the token that the pass gave for each row; None where it gave none
    pager.drop("a")
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any

import torch
from transformers import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.distributed import DistributedHelper
from transformers.generation.continuous_batching.offloading_manager import OffloadingManager
from transformers.generation.continuous_batching.requests import RequestState, RequestStatus
from transformers.generation.continuous_batching.scheduler import FIFOScheduler

from app.errors import InvalidInput
from app.models.generation.stores import Pages, Store

_UNBOUNDED = 2**40
_SAFETY_MARGIN = 0.05
"""Share of the cache that is kept free for sequences that run: below it no new prompt is begun."""


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """What the cache holds."""

    pages: int
    page_tokens: int
    prefix_share: float
    """Of the pages that may keep prefixes nobody uses."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the next pass computes for one sequence."""

    prompt_id: str
    tokens: tuple[int, ...]
    context: int
    """Tokens before them, whose keys and values are on the pages."""
    pages: tuple[int, ...]
    """Enough for the context and the tokens; numbers of pages of the stores."""
    emits: bool
    """Whether the pass gives its next token: not while a part of the prompt is left."""
    decodes: bool
    """Whether the token was generated; else they are prompt (or computed once more after the cache was full)."""
    cached: int
    """Tokens of the prompt that the prefix cache had; in the first row of a prompt only."""


class Pager:
    """Sequences and their pages. For one thread."""

    def __init__(
        self, config: Any, dtype: torch.dtype, device: torch.device, sizes: CacheSizes, prefill_tokens: int
    ) -> None:
        """Set the cache's memory aside. Raises InvalidInput where the model or the memory does not allow it."""
        helper = DistributedHelper(device_mesh=None, cpu_group_timeout=None)
        self._cache = _cache(config, dtype, device, sizes, prefill_tokens, helper)
        self._scheduler = FIFOScheduler(self._cache, _SAFETY_MARGIN, max_requests_per_batch=2**16)
        self._way_out = OffloadingManager(
            cache=self._cache,
            scheduler=self._scheduler,
            cpu_offload_space_gib=0.0,
            safety_threshold=0.0,
            compute_stream=None,
            distributed_helper=helper,
        )
        self._pages: Any = self._cache.cache_allocators["full_attention"]
        self._sizes, self._prefill_tokens = sizes, prefill_tokens
        self._planned: list[Any] = []
        self._new: set[str] = set()

    def pages(self) -> Pages:
        """Where keys and values are to go, and come from."""
        stores = [self._store(layer) for layer in sorted(self._pages.layer_indices)]
        return Pages(stores, self._sizes.page_tokens, self._pages.block_physical_stride)

    @property
    def free_share(self) -> float:
        """Of the pages, in [0, 1]: those that no sequence uses."""
        unused: int = self._free() + len(self._pages.ledger.cached_blocks)
        return unused / int(self._pages.num_blocks)

    def add(self, prompt_id: str, tokens: Sequence[int]) -> None:
        """Queue a prompt behind those that are there."""
        self._scheduler.add_waiting_request(RequestState(prompt_id, list(tokens), max_new_tokens=None))
        self._new.add(prompt_id)

    def drop(self, prompt_id: str, *, keep: bool = True) -> None:
        """Forget a sequence; its whole pages stay for the next prompt that begins alike, unless `keep` is False."""
        # The end of a prefix is of no use without its beginning: it is to be the older one.
        self._pages.block_table.get(prompt_id, []).reverse()
        if not keep:
            self._cache.free_blocks(prompt_id, no_cache=True)
        self._scheduler.set_request_cancellation(prompt_id)
        self._scheduler.clear_cancelled_requests()
        self._scheduler.block_new_requests = False
        self._new.discard(prompt_id)

    def reset(self) -> None:
        """Forget every sequence and every prefix."""
        self._scheduler.reset()
        self._cache.reset()
        self._planned, self._new = [], set()

    def plan(self) -> list[Row]:
        """The next pass: first rows of one token by number of pages, then the others. Empty: nothing to do."""
        self._make_room()
        scheduled = self._schedule()
        while scheduled is None:
            if not self._way_out.offload_requests():
                raise RuntimeError("no sequence fits the cache, and none can give its pages back")
            scheduled = self._schedule()
        if self._scheduler.starved_requests:
            self._way_out.offload_requests()
        tables = self._pages.block_table
        self._planned = sorted(scheduled, key=lambda each: (each.query_length > 1, len(tables[each.state.request_id])))
        return [self._row(each) for each in self._planned]

    def advance(self, tokens: Sequence[int | None]) -> None:
        """The planned pass was made and gave these tokens, one for each row; None for a row that did not emit."""
        for planned, token in zip(self._planned, tokens, strict=True):
            state = planned.state
            state.position_offset += planned.query_length
            if token is not None:
                state.update_and_check_completion(token, None)
            self._cache.mark_complete_blocks(state, planned.complete_blocks)
        self._planned = []

    def _schedule(self) -> list[Any] | None:
        active = self._scheduler.active_requests.values()
        decoding = sum(state.status == RequestStatus.DECODING for state in active)
        scheduled: list[Any] | None = self._scheduler.schedule_batch(self._prefill_tokens + decoding, _UNBOUNDED)[0]
        return scheduled

    def _row(self, planned: Any) -> Row:
        state = planned.state
        prompt_id: str = state.request_id
        is_new = prompt_id in self._new
        self._new.discard(prompt_id)
        return Row(
            prompt_id,
            tuple(state.tokens_to_process),
            state.position_offset,
            tuple(self._pages.block_table[prompt_id]),
            emits=planned.has_new_token,
            decodes=bool(state.generated_tokens),
            cached=state.position_offset if is_new else 0,
        )

    def _make_room(self) -> None:
        """Let go of cached prefixes, the longest unused first, as far as the step may need pages."""
        active, waiting = len(self._scheduler.active_requests), len(self._scheduler.waiting_requests)
        wanted = max(
            ceil(2 * _SAFETY_MARGIN * self._pages.num_blocks),
            self._prefill_tokens // self._sizes.page_tokens + active + waiting + 1,
        )
        ledger = self._pages.ledger
        too_many = len(ledger.cached_blocks) - int(self._sizes.prefix_share * self._pages.num_blocks)
        victims = list(islice(ledger.cached_blocks, max(0, wanted - self._free(), too_many)))
        for page in victims:
            del ledger.cached_blocks[page]
            del ledger.hash_to_block[ledger.block_to_hash.pop(page)]
        self._cache.pool.free_blocks(self._pages.index, victims)

    def _free(self) -> int:
        pool = self._cache.pool
        free: int = pool.num_free_sectors * self._pages.blocks_per_sector + pool.count_free_blocks(self._pages.index)
        return free

    def _store(self, layer: int) -> Store:
        keys, values = self._pages.get_cache_for_block_table(layer)
        step = self._pages.block_physical_stride // self._sizes.page_tokens
        return Store(keys[::step], values[::step], keys.flatten(0, 1), values.flatten(0, 1))


def _cache(
    config: Any, dtype: torch.dtype, device: torch.device, sizes: CacheSizes, batch_tokens: int, helper: Any
) -> Any:
    # Named so, the library sets no memory aside for masks, which no attention of ours needs.
    config = copy.copy(config)
    config._attn_implementation = "flash_attention_2"
    settings = ContinuousBatchingConfig(
        page_size=sizes.page_tokens,
        num_blocks=sizes.pages,
        max_batch_tokens=batch_tokens,
        max_requests_per_batch=1,
        max_blocks_per_request=0,
        max_memory_percent=1.0,
        allow_block_sharing=sizes.prefix_share > 0,
    )
    try:
        cache = PagedAttentionCache(config, settings, device, helper, dtype, model_supports_logits_to_keep=True)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise InvalidInput(
            f"a key-value cache of {sizes.pages * sizes.page_tokens} tokens does not fit the memory ({error}); "
            "lower cache_tokens"
        ) from error
    if list(cache.cache_allocators) != ["full_attention"]:
        raise InvalidInput(
            f"this engine runs models whose layers attend to everything before them, {config.model_type} has "
            f"{', '.join(cache.cache_allocators)}"
        )
    return cache
