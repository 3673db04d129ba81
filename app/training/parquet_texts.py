"""Learning from a prepared data set of texts: names first, each text when it is asked for.

Knows nothing of tokens, torch or Ray. A text is held out by its name and the seed, as those that ship with the product
are (texts.py), so that the same texts are held out whether or not they went through Parquet.
"""

from collections.abc import Sequence
from itertools import compress
from typing import overload

import numpy as np

from app.errors import InvalidInput
from app.training.parquet_files import RowGroups, read_prepared, shown
from app.training.texts import Texts, is_held_out

_KEPT_GROUPS = 2  # texts are read in their order


class LazyTexts(Sequence[str]):
    """Some texts of a data set, read row group by row group as they are asked for."""

    def __init__(self, groups: RowGroups, numbers: Sequence[int]) -> None:
        self._groups, self._numbers = groups, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "LazyTexts": ...
    def __getitem__(self, place: int | slice) -> "str | LazyTexts":
        if isinstance(place, slice):
            return LazyTexts(self._groups, self._numbers[place])
        number = self._numbers[place]
        group = int(np.searchsorted(self._groups.starts, number, side="right")) - 1
        return str(self._groups.table(group)["text"][number - int(self._groups.starts[group])].as_py())


def open_texts(url: str, *, test_share: float, seed: int) -> Texts:
    """The texts below `url`, divided. Raises InvalidInput where there are none, or none on one side."""
    prepared = read_prepared(url)
    if prepared.kind != "texts":
        raise InvalidInput(f"{shown(url)} holds rows of numbers; a language model needs a data set of texts")
    groups = RowGroups(url, prepared, kept=_KEPT_GROUPS)
    names = [name for group in range(len(groups.sizes)) for name in groups.columns(group, ["name"])["name"].to_pylist()]
    out = [is_held_out(name, test_share, seed) for name in names]
    if not any(out) or all(out):
        raise InvalidInput(
            f"data.test_share={test_share} of the {len(names)} texts of {shown(url)} leaves nothing to "
            f"{'learn from' if any(out) else 'hold out'}; choose another share or seed"
        )
    numbers = range(len(names))
    held_out = tuple(LazyTexts(groups, list(compress(numbers, out))))
    held_bytes = sum(len(text.encode()) for text in held_out)
    card = prepared.card(url, f"{len(held_out)} texts of {held_bytes} bytes held out", test_share, seed)
    return Texts(LazyTexts(groups, [number for number in numbers if not out[number]]), held_out, card)
