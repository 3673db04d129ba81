"""The passes over blocks, run here one after the other as tasks run them: what goes, what stays, what is written."""

import json
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest

from app.data import passes
from app.data.listing import chunks, pieces_of
from app.data.passes import Work
from app.data.spec import parse_spec
from app.data.tally import Done

LONG = " ".join(f"word{i}" for i in range(300))


class Stages:
    """Stands in for the meter: notes which stages ran."""

    def __init__(self):
        self.ran = []

    @contextmanager
    def stage(self, stage, block):
        self.ran.append((stage, block))
        yield Done()


@pytest.fixture
def work(tmp_path):
    files = {"a": f"{LONG}\n", "b": "short", "c": f"{LONG}  \r\n", "d": f"{LONG} more\n", "e": "", "f": "else " * 9}
    (tmp_path / "in").mkdir()
    for name, text in files.items():
        (tmp_path / "in" / name).write_text(text, newline="")
    raw = {
        "name": "a",
        "source": {"url": str(tmp_path / "in"), "licence": "CC0-1.0"},
        "content": {"kind": "texts"},
        "deduplicate": {"near": {}},
        "write": {"url": str(tmp_path / "out"), "row_group_rows": 2},
    }
    return Work(parse_spec(raw, "test"), "a-1", Stages())


def first_blocks(work, at_most_bytes=3000):
    dealt = chunks(pieces_of(work.spec.source), at_most_bytes)
    return [passes.read_clean_validate(passes.chunk_table(number, chunk), work) for number, chunk in enumerate(dealt)]


def paired(work, blocks, column, stage):
    dealt = [passes.deal_keys(block, column, 3, work, stage) for block in blocks]
    return [passes.match_keys(work, stage, part, *entries) for part, entries in enumerate(zip(*dealt, strict=True))]


def names_of(blocks):
    return {row["row"]: row["name"] for block in blocks for row in block.to_pylist()}


def test_equal_and_similar_records_go_across_blocks_and_the_rest_is_written(work, tmp_path):
    blocks = first_blocks(work)
    names = names_of(blocks)
    assert len(blocks) > 1
    exact = passes.exact_ones(work, *paired(work, blocks, passes.DIGEST, "exact"))
    assert [(names[row], names[of]) for row, of in exact.tolist()] == [("c", "a")]

    sketches = [passes.sketch(block, work, exact[:, 0]) for block in blocks]
    assert sorted(names[row] for each in sketches for row in each["row"].to_pylist()) == ["a", "b", "d", "f"]
    pairs = np.unique(np.concatenate(paired(work, sketches, passes.BANDS, "near")), axis=0)
    runs = [passes.runs_of(block, np.unique(pairs), work) for block in blocks]
    near = passes.near_ones(work, pairs, *runs)
    assert [(names[row], names[of]) for row, of in near.tolist()] == [("d", "a")]

    gone, kept = np.concatenate([exact, near]).T
    told = [json.loads(passes.write(block, work, gone, kept)["told"][0].as_py()) for block in blocks]
    written = sorted(path for path in (tmp_path / "out").iterdir())
    read = [row for path in written for row in pq.read_table(path).to_pylist()]
    assert [row["name"] for row in read] == ["a", "b", "f"]
    assert read[0]["text"] == f"{LONG}\n"
    assert [name for each in told for name, _ in each["gone"]] == ["c", "d"]
    assert [name for each in told for name, _ in each["kept"]] == ["a"]
    assert [fault for each in told for fault in each["faulty"]] == [["e", "0 characters, not 1 to 10000000"]]
    assert sum(each["content_bytes"] for each in told) == sum(len(row["text"]) for row in read)
    assert {stage for stage, _ in work.meter.ran} == {"read", "clean", "validate", "exact", "near", "write"}
    assert len(set(work.meter.ran)) == len(work.meter.ran)


def test_rows_of_numbers_are_equal_when_numbers_and_label_are(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,0\n1,1\n1,0\n2,0\n")
    raw = {
        "name": "a",
        "source": {"url": str(tmp_path), "format": "csv", "licence": "CC0-1.0"},
        "content": {"kind": "rows", "label": "y"},
        "write": {"url": str(tmp_path / "out")},
    }
    work = Work(parse_spec(raw, "test"), "a-1", Stages())
    blocks = first_blocks(work)
    exact = passes.exact_ones(work, *paired(work, blocks, passes.DIGEST, "exact"))
    assert exact.tolist() == [[2, 0]]
    told = json.loads(passes.write(blocks[0], work, exact[:, 0], exact[:, 1])["told"][0].as_py())
    assert (told["columns"], told["outputs"], told["content_bytes"]) == (1, 2, 3 * (4 + 8))
    assert told["file"]["row_groups"] == [3]
