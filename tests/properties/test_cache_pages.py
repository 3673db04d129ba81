"""Pages of the key-value cache: each is free, kept for a prefix or in use, whatever comes and goes."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from transformers import LlamaConfig

from app.models.generation.paging import CacheSizes, Pager

PAGES = 24
CONFIG = LlamaConfig(
    vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, attn_implementation="eager",
)  # fmt: skip


class Pages(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pager = Pager(CONFIG, torch.float32, torch.device("cpu"), CacheSizes(PAGES, 4, 0.5), prefill_tokens=8)
        self.lengths: dict[str, int] = {}
        self.count = 0

    @rule(length=st.integers(1, 40), kind=st.integers(0, 2))
    def add(self, length: int, kind: int) -> None:
        self.count += 1
        name = f"p{self.count}"
        self.pager.add(name, [kind] * length)
        self.lengths[name] = length

    @precondition(lambda self: self.lengths)
    @rule(place=st.integers(0, 100), keep=st.booleans())
    def drop(self, place: int, keep: bool) -> None:
        name = sorted(self.lengths)[place % len(self.lengths)]
        self.pager.drop(name, keep=keep)
        del self.lengths[name]

    @precondition(lambda self: self.lengths)
    @rule(times=st.integers(1, 12))
    def step(self, times: int) -> None:
        for _ in range(times):
            rows = self.pager.plan()
            assert rows, "sequences are there and none takes part"
            assert len({row.prompt_id for row in rows}) == len(rows)
            for row in rows:
                assert len(row.pages) * 4 >= row.context + len(row.tokens)
                assert row.cached <= max(0, row.context)
            self.pager.advance([7 if row.emits else None for row in rows])
            for row in rows:
                self.lengths[row.prompt_id] += row.emits
                if self.lengths[row.prompt_id] >= 80:
                    self.pager.drop(row.prompt_id)
                    del self.lengths[row.prompt_id]
            if not self.lengths:
                return

    @invariant()
    def every_page_is_somewhere(self) -> None:
        pager = self.pager
        used = {page for table in pager._pages.block_table.values() for page in table}
        kept = set(pager._pages.ledger.cached_blocks)
        assert not used & kept
        assert len(used) + len(kept) + pager._free() == PAGES
        assert set(pager._pages.block_table) <= set(self.lengths)


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
