"""Records that stay, as a Parquet file: columns packed with zstd, pages with checksums.

Knows nothing of Ray or of the data set's `dataset.json`, which the driver writes when all files are there.
"""

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.data.spec import Write
from app.training.parquet_files import PreparedFile, open_url, reaching

_KEPT_COLUMNS = ("name", "text", "x", "y")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one block."""

    file: PreparedFile | None
    """None: nothing of it stayed."""
    content_bytes: int
    """Of the records in it, unpacked."""
    columns: int
    outputs: int
    """Values in `y`, or one more than its largest class; 0 of texts."""


def staying(table: pa.Table, gone: npt.NDArray[np.int64]) -> pa.Table:
    """The records without a fault whose number is not in `gone`."""
    rows = table["row"].to_numpy()
    keep = ~np.isin(rows, gone) & table["fault"].combine_chunks().is_null().to_numpy(zero_copy_only=False)
    return table.filter(pa.array(keep))


def write_block(table: pa.Table, target: Write, name: str) -> Written:
    """Write the records of `table` to file `name` below the target's URL. Raises InvalidInput or Unavailable."""
    import pyarrow.parquet as pq

    columns, outputs = _shape(table)
    if not table.num_rows:
        return Written(None, 0, columns, outputs)
    content = table.select([column for column in _KEPT_COLUMNS if column in table.column_names])
    sink = pa.BufferOutputStream()
    pq.write_table(
        content,
        sink,
        compression="zstd",
        compression_level=target.zstd_level,
        row_group_size=target.row_group_rows,
        write_page_checksum=True,
    )
    packed = sink.getvalue()
    put(target.url, name, packed)
    sizes = [
        min(target.row_group_rows, table.num_rows - start) for start in range(0, table.num_rows, target.row_group_rows)
    ]
    file = PreparedFile(
        path=name, bytes=packed.size, sha256=hashlib.sha256(packed).hexdigest(), row_groups=tuple(sizes)
    )
    return Written(file, content_bytes(content), columns, outputs)


def content_bytes(table: pa.Table) -> int:
    """Bytes of the texts in UTF-8, or of the numbers."""
    if "text" in table.column_names:
        return int(pc.sum(pc.binary_length(table["text"])).as_py() or 0)
    x, y = table.schema.field("x").type, table.schema.field("y").type
    label = y.list_size * 4 if pa.types.is_fixed_size_list(y) else 8
    return int(table.num_rows * (x.list_size * 4 + label))


def put(url: str, name: str, content: Any) -> None:
    """Write `content` as `name` below `url`: whole or not at all where the filesystem has atomic moves or uploads."""
    files, path = open_url(url)
    with reaching(url):
        files.create_dir(path, recursive=True)
        if files.type_name != "local":  # object stores show an object when its upload ends
            with files.open_output_stream(f"{path}/{name}") as stream:
                stream.write(content)
            return
        with files.open_output_stream(f"{path}/.{name}.part") as stream:
            stream.write(content)
        files.move(f"{path}/.{name}.part", f"{path}/{name}")


def remove(url: str, names: Set[str]) -> None:
    """Delete files below `url`; one that is not there is no fault."""
    files, path = open_url(url)
    for name in names:
        with reaching(url):
            if files.get_file_info(f"{path}/{name}").is_file:
                files.delete_file(f"{path}/{name}")


def _shape(table: pa.Table) -> tuple[int, int]:
    if "x" not in table.column_names:
        return 0, 0
    labels = table.schema.field("y").type
    if pa.types.is_fixed_size_list(labels):
        outputs = labels.list_size
    else:
        outputs = int(np.max(table["y"].to_numpy(), initial=-1)) + 1
    return table.schema.field("x").type.list_size, outputs
