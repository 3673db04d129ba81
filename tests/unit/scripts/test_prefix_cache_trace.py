"""Reading a trace of prompts, and what a cache that never forgets finds in it."""

import gzip
import json
from pathlib import Path

from bench.prefix_cache_trace import Request, infinite_hit_tokens, leading, read

ROWS = [
    {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]},
    {"timestamp": 9, "input_length": 1600, "output_length": 5, "hash_ids": [0, 1, 3, 4]},
    {"timestamp": 9, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]},
]


def test_rows_are_read_in_their_order_compressed_or_not(tmp_path: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "trace.jsonl").write_text(text)
    with gzip.open(tmp_path / "trace.jsonl.gz", "wt") as file:
        file.write(text)
    plain = read(tmp_path / "trace.jsonl")
    assert plain == read(tmp_path / "trace.jsonl.gz")
    assert plain[1] == Request(1600, (0, 1, 3, 4))


def test_hits_are_leading_blocks_and_never_more_than_the_prompt() -> None:
    requests = [Request(row["input_length"], tuple(row["hash_ids"])) for row in ROWS]
    # The second finds two whole blocks, the third all of its 1,100 tokens: its last block is a short one.
    assert infinite_hit_tokens(requests) == 2 * 512 + 1100


def test_a_block_behind_an_unknown_one_is_no_hit() -> None:
    assert leading((7, 1, 2), {1, 2}) == 0
    assert leading((1, 7, 2), {1, 2}) == 1
