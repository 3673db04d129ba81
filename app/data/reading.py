"""From source files to records: one table a chunk of files, with the same columns whatever the format was.

Knows nothing of Ray. Columns: `row`, a number that orders all records of a preparation; `name`; `fault`, why the record
cannot be used, or null; and `text`, or `x` (a list of FP32) and `y` (INT64, or a list of one FP32).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from app.data.listing import Piece, root_of
from app.data.spec import PrepareSpec, Rows, Source, Texts
from app.errors import InvalidInput
from app.training.parquet_files import reaching

_ROWS_PER_CHUNK = 1 << 32


def read_chunk(spec: PrepareSpec, number: int, pieces: Sequence[Piece]) -> pa.Table:
    """The records of chunk `number`. Raises InvalidInput for a file that is not of its format, Unavailable."""
    if spec.source.format in ("files", "lines"):
        table = _text_table(list(_texts(spec.source, pieces)))
    else:
        table = pa.concat_tables([_records(spec, piece) for piece in pieces])
    rows = pa.array(np.arange(table.num_rows, dtype=np.int64) + number * _ROWS_PER_CHUNK)
    return table.add_column(0, "row", rows)


def _text_table(records: Sequence[tuple[str, str, str | None]]) -> pa.Table:
    names, texts, faults = zip(*records, strict=True) if records else ((), (), ())
    return pa.table(
        {"name": pa.array(names, pa.string()), "fault": pa.array(faults, pa.string()), "text": _large(texts)}
    )


def _large(texts: Sequence[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


def _texts(source: Source, pieces: Sequence[Piece]) -> Iterator[tuple[str, str, str | None]]:
    """Name, text and fault of each."""
    for piece in pieces:
        content = _content(source.url, piece)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            yield piece.name, "", f"not UTF-8 at byte {error.start}"
            continue
        if source.format == "files":
            yield piece.name, text, None
        else:
            yield from ((f"{piece.name}:{line}", each, None) for line, each in enumerate(text.splitlines(), 1) if each)


def _content(url: str, piece: Piece) -> bytes:
    with reaching(url), _stream(url, piece) as stream:
        return bytes(stream.read())


def _stream(url: str, piece: Piece) -> Any:
    """An open stream; `.gz`, `.zst` and the like are unpacked."""
    files, root = root_of(url)
    return files.open_input_stream(f"{root}/{piece.path}" if piece.path else root)


def _records(spec: PrepareSpec, piece: Piece) -> pa.Table:
    """The records of a file that has columns."""
    with reaching(spec.source.url):
        try:
            raw = _parsed(spec.source, piece)
        except pa.ArrowInvalid as error:
            raise InvalidInput(f"{piece.name} is not {spec.source.format}: {error}") from error
    name = spec.content.name if isinstance(spec.content, Texts) else ""
    names = _column(raw, name, piece) if name else pa.array([f"{piece.name}:{row}" for row in range(raw.num_rows)])
    head = {"name": names.cast(pa.string()), "fault": pa.nulls(raw.num_rows, pa.string())}
    if isinstance(spec.content, Texts):
        return pa.table(head | {"text": _column(raw, spec.content.text, piece).cast(pa.large_string())})
    return pa.table(head | _numbers(raw, spec.content, piece))


def _parsed(source: Source, piece: Piece) -> pa.Table:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    if source.format == "parquet":
        files, root = root_of(source.url)
        return pyarrow.parquet.read_table(f"{root}/{piece.path}" if piece.path else root, filesystem=files)
    with _stream(source.url, piece) as stream:
        if source.format == "jsonl":
            return pyarrow.json.read_json(stream)
        options = pyarrow.csv.ReadOptions(autogenerate_column_names=not source.header)
        return pyarrow.csv.read_csv(stream, read_options=options)


def _column(table: pa.Table, name: str, piece: Piece) -> pa.Array:
    if name not in table.column_names:
        raise InvalidInput(f"{piece.name} has no column {name!r}; it has {', '.join(table.column_names[:20])}")
    return table[name].combine_chunks()


def _numbers(raw: pa.Table, content: Rows, piece: Piece) -> dict[str, pa.Array]:
    names = content.features or tuple(name for name in raw.column_names if name != content.label)
    columns = [_column(raw, name, piece) for name in names]
    try:
        parts = [_floats(column) for column in columns]
        label = _column(raw, content.label, piece).to_numpy(zero_copy_only=False)
        x = np.concatenate(parts, axis=1) if parts else np.zeros((raw.num_rows, 0), np.float32)
        y = _classes(label) if content.label_is == "class" else _lists(label.astype(np.float32)[:, None])
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{piece.name}: a feature or label is no number: {error}") from error
    return {"x": _lists(x), "y": y}


def _floats(column: pa.Array) -> np.ndarray:
    """[rows, values]: values of a list, or one."""
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
        return np.array([np.asarray(each, np.float32) for each in column.to_pylist()], np.float32)
    return column.to_numpy(zero_copy_only=False).astype(np.float32)[:, None]


def _lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def _classes(label: np.ndarray) -> pa.Array:
    """INT64; -1, which no class is, for what is no whole number."""
    numbers = label.astype(np.float64)
    whole = np.isfinite(numbers) & (numbers == np.floor(np.where(np.isfinite(numbers), numbers, 0)))
    return pa.array(np.where(whole, np.where(whole, numbers, 0), -1).astype(np.int64))
