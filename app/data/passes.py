"""What the tasks of a preparation run: three passes over blocks, and between them the search for what is the same.

Knows nothing of how tasks are started (prepare.py does that): each function takes a block and gives one.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.data.cleaning import clean, matrix, validate
from app.data.listing import Piece
from app.data.matching import Keyed, Pairs, dealt, keyed, later_ones, pairs_of
from app.data.reading import read_chunk
from app.data.sketches import Bands, Keys, digest_keys, runs, similarity
from app.data.spec import Near, PrepareSpec
from app.data.tally import Stage
from app.data.writing import staying, write_block

if TYPE_CHECKING:
    from app.data.stages import Meter

Numbers = npt.NDArray[np.int64]

DIGEST, BANDS = "digest", "bands"
"""Columns of keys that the first and the second pass add."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every task of a run is given."""

    spec: PrepareSpec
    run: str
    meter: "Meter"


def chunk_table(number: int, pieces: Sequence[Piece]) -> pa.Table:
    """A chunk of files as the block that the first pass takes."""
    return pa.Table.from_pylist([{"chunk": number, **asdict(piece)} for piece in pieces])


def read_clean_validate(block: pa.Table, work: Work) -> pa.Table:
    """First pass: from names of files to records with digests."""
    number, spec, meter = block["chunk"][0].as_py(), work.spec, work.meter
    name = f"chunk-{number}"
    pieces = [Piece(row["path"], row["name"], row["bytes"]) for row in block.to_pylist()]
    with meter.stage("read", name) as done:
        table = read_chunk(spec, number, pieces)
        done.rows = table.num_rows
    with meter.stage("clean", name) as done:
        table = clean(table, spec.clean)
        done.rows = table.num_rows
    with meter.stage("validate", name) as done:
        table = validate(table, spec.checks)
        done.rows = table["fault"].null_count
    if spec.deduplicate.exact:
        with meter.stage("exact", name):
            table = table.append_column(DIGEST, _lists(_digests(table)))
    return table


def sketch(block: pa.Table, work: Work, gone: Numbers) -> pa.Table:
    """Second pass: the records that are still there, as numbers and bands of MinHash; texts without words are left."""
    near = work.spec.deduplicate.near or Near()
    with work.meter.stage("near", f"sketch-{_first_row(block)}"):
        bands, there = Bands(near), staying(block, gone)
        found = [bands.keys(text) for text in there["text"].to_pylist()]
        rows = there["row"].to_numpy()[[each is not None for each in found]]
        keys = np.array([each for each in found if each is not None], dtype=np.uint64).reshape(-1, bands.count)
    return pa.table({"row": pa.array(rows), BANDS: _lists(keys)})


def write(block: pa.Table, work: Work, gone: Numbers, kept: Numbers) -> pa.Table:
    """Third pass: write what stays. Gives one row: what was written, which records went, and the names of `kept`."""
    with work.meter.stage("write", f"write-{_first_row(block)}") as done:
        there = staying(block, gone)
        done.rows = there.num_rows
        written = write_block(there, work.spec.write, f"part-{work.run}-{_first_row(block):013x}.parquet")
    told = {
        **{key: getattr(written, key) for key in ("content_bytes", "columns", "outputs")},
        "file": written.file.model_dump(mode="json") if written.file else None,
        "faulty": _named(block.filter(pc.is_valid(block["fault"])), "fault"),
        "gone": _named(block.filter(pa.array(np.isin(block["row"].to_numpy(), gone))), "row"),
        "kept": _named(block.filter(pa.array(np.isin(block["row"].to_numpy(), kept))), "row"),
    }
    return pa.table({"told": [json.dumps(told)]})


def deal_keys(block: pa.Table, column: str, parts: int, work: Work, stage: Stage) -> list[Keyed]:
    """Numbers and keys of the records without a fault, by the part that matches them."""
    with work.meter.stage(stage, f"deal-{_first_row(block)}"):
        if "fault" in block.column_names:
            block = block.filter(pc.is_null(block["fault"]))
        rows, width = block["row"].to_numpy(), block.schema.field(column).type.list_size
        keys = block[column].combine_chunks().flatten().to_numpy().reshape(len(rows), width)
        if column == BANDS:
            return dealt(keyed(np.repeat(rows, width), keys.reshape(-1, 1)), parts)
        return dealt(keyed(rows, keys), parts)


def match_keys(work: Work, stage: Stage, part: int, *entries: Keyed) -> Pairs:
    """Pairs of records with an equal key among all entries of a part."""
    with work.meter.stage(stage, f"match-{part}"):
        return pairs_of(np.concatenate(entries))


def exact_ones(work: Work, *pairs: Pairs) -> Pairs:
    """The records that equal an earlier one, with that."""
    with work.meter.stage("exact", "settle"):
        return later_ones(np.concatenate(pairs))


def runs_of(block: pa.Table, wanted: Numbers, work: Work) -> dict[int, Keys]:
    """Runs of words of the wanted records of a block, by number."""
    near = work.spec.deduplicate.near or Near()
    with work.meter.stage("near", f"runs-{_first_row(block)}"):
        asked = block.filter(pa.array(np.isin(block["row"].to_numpy(), wanted)))
        texts = zip(asked["row"].to_pylist(), asked["text"].to_pylist(), strict=True)
        return {row: runs(text, near.words) for row, text in texts}


def near_ones(work: Work, pairs: Pairs, *known: dict[int, Keys]) -> Pairs:
    """The records that are similar enough to an earlier one, directly or by others between, with that."""
    near = work.spec.deduplicate.near or Near()
    with work.meter.stage("near", "settle"):
        found = {row: keys for part in known for row, keys in part.items()}
        alike = [similarity(found[one], found[other]) >= near.similarity for one, other in pairs.tolist()]
        return later_ones(pairs[np.array(alike, dtype=bool)])


def _digests(table: pa.Table) -> Keys:
    if "text" in table.column_names:
        contents = (text.encode() for text in table["text"].to_pylist())
    else:
        numbers, labels = matrix(table["x"]), table["y"].to_pylist()
        contents = (x.tobytes() + repr(y).encode() for x, y in zip(numbers, labels, strict=True))
    return np.array([digest_keys(content) for content in contents], dtype=np.uint64).reshape(-1, 2)


def _lists(keys: Keys) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), keys.shape[1])


def _first_row(block: pa.Table) -> int:
    """Names a block: no two have the same."""
    return int(block["row"][0].as_py()) if block.num_rows else -1


def _named(block: pa.Table, column: str) -> list[tuple[str, str | int]]:
    return list(zip(block["name"].to_pylist(), block[column].to_pylist(), strict=True))
