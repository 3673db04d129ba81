"""Records cleaned and checked: what is done to a text, and what a record must be.

Knows nothing of files or Ray: tables in, tables out. A record that fails keeps its place, with the reason in `fault`.
"""

import ast
import re
import unicodedata
import warnings

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.data.spec import Clean, Validate

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)


def clean(table: pa.Table, how: Clean) -> pa.Table:
    """The same records, their texts cleaned."""
    if "text" not in table.column_names:
        return table
    texts = [clean_text(text or "", how) for text in table["text"].to_pylist()]
    return table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts, pa.large_string()))


def clean_text(text: str, how: Clean) -> str:
    """`text` as `how` says; cleaning twice changes nothing more."""
    if how.line_ends:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if how.control:
        text = _CONTROL.sub("", text)
    if how.unicode != "none":
        text = unicodedata.normalize(how.unicode, text)
    if how.trailing_space:
        end = "\n" if text.endswith("\n") else ""
        text = _TRAILING.sub("", text).rstrip("\n") + end
    return text


def validate(table: pa.Table, checks: Validate) -> pa.Table:
    """The same records, each that is not as it must be with a fault."""
    if "text" in table.column_names:
        found = [_text_fault(text, checks) for text in table["text"].to_pylist()]
    else:
        found = _row_faults(table, checks)
    faults = [before or now for before, now in zip(table["fault"].to_pylist(), found, strict=True)]
    return table.set_column(table.schema.get_field_index("fault"), "fault", pa.array(faults, pa.string()))


def _text_fault(text: str, checks: Validate) -> str | None:
    if not checks.min_chars <= len(text) <= checks.max_chars:
        return f"{len(text)} characters, not {checks.min_chars} to {checks.max_chars}"
    if checks.max_line_chars and (longest := max(map(len, text.splitlines()), default=0)) > checks.max_line_chars:
        return f"a line of {longest} characters, more than {checks.max_line_chars}"
    return _python_fault(text) if checks.python else None


def _python_fault(text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"no Python: {error}"[:200]
    return None


def _row_faults(table: pa.Table, checks: Validate) -> list[str | None]:
    rows = table.num_rows
    x = matrix(table["x"])
    faults: list[str | None] = [None] * rows
    low = -np.inf if checks.minimum is None else checks.minimum
    high = np.inf if checks.maximum is None else checks.maximum
    for row in np.flatnonzero(~(np.isfinite(x) & (x >= low) & (x <= high)).all(axis=1)):
        faults[row] = f"a value that is not finite, or not within {low:g} to {high:g}"
    for row in np.flatnonzero(_wrong_labels(table["y"].combine_chunks(), checks)):
        faults[row] = faults[row] or f"label {table['y'][int(row)].as_py()} is no label"
    return faults


def matrix(lists: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A column of lists of one length as [rows, length]."""
    whole = lists.combine_chunks()
    return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size)


def _wrong_labels(labels: pa.Array, checks: Validate) -> np.ndarray:
    if pa.types.is_fixed_size_list(labels.type):
        wrong: np.ndarray = ~np.isfinite(labels.flatten().to_numpy(zero_copy_only=False))
        return wrong
    y = labels.to_numpy(zero_copy_only=False)
    return (y < 0) | ((y >= checks.classes) if checks.classes else np.zeros(len(y), bool))
