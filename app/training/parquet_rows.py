"""Learning from a prepared data set of rows without holding it: row groups are read as the order of rows comes to them.

Knows nothing of torch or Ray. Which rows are held out is decided by their number and the seed alone. In memory are the
numbers of the rows, the rows that are held out, and the row groups last used; an epoch takes the row groups in a
shuffled order, some at a time, and shuffles the rows within those.

    data = open_rows("s3://bucket/digits", test_share=0.2, seed=7)
    data.train_x[data.order(seed=7, epoch=0)[:32]]    # FP32 [32, columns]
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.errors import InvalidInput
from app.models.card import DataCard
from app.training.parquet_files import PreparedData, RowGroups, read_prepared, shown

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]

_GROUPS_AT_ONCE = 8  # rows are shuffled within as many row groups; RowGroups keeps twice that


class LazyRows:
    """Some rows of one column: an array that is read where it is indexed."""

    def __init__(self, data: "_Columns", numbers: Numbers, column: Literal["x", "y"]) -> None:
        self._data, self._numbers, self._column = data, numbers, column

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, places: Numbers | slice) -> Array:
        return self._data.take(self._numbers[places], self._column)


@dataclass(frozen=True)
class StreamedRows:
    """`Dataset` (data.py) of a prepared data set: the same names, read as they are used."""

    train_x: LazyRows
    train_y: LazyRows
    _test: tuple[LazyRows, LazyRows]
    _groups: Numbers
    """Of each row to learn from, its row group."""
    card: DataCard

    @cached_property
    def test_x(self) -> Array:
        """FP32 [rows, columns], read when first asked for."""
        return self._test[0][:]

    @cached_property
    def test_y(self) -> Array:
        return self._test[1][:]

    def order(self, seed: int, epoch: int) -> Numbers:
        """Places of all rows to learn from, shuffled so that few row groups are in use at a time."""
        rng = np.random.default_rng((seed, epoch))
        names = np.unique(self._groups)
        turn = np.zeros(names.max(initial=0) + 1, dtype=np.int64)
        turn[rng.permutation(names)] = np.arange(len(names)) // _GROUPS_AT_ONCE
        return np.lexsort((rng.random(len(self._groups)), turn[self._groups]))


def open_rows(url: str, *, test_share: float, seed: int) -> StreamedRows:
    """The rows below `url`, divided. Raises InvalidInput where there are none, or none on one side."""
    prepared = read_prepared(url)
    if prepared.kind != "rows":
        raise InvalidInput(f"{shown(url)} holds texts; a model that learns from rows needs a data set of rows")
    columns = _Columns(url, prepared)
    numbers = np.arange(prepared.rows, dtype=np.int64)
    out = _is_held_out(numbers, test_share, seed)
    train, test = numbers[~out], numbers[out]
    if not len(train) or not len(test):
        raise InvalidInput(
            f"data.test_share={test_share} of the {prepared.rows} rows of {shown(url)} leaves nothing to "
            f"{'learn from' if len(test) else 'hold out'}; choose another share or seed"
        )
    card = prepared.card(url, f"{len(test)} rows held out", test_share, seed)
    return StreamedRows(
        LazyRows(columns, train, "x"),
        LazyRows(columns, train, "y"),
        (LazyRows(columns, test, "x"), LazyRows(columns, test, "y")),
        columns.groups_of(train),
        card,
    )


def _is_held_out(numbers: Numbers, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """By the splitmix64 finaliser (Steele et al., OOPSLA 2014, doi 10.1145/2660193.2660195) of seed and number."""
    start = np.uint64(seed * 0xD1342543DE82EF95 % 2**64)
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))) < np.uint64(int(share * 2**64))


class _Columns:
    """`x` and `y` by number of the row."""

    def __init__(self, url: str, prepared: PreparedData) -> None:
        self._row_groups = RowGroups(url, prepared, kept=2 * _GROUPS_AT_ONCE)

    def groups_of(self, numbers: Numbers) -> Numbers:
        """Row group of each row."""
        return np.searchsorted(self._row_groups.starts, numbers, side="right") - 1

    def take(self, numbers: Numbers, column: str) -> Array:
        """Values of a column, in the order of `numbers`."""
        groups = self.groups_of(numbers)
        order = np.argsort(groups, kind="stable")
        names, firsts = np.unique(groups[order], return_index=True)
        parts = [
            _array(self._row_groups.table(int(name))[column])[numbers[places] - self._row_groups.starts[name]]
            for name, places in zip(names, np.split(order, firsts[1:]), strict=True)
        ]
        taken = np.concatenate(parts) if parts else _array(self._row_groups.table(0)[column])[:0]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return taken[back]


def _array(column: pa.ChunkedArray) -> Array:
    """A column as an array; lists of one length as [rows, length]."""
    whole = column.combine_chunks()
    if pa.types.is_fixed_size_list(whole.type):
        return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size)
    return whole.to_numpy(zero_copy_only=False)
