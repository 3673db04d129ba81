"""The Mooncake trace: prompts as hashes of blocks, and what a cache that never forgets would find of them.

One line a request, JSON, compressed or not: `timestamp` in ms, `input_length` and `output_length` in tokens,
`hash_ids` of the prompt's blocks, the last of which may be shorter.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt."""

    tokens: int
    blocks: tuple[int, ...]

    def tokens_of(self, blocks: int) -> int:
        """Tokens in its first `blocks`."""
        return min(self.tokens, blocks * BLOCK_TOKENS)


def read(path: Path) -> list[Request]:
    """In the order they came."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = (json.loads(line) for line in file)
        return [Request(row["input_length"], tuple(row["hash_ids"])) for row in rows]


def infinite_hit_tokens(requests: Iterable[Request]) -> int:
    """Prompt tokens that came before, as a prefix, in any earlier request."""
    seen: set[int] = set()
    hits = 0
    for request in requests:
        hits += request.tokens_of(leading(request.blocks, seen))
        seen.update(request.blocks)
    return hits


def leading(blocks: Sequence[int], known: set[int]) -> int:
    """How many of `blocks`, from the first on, are known."""
    return next((place for place, block in enumerate(blocks) if block not in known), len(blocks))
