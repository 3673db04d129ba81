"""The engine's prefix cache on a trace, by the size of its memory, beside the library's eviction and no forgetting.

The real pager runs; a block of the trace is a page of two tokens that name it, and one token at the end of each prompt
stands for what a prefix never covers, the last token, which is on no whole page. Every page takes the same memory, so
a size in blocks is a size in tokens of 512 a block.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from prefix_cache_trace import BLOCK_TOKENS, Request, infinite_hit_tokens
from transformers import LlamaConfig

from app.models.generation.paging import CacheSizes, Pager

PAGE_TOKENS = 2
_STEP_BLOCKS = 4  # 2,048 tokens of a prompt in a step, as on an accelerator
SIZES = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
QUICK_SIZES, QUICK_REQUESTS = (1_000, 5_000), 3_000
_KV_KIB_PER_TOKEN = 128  # 8B Llama 3: 2 x 32 layers x 8 heads x 128 x 2 bytes


class LibraryPager(Pager):
    """Leaves eviction to transformers: every cached page goes when less than the margin is free."""

    def _make_room(self) -> None:
        pass


def hit_tokens(requests: Sequence[Request], blocks: int, kind: type[Pager] = Pager) -> int:
    """Prompt tokens that a cache of `blocks` had when their prompt came."""
    config = LlamaConfig(
        hidden_size=1, num_attention_heads=1, num_key_value_heads=1, head_dim=1, num_hidden_layers=1, vocab_size=2
    )
    sizes = CacheSizes(blocks, PAGE_TOKENS, prefix_share=1.0)
    pager = kind(config, torch.float16, torch.device("cpu"), sizes, _STEP_BLOCKS * PAGE_TOKENS)
    return sum(
        request.tokens_of(_cached(pager, str(number), request.blocks)) for number, request in enumerate(requests)
    )


def _cached(pager: Pager, prompt_id: str, blocks: Sequence[int]) -> int:
    """Blocks found when the prompt began; it is then computed and ends."""
    pager.add(prompt_id, [block for block in blocks for _ in range(PAGE_TOKENS)] + [0])
    (row,) = pager.plan()
    cached = row.cached // PAGE_TOKENS
    while not row.emits:
        pager.advance([None])
        (row,) = pager.plan()
    pager.advance([0])
    pager.drop(prompt_id)
    return cached


def run(requests: Sequence[Request], quick: bool) -> dict[str, Any]:
    chosen = requests[:QUICK_REQUESTS] if quick else requests
    total = sum(request.tokens for request in chosen)
    most = infinite_hit_tokens(chosen)
    blocks = len({block for request in chosen for block in request.blocks})
    print(
        f"{len(chosen)} prompts, {total} tokens, {blocks} different blocks of {BLOCK_TOKENS} tokens; "
        f"never forgetting finds {most} tokens again, {most / total:.1%}"
    )
    print("   blocks  8B model, GiB   hit tokens   of all  of never forgetting  library's eviction      s")
    rows = [_size(chosen, size, most, total) for size in (QUICK_SIZES if quick else SIZES)]
    return {"requests": len(chosen), "tokens": total, "blocks": blocks, "infinite_hit_tokens": most, "sizes": rows}


def _size(requests: Sequence[Request], blocks: int, most: int, total: int) -> dict[str, Any]:
    begun_s = time.monotonic()
    hits = hit_tokens(requests, blocks)
    library = hit_tokens(requests, blocks, LibraryPager)
    took_s = time.monotonic() - begun_s
    gib = blocks * BLOCK_TOKENS * _KV_KIB_PER_TOKEN / 1024**2
    print(
        f"{blocks:9d} {gib:14.1f} {hits:12d} {hits / total:8.1%} {hits / most:20.1%} {library / most:19.1%} "
        f"{took_s:6.1f}"
    )
    return {"blocks": blocks, "hit_tokens": hits, "of_infinite": hits / most, "library_of_infinite": library / most}
